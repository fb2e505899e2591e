//! Which destinations may a spec name, and what becomes of a profile that is sent to one?

use fleetprof_crds::Reason;

use crate::text::advised;

/// What became of a profile that is sent to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The destination holds it.
    Stored,
    /// It waits, or is being sent; the text says what holds it up, if anything does.
    Underway(Option<String>),
    /// It is not sent any more, and why.
    Failed(Reason, String),
}

/// Result of withdrawing a profile that is not to be sent any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// Too late: this became of it.
    Settled(Delivery),
    /// It is being sent at this moment, for the last time: ask again.
    Sending,
    /// It will not be sent any more; the text says what held it up, if anything did.
    Withdrawn(Option<String>),
}

/// What is wrong with the destinations that a spec names: that one of them is not configured. `None` where all
/// are.
#[must_use]
pub fn unknown(named: &[String], configured: &[String]) -> Option<String> {
    let name = named.iter().find(|name| !configured.contains(name))?;
    let cause = format!(
        "spec.destinations: {name:?} is not configured; configured destinations: {}",
        configured.join(", ")
    );
    Some(advised(cause, Reason::DestinationUnknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_destinations_may_be_named() {
        let configured = ["archive".to_owned(), "default".to_owned()];
        let of =
            |names: &[&str]| unknown(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), &configured);
        assert_eq!(of(&["default"]), None);
        assert_eq!(of(&["archive", "default"]), None);
        let refused = of(&["default", "s3"]).unwrap();
        assert!(
            refused.starts_with(
                "spec.destinations: \"s3\" is not configured; configured destinations: archive, default; use"
            ),
            "{refused}"
        );
    }
}
