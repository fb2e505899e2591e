//! How much longer does an attached agent stay that has nothing to do, and when is what it has to do in vain? No
//! clock, no I/O.

use std::time::Duration;

use fleetprof_crds::wire::Stay;

/// An agent without work that nobody has answered for so long leaves: the operator is gone, and its credential has
/// ended.
pub const UNANSWERED: Duration = Duration::from_hours(24);
/// A capture that nobody has settled for this long is forgotten. Results are waited for
/// [`fleetprof_crds::names::MAX_RESULT_DEADLINE_HOURS`] at most, from the end of the session's last capture on;
/// another one may have ended an hour and more before.
pub const ABANDONED: Duration = Duration::from_hours(172);

/// An attached agent without work.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Since its last work, or its start.
    pub work: Duration,
    /// Since the gateway answered last, or its start.
    pub answer: Duration,
    /// What the gateway said last; `None` where it never said how long to stay, as those of earlier versions.
    pub told: Option<Stay>,
    /// How long it stays then.
    pub idle_exit: Duration,
}

/// How much longer it stays, if nobody says otherwise; zero: it leaves now.
#[must_use]
pub fn left(idle: &Idle) -> Duration {
    let limit = match idle.told {
        Some(Stay { idle_ms }) => idle_ms.map(Duration::from_millis),
        None => Some(idle.idle_exit),
    };
    let of_work = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(idle.work));
    // An order or an upload is an answer as well.
    let of_answer = UNANSWERED.saturating_sub(idle.answer.min(idle.work));
    of_work.min(of_answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn idle(work: u64, answer: u64, told: Option<Option<u64>>) -> Duration {
        let seconds = Duration::from_secs;
        let told = told.map(|hours| Stay { idle_ms: hours.map(|hours| hours * HOUR * 1000) });
        let idle = Idle { work: seconds(work), answer: seconds(answer), told, idle_exit: seconds(2 * HOUR) };
        left(&idle)
    }

    #[test]
    fn it_stays_as_the_gateway_says_and_as_long_as_it_answers() {
        let (day, month) = (24 * HOUR, 30 * 24 * HOUR);
        // (since its work, since an answer, what it was told in hours, whether it leaves)
        let cases = [
            ("an earlier gateway says nothing", HOUR, 1, None, false),
            ("an earlier gateway says nothing", 2 * HOUR, 1, None, true),
            ("a policy profiles the pod", month, 30, Some(None), false),
            ("nobody answers any more", month, day, Some(None), true),
            ("nobody answers for a while", month, day - 1, Some(None), false),
            ("nobody answers, but it has just worked", HOUR, day, Some(None), false),
            ("no policy profiles the pod", 2 * HOUR, 1, Some(Some(2)), true),
            ("no policy profiles the pod", HOUR, 1, Some(Some(2)), false),
        ];
        for (sentence, work, answer, told, leaves) in cases {
            assert_eq!(idle(work, answer, told).is_zero(), leaves, "{sentence}: {work} {answer} {told:?}");
        }
    }

    /// Seconds around every limit, in all combinations with what the agent may be told.
    fn all() -> impl Iterator<Item = (u64, u64, Option<Option<u64>>)> {
        let seconds = [0, 1, HOUR, 2 * HOUR - 1, 2 * HOUR, 24 * HOUR - 1, 24 * HOUR, 9_000 * HOUR];
        let told = [None, Some(None), Some(Some(0)), Some(Some(2)), Some(Some(48))];
        seconds.into_iter().flat_map(move |work| {
            seconds.into_iter().flat_map(move |answer| told.into_iter().map(move |told| (work, answer, told)))
        })
    }

    #[test]
    fn age_alone_ends_nobody_and_nobody_stays_where_no_one_answers() {
        for (work, answer, told) in all() {
            let left = idle(work, answer, told);
            if told == Some(None) && answer < 24 * HOUR {
                assert!(!left.is_zero(), "{work} {answer}");
            }
            if work >= 24 * HOUR && answer >= 24 * HOUR {
                assert!(left.is_zero(), "{work} {answer} {told:?}");
            }
        }
    }

    #[test]
    fn results_are_kept_for_as_long_as_anybody_waits_for_them() {
        let waited = u64::try_from(fleetprof_crds::names::MAX_RESULT_DEADLINE_HOURS).unwrap();
        // The hours are those in which other targets of the session wait for a slot and are captured.
        assert!(ABANDONED >= Duration::from_hours(waited + 3));
    }

    #[test]
    fn it_leaves_exactly_when_what_was_left_has_passed() {
        for (work, answer, told) in all() {
            let left = idle(work, answer, told).as_secs();
            assert!(idle(work + left, answer + left, told).is_zero(), "{work} {answer} {told:?}");
            let before = left.saturating_sub(1);
            assert!(left == 0 || !idle(work + before, answer + before, told).is_zero());
        }
    }
}
