//! Has a pod's list of orders changed since the agent saw it?

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use fleetprof_crds::wire::Order;

/// Largest version: exact in every JSON reader.
const MASK: u64 = (1 << 53) - 1;

/// The version of a list is a hash of what is in it: nothing needs to be remembered for it, and a new leader
/// that opens the same orders gives it the same version. An empty list has version 0.
pub(super) fn of(orders: &BTreeMap<String, Order>) -> u64 {
    if orders.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    orders.values().for_each(|order| hash(order, &mut hasher));
    (hasher.finish() & MASK).max(1)
}

fn hash(order: &Order, hasher: &mut DefaultHasher) {
    // Without `..`: a new field cannot be forgotten.
    let Order {
        capture,
        session,
        protocol,
        container_id,
        profiles,
        frequency_hz,
        duration_ms,
        slice_ms,
        start_before,
        // What is left of the time changes all the time; the order stays the same.
        start_within_ms: _,
        cancel,
    } = order;
    (capture, session, protocol, container_id, profiles).hash(hasher);
    (frequency_hz, duration_ms, slice_ms, start_before, cancel).hash(hasher);
}
