//! May an order be run, and how much of it? No I/O, no clock.

use fleetprof_crds::wire::{CaptureState, Order, PROTOCOL, Problem};
use fleetprof_crds::{ProfileKind, Reason};

use super::captures::problem;

/// Counts the deadline of an order that arrives at `now` by the own clock; the gateway's may differ. A
/// gateway of an earlier version tells a time of its clock alone.
pub fn arrived(order: &mut Order, now: i64) {
    if let Some(left_ms) = order.start_within_ms.take() {
        order.start_before = now.saturating_add(i64::try_from(left_ms / 1000).unwrap_or(i64::MAX));
    }
}

/// The id in an order, without a `containerd://` that a status puts before it.
#[must_use]
pub fn container_id(order: &Order) -> &str {
    order.container_id.split_once("://").map_or(order.container_id.as_str(), |(_, id)| id)
}

/// Whether an order can be answered at all: its capture is the key of every answer.
pub(super) fn is_legal(order: &Order) -> bool {
    !order.capture.is_empty() && order.capture.len() <= 256 && order.container_id.len() <= 256
}

/// The kinds that can be captured, and why the others are not. Nothing is captured in place of another.
pub(super) fn split(ordered: &[ProfileKind], can: &[ProfileKind]) -> (Vec<ProfileKind>, Option<Problem>) {
    let (kinds, rest): (Vec<ProfileKind>, Vec<_>) = ordered.iter().partition(|kind| can.contains(kind));
    let list = |kinds: &[ProfileKind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    let message = match rest.iter().any(|kind| !kind.is_known()) {
        true => format!(
            "the order asks for a kind of profile that this agent does not know; it captures {}",
            list(can)
        ),
        false => format!("the order asks for {}; this agent captures {}", list(&rest), list(can)),
    };
    let skipped = !rest.is_empty() || kinds.is_empty();
    (kinds, skipped.then(|| problem(Reason::AgentTooOld, message)))
}

/// Why an order that was never seen is not run.
pub(super) fn refusal(order: &Order, now: i64, busy: bool) -> Option<(CaptureState, Problem)> {
    let skipped = |reason, message: String| Some((CaptureState::Skipped, problem(reason, message)));
    if order.cancel {
        return Some((CaptureState::Cancelled, problem(Reason::Cancelled, "cancelled before it started")));
    }
    if order.protocol > PROTOCOL {
        let (need, have, version) = (order.protocol, PROTOCOL, env!("CARGO_PKG_VERSION"));
        let message = format!(
            "the capture requires protocol {need}, but agent {version} supports {have}: restart the pod to \
             get the current agent"
        );
        return skipped(Reason::AgentTooOld, message);
    }
    if now > order.start_before {
        let late = now.saturating_sub(order.start_before);
        if busy {
            let message = "another session is capturing this container; retry when it has ended, or raise \
                           spec.startDeadline";
            return skipped(Reason::StartDeadlineExceeded, message.to_owned());
        }
        return skipped(
            Reason::StartDeadlineExceeded,
            format!("the order did not start in time; the deadline passed {late} s ago"),
        );
    }
    None
}
