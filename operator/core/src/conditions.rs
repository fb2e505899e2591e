//! How are conditions updated? The transition time only changes with the status, and each condition has a
//! generation.

use fleetprof_crds::Reason;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::text::advised;
use crate::time::after;

/// The desired content of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `True`, `False` or `Unknown`.
    pub status: Truth,
    /// The reason.
    pub reason: Reason,
    /// Human-readable message.
    pub message: String,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is unknown.
    Unknown,
}

impl Truth {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Wanted {
    /// A condition with these values.
    #[must_use]
    pub fn new(status: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// Sets the condition `type_` of `conditions`.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    wanted: Wanted,
    generation: Option<i64>,
    now: Timestamp,
) {
    let new = Condition {
        type_: type_.to_owned(),
        status: wanted.status.as_str().to_owned(),
        reason: wanted.reason.as_str().to_owned(),
        message: wanted.message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = Condition { last_transition_time: since, ..new };
        }
        None => conditions.push(new),
    }
}

/// The condition of a session that says whether the revision which it compares is slower.
pub const REGRESSED: &str = "Regressed";

/// The condition of a session that says whether a function grows from session to session.
pub const GROWING: &str = "Growing";

/// The condition of an object whose status held times in the future.
pub const CLOCK: &str = "ClockWentBack";

/// So far the clocks of two leaders may be apart without a word.
const APART: SignedDuration = SignedDuration::from_secs(5);

/// What that condition says of a status with times up to `latest`; `None` where that is hardly in the future.
#[must_use]
pub fn clock_went_back(latest: Timestamp, now: Timestamp) -> Option<Wanted> {
    if latest <= after(now, APART) {
        return None;
    }
    let cause = format!(
        "The status held times up to {latest}, which is in the future; they count as {now} from now on, because a \
         clock was set back or is ahead of another"
    );
    Some(Wanted::new(Truth::True, Reason::ClockWentBack, advised(cause, Reason::ClockWentBack)))
}

/// Whether the condition `type_` is `False`.
#[must_use]
pub fn is_false(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "False")
}

/// Whether the condition `type_` is `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_with_the_status_alone() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut all = Vec::new();
        set(&mut all, "Ready", Wanted::new(Truth::True, Reason::Active, "a"), Some(1), at(1));
        set(&mut all, "Ready", Wanted::new(Truth::True, Reason::Valid, "b"), Some(2), at(2));
        assert_eq!(
            (all[0].last_transition_time.0, all[0].message.as_str(), all[0].observed_generation),
            (at(1), "b", Some(2))
        );
        set(&mut all, "Ready", Wanted::new(Truth::False, Reason::Conflict, "c"), Some(2), at(3));
        assert_eq!((all.len(), all[0].last_transition_time.0), (1, at(3)));
    }
}
