//! What does a thread do, as its samples' labels tell? Few values, since a destination may keep a series for
//! each.

use fleetprof_profile::{Label, Wait};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadState {
    /// It runs on a CPU.
    Running,
    /// It could run, and waits for a CPU or for CPU quota.
    Runnable,
    /// It waits for something else.
    Blocked(Wait),
}

impl ThreadState {
    /// The labels of its samples: `thread_state`, and `waits_for` where it waits.
    #[must_use]
    pub fn labels(self) -> Vec<Label<'static>> {
        let state = |name| Label::text("thread_state", name);
        match self {
            Self::Running => vec![state("running")],
            Self::Runnable => vec![state("runnable")],
            Self::Blocked(wait) => vec![state("blocked"), Label::text("waits_for", wait.name())],
        }
    }
}

/// How the time of a thread that has something to do splits into running and waiting for a CPU, by what the
/// scheduler counted of both meanwhile, all in nanoseconds. A thread that it counted nothing of runs where it
/// was given a CPU meanwhile, else it waits for one.
#[must_use]
pub fn split(nanos: u64, ran: u64, delayed: u64, was_scheduled: bool) -> (u64, u64) {
    let running = match ran.saturating_add(delayed) {
        0 if was_scheduled => nanos,
        0 => 0,
        both => u64::try_from(u128::from(nanos) * u128::from(ran) / u128::from(both)).unwrap_or(nanos),
    };
    (running.min(nanos), nanos - running.min(nanos))
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::LabelValue;

    use super::*;

    #[test]
    fn labels_say_what_it_does_and_what_it_waits_for() {
        let labels = |state: ThreadState| -> Vec<String> {
            let text = |label: &Label<'_>| match label.value {
                LabelValue::Text(text) => format!("{}={text}", label.key),
                LabelValue::Number(..) => panic!("a number"),
            };
            state.labels().iter().map(text).collect()
        };
        assert_eq!(labels(ThreadState::Running), ["thread_state=running"]);
        assert_eq!(labels(ThreadState::Runnable), ["thread_state=runnable"]);
        let blocked = ThreadState::Blocked(Wait::Socket);
        assert_eq!(labels(blocked), ["thread_state=blocked", "waits_for=socket"]);
    }

    #[test]
    fn time_is_split_by_what_the_scheduler_counted() {
        let cases = [
            ((50, 40, 10, true), (40, 10)),
            ((50, 400, 100, true), (40, 10)),
            ((50, 0, 30, true), (0, 50)),
            ((50, 30, 0, false), (50, 0)),
            ((50, 0, 0, true), (50, 0)),
            ((50, 0, 0, false), (0, 50)),
            ((0, 7, 7, true), (0, 0)),
            ((u64::MAX, u64::MAX, u64::MAX, true), (u64::MAX, 0)),
        ];
        for ((nanos, ran, delayed, was_scheduled), wanted) in cases {
            assert_eq!(split(nanos, ran, delayed, was_scheduled), wanted, "{nanos} {ran} {delayed}");
        }
    }
}
