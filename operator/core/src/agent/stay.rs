//! How long does an attached agent stay in its pod?
//!
//! Kubernetes never removes an ephemeral container from a pod, so an agent that leaves costs the pod one of the
//! [`names::MAX_ATTACHED`] that it may have. One that stays without work costs its pod some MiB of memory and a
//! heartbeat each half a minute, and the leader two connections and a place among the agents. So it stays while a
//! policy profiles its pod, unless the leader runs out of places; then those go that have had nothing to do for
//! [`IDLE`], and are attached again when it is their turn.
//!
//! [`names::MAX_ATTACHED`]: fleetprof_crds::names::MAX_ATTACHED

use jiff::SignedDuration;

/// How long an agent stays without work where no policy needs it: a person who profiles a pod often does so
/// again.
pub const IDLE: SignedDuration = SignedDuration::from_hours(2);
/// How long a leader has to listen before it knows which pods are profiled: policies tell it one after another.
pub const INFORMED: SignedDuration = SignedDuration::from_mins(15);
/// From how many of ten places on agents without work make room.
const CROWDED: (usize, usize) = (3, 4);

/// What is known of an attached agent that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// A policy profiles its pod by schedule or trigger.
    pub kept: bool,
    /// Its pod has an open order, or it reports a capture that is not settled.
    pub working: bool,
    /// For how long this leader has listened; `None` before it knows which captures are open.
    pub led_for: Option<SignedDuration>,
    /// Agents that report, of all pods.
    pub agents: usize,
    /// For how many the leader has a place.
    pub places: usize,
}

/// How long the agent stays without work; `None` as long as it is answered.
#[must_use]
pub fn stay(resident: &Resident) -> Option<SignedDuration> {
    let informed = resident.led_for.is_some_and(|led| led.abs() >= INFORMED);
    let needed = resident.kept && !is_crowded(resident.agents, resident.places);
    (informed && !resident.working && !needed).then_some(IDLE)
}

fn is_crowded(agents: usize, places: usize) -> bool {
    let (part, whole) = CROWDED;
    agents.saturating_mul(whole) > places.saturating_mul(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET: Resident =
        Resident { kept: false, working: false, led_for: Some(INFORMED), agents: 1, places: 100 };

    #[test]
    fn an_agent_stays_while_it_works_or_a_policy_profiles_its_pod() {
        let cases = [
            (QUIET, Some(IDLE)),
            (Resident { kept: true, ..QUIET }, None),
            (Resident { working: true, ..QUIET }, None),
            (Resident { kept: true, agents: 75, ..QUIET }, None),
            (Resident { kept: true, agents: 76, ..QUIET }, Some(IDLE)),
            (Resident { kept: true, working: true, agents: 100, ..QUIET }, None),
        ];
        for (resident, wanted) in cases {
            assert_eq!(stay(&resident), wanted, "{resident:?}");
        }
    }

    #[test]
    fn a_leader_that_does_not_know_the_policies_yet_sends_nobody_away() {
        let soon = INFORMED.saturating_sub(SignedDuration::from_secs(1));
        for led_for in [None, Some(SignedDuration::ZERO), Some(soon)] {
            assert_eq!(stay(&Resident { led_for, agents: 100, ..QUIET }), None, "{led_for:?}");
        }
    }

    proptest! {
        /// Whatever else holds, one that works is never told to go, and nobody is told to go before it has been
        /// idle for [`IDLE`].
        #[test]
        fn nobody_is_sent_away_from_work_or_at_once(
            kept: bool, working: bool, led in proptest::option::of(-1_000_000i64..1_000_000),
            agents in 0usize..200_000, places in 0usize..200_000,
        ) {
            let led_for = led.map(SignedDuration::from_secs);
            let told = stay(&Resident { kept, working, led_for, agents, places });
            prop_assert!(told.is_none_or(|idle| idle >= IDLE && !working && led_for.is_some()));
        }

        /// More agents or fewer places never let an agent stay for longer, and a policy never for shorter.
        #[test]
        fn the_rule_is_monotonous(kept: bool, agents in 0usize..10_000, more in 0usize..10_000, places in 0usize..10_000) {
            let of = |kept, agents| stay(&Resident { kept, agents, places, ..QUIET });
            prop_assert!(of(kept, agents).is_none() || of(kept, agents + more).is_some());
            prop_assert!(of(true, agents).is_none() || of(false, agents).is_some());
        }
    }
}
