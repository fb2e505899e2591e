//! How much memory may a capture take, so that the app never lacks it? That of the agent's own container, or where
//! that has no limit, half of what the target leaves of its own. On a node, where many captures run at once, each
//! takes half of what is left.

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{AgentMode, Problem};

use super::captures::problem;
use super::usage::Reading;

const MIB: u64 = 1 << 20;
/// Memory of a worker's own: ten times of what captures of large programs took.
const MOST: u64 = 512 * MIB;
/// A worker that may have less than this is not started.
const LEAST: u64 = 16 * MIB;
/// What the supervisor needs: it uses 8 MB while it waits, of which 1 MB is its own, and holds a slice of 4 MiB while
/// it uploads.
const SUPERVISOR: u64 = 32 * MIB;

/// Bytes that a worker may allocate. `own` is the agent's container, `target` the one that is captured; what cannot
/// be read bounds nothing.
///
/// # Errors
/// `NotEnoughMemory` where that is too little for a capture.
pub fn of_worker(mode: AgentMode, own: Option<Reading>, target: Option<Reading>) -> Result<u64, Problem> {
    let limit = own.and_then(|own| own.memory_limit);
    let used = own.map_or(0, |own| own.memory_bytes).max(SUPERVISOR);
    let (bound, whose) = match (limit, target) {
        // Others of its captures may run, and more may follow.
        (Some(limit), _) if mode == AgentMode::Node => {
            (limit.saturating_sub(used) / 2, "the node agent's container (nodeAgent.resources)")
        }
        (Some(limit), _) => (limit.saturating_sub(SUPERVISOR), "the agent's container (agent.resources)"),
        (None, Some(target)) if mode == AgentMode::Ephemeral => {
            let left = target.memory_limit.map(|limit| limit.saturating_sub(target.memory_bytes));
            (left.map_or(MOST, |left| left / 2), "the container")
        }
        _ => (MOST, ""),
    };
    if bound >= LEAST {
        return Ok(bound.min(MOST));
    }
    let message = format!(
        "the memory limit of {whose} leaves {} MiB for a capture, which needs at least {} MiB",
        bound / MIB,
        LEAST / MIB
    );
    Err(problem(Reason::NotEnoughMemory, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_takes_what_its_container_or_the_target_can_spare() {
        let reading = |used: u64, limit: Option<u64>| {
            let memory_limit = limit.map(|limit| limit * MIB);
            Some(Reading {
                cpu_nanos: 0,
                cpu_limit_millis: None,
                periods: None,
                memory_bytes: used * MIB,
                memory_limit,
            })
        };
        let (sidecar, attached) = (AgentMode::Sidecar, AgentMode::Ephemeral);
        let node = AgentMode::Node;
        for (sentence, mode, own, target, wanted) in [
            ("the default limit", sidecar, reading(9, Some(256)), reading(50, Some(64)), Ok(224)),
            ("a large limit", sidecar, reading(9, Some(4096)), None, Ok(512)),
            ("a small limit", sidecar, reading(9, Some(64)), None, Ok(32)),
            ("the smallest limit", sidecar, reading(9, Some(32)), None, Err("agent.resources")),
            ("no limit", sidecar, reading(9, None), reading(50, Some(64)), Ok(512)),
            ("nothing is known", attached, None, None, Ok(512)),
            ("a target without a limit", attached, reading(9, None), reading(50, None), Ok(512)),
            ("half of what is left", attached, reading(9, None), reading(50, Some(128)), Ok(39)),
            ("a target that is full", attached, reading(9, None), reading(110, Some(128)), Err("9 MiB")),
            ("a node's agent without captures", node, reading(12, Some(512)), None, Ok(240)),
            ("the same while others run", node, reading(400, Some(512)), None, Ok(56)),
            ("the same when it is full", node, reading(490, Some(512)), None, Err("nodeAgent.resources")),
            ("more than it may", attached, None, reading(130, Some(128)), Err("0 MiB")),
        ] {
            match (of_worker(mode, own, target), wanted) {
                (Ok(bytes), Ok(mib)) => assert_eq!(bytes / MIB, mib, "{sentence}"),
                (Err(problem), Err(said)) => {
                    assert_eq!(problem.reason, Reason::NotEnoughMemory, "{sentence}");
                    assert!(problem.message.contains(said), "{sentence}: {}", problem.message);
                }
                (answer, _) => panic!("{sentence}: {answer:?}"),
            }
        }
    }
}
