//! When should an agent report again?

/// Between heartbeats of an agent without open captures, in milliseconds.
pub(super) const IDLE_MS: u64 = 30_000;
/// Between heartbeats of an agent with open captures, in milliseconds.
pub(super) const ACTIVE_MS: u64 = 5_000;
/// Most heartbeats a second that the leader asks for.
pub(super) const MAX_PER_SECOND: u64 = 100;
/// The longest interval that the wire allows.
pub(super) const LONGEST_MS: u64 = 300_000;

/// Milliseconds until the next heartbeat of an agent, in a fleet of `agents` of which `active` have open
/// captures. All intervals are stretched by the same factor when the fleet is so large that together they
/// would send more than [`MAX_PER_SECOND`].
pub(super) fn next_ms(agents: usize, active: usize, has_open: bool) -> u64 {
    let base = if has_open { ACTIVE_MS } else { IDLE_MS };
    let active = (active as u64).min(agents as u64);
    let idle = agents as u64 - active;
    // Heartbeats in IDLE_MS, and how many there may be in that time.
    let wanted = idle.saturating_add(active.saturating_mul(IDLE_MS / ACTIVE_MS));
    let allowed = MAX_PER_SECOND * IDLE_MS / 1000;
    let stretched = base.saturating_mul(wanted.max(allowed)).div_ceil(allowed);
    stretched.min(LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_fleet_keeps_the_plain_intervals() {
        assert_eq!(next_ms(1, 0, false), 30_000);
        assert_eq!(next_ms(2_000, 50, true), 5_000);
        assert_eq!(next_ms(2_000, 50, false), 30_000);
    }

    #[test]
    fn a_large_fleet_is_slowed_down() {
        assert_eq!(next_ms(6_000, 0, false), 60_000);
        assert_eq!(next_ms(1_000_000, 0, false), LONGEST_MS);
    }

    proptest! {
        #[test]
        fn the_leader_never_asks_for_more_than_its_share(agents in 0usize..25_000, active in 0usize..1_000) {
            let active = active.min(agents);
            let rate = (agents - active) as f64 * 1e3 / next_ms(agents, active, false) as f64
                + active as f64 * 1e3 / next_ms(agents, active, true) as f64;
            prop_assert!(rate <= MAX_PER_SECOND as f64 + 1e-6, "{rate}");
        }

        #[test]
        fn the_interval_stays_within_what_the_wire_allows(agents: usize, active: usize, open: bool) {
            prop_assert!((1_000..=LONGEST_MS).contains(&next_ms(agents, active, open)));
        }
    }
}
