//! How much memory may a capture take, so that the app never lacks it? That of the agent's own container, or where that
//! has no limit, half of what the target leaves of its own. Captures that run at once share it: what one was promised
//! is not there for the next. On a node, where many may follow, each takes half of what is left.

use std::cell::Cell;
use std::rc::Rc;

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

/// The other captures of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Bytes that those whose workers run may allocate.
    pub promised: u64,
    /// How many are about to start, or may be.
    pub waiting: u64,
}

/// The memory of the workers that run. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Promises(Rc<Cell<(u64, usize)>>);

/// What a worker may allocate, until it has ended.
#[derive(Debug)]
pub struct Promise {
    of: Promises,
    /// Bytes.
    pub bytes: u64,
}

impl Promises {
    /// A promise of so many bytes.
    #[must_use]
    pub fn make(&self, bytes: u64) -> Promise {
        let (sum, workers) = self.0.get();
        self.0.set((sum.saturating_add(bytes), workers + 1));
        Promise { of: self.clone(), bytes }
    }

    /// What is promised, where so many `captures` have begun or may begin, one of which is the one that asks.
    #[must_use]
    pub fn others(&self, captures: usize) -> Others {
        let (promised, workers) = self.0.get();
        let waiting = captures.saturating_sub(workers).saturating_sub(1);
        Others { promised, waiting: u64::try_from(waiting).unwrap_or(u64::MAX) }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let (sum, workers) = self.of.0.get();
        self.of.0.set((sum.saturating_sub(self.bytes), workers.saturating_sub(1)));
    }
}

/// Bytes that a worker may allocate. `own` is the agent's container, `target` the one that is captured; what cannot
/// be read bounds nothing.
///
/// # Errors
/// `NotEnoughMemory` where that is too little for a capture.
pub fn of_worker(
    mode: AgentMode,
    (own, target): (Option<Reading>, Option<Reading>),
    others: Others,
) -> Result<u64, Problem> {
    let limit = own.and_then(|own| own.memory_limit);
    let taken = SUPERVISOR.saturating_add(others.promised);
    let used = own.map_or(0, |own| own.memory_bytes).max(taken);
    let (bound, whose) = match (limit, target) {
        // Others of its captures may run, and more may follow.
        (Some(limit), _) if mode == AgentMode::Node => {
            (limit.saturating_sub(used) / 2, "the node agent's container (nodeAgent.resources)")
        }
        // The first takes no more than its share, and none gets less than it needs for the sake of a later one.
        (Some(limit), _) => {
            let left = limit.saturating_sub(taken);
            let share = left / others.waiting.saturating_add(1);
            (share.max(left.min(LEAST)), "the agent's container (agent.resources)")
        }
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
            match (of_worker(mode, (own, target), Others::default()), wanted) {
                (Ok(bytes), Ok(mib)) => assert_eq!(bytes / MIB, mib, "{sentence}"),
                (Err(problem), Err(said)) => {
                    assert_eq!(problem.reason, Reason::NotEnoughMemory, "{sentence}");
                    assert!(problem.message.contains(said), "{sentence}: {}", problem.message);
                }
                (answer, _) => panic!("{sentence}: {answer:?}"),
            }
        }
    }
    /// The captures of a pod start at the same time, one for each container.
    #[test]
    fn captures_at_the_same_time_take_no_more_than_the_limit_together() {
        for mode in [AgentMode::Sidecar, AgentMode::Node] {
            for limit in [48, 64, 100, 256, 1024, 8192] {
                for captures in 1..=12 {
                    let own = Reading {
                        cpu_nanos: 0,
                        cpu_limit_millis: None,
                        periods: None,
                        memory_bytes: 9 * MIB,
                        memory_limit: Some(limit * MIB),
                    };
                    let promises = Promises::default();
                    let began = |_: &usize| {
                        let bytes = of_worker(mode, (Some(own), None), promises.others(captures)).ok()?;
                        Some(promises.make(bytes))
                    };
                    let running: Vec<Promise> = (0..captures).filter_map(|n| began(&n)).collect();
                    let sum: u64 = running.iter().map(|promise| promise.bytes).sum();
                    let left = (limit - 32) * MIB;
                    assert!(sum <= left, "{mode:?} {limit} {captures}: {sum}");
                    let fit = captures.min((left / LEAST) as usize);
                    assert!(mode == AgentMode::Node || running.len() == fit, "{limit} {captures}");
                    drop(running);
                    assert_eq!(promises.others(1), Others::default(), "what has ended is free again");
                }
            }
        }
    }
}
