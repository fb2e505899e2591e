//! Which containers does the agent see, how busy are they, and by which process does it know each?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{AgentMode, ContainerReport, MAX_OFFERS, Offer, Problem};

use super::captures::problem;
use super::choose::{self, Container, Earlier};
use super::inspect::{Inspection, Seen, inspect};
use super::memory;
use super::usage::{self, Node, Reading};
use crate::capture::collector;
use crate::capture::protocol::bounded;
use crate::capture::runtime::Runtime;
use crate::capture::sight::Sight;
use crate::proc::{self, ProcTree, Process, read_bounded};

/// Where the agent's container has its own cgroup mounted.
const OWN_CGROUP: &str = "/sys/fs/cgroup";
/// Shorter times between two readings give no meaningful percentage.
const SHORTEST: Duration = Duration::from_secs(2);
/// A process is looked at again after this: a shell may have become another program.
const SIGHT_AGE: Duration = Duration::from_secs(300);
/// The same where something of it cannot be captured: what is in the way may be gone soon.
const PROBLEM_AGE: Duration = Duration::from_secs(60);
/// Most bytes of what is said of a kind that cannot be captured.
const MAX_PROBLEM: usize = 256;
/// Most processes of a container, of different names, that are looked at for what can be captured.
const MAX_LOOKS: usize = 8;

/// What is remembered of a container between two heartbeats.
struct Memory {
    reading: Reading,
    at: Instant,
    cpu_percent: Option<i32>,
}

/// Watches the containers of the pod, or of the node.
pub struct Observer {
    tree: ProcTree,
    most: usize,
    node: Node,
    memories: HashMap<String, Memory>,
    sights: HashMap<(i32, u64, String), (Seen, Instant)>,
    earlier: Earlier,
}

/// The process that a container is captured by: its busiest one; the others are captured with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its pid, as the agent sees it.
    pub pid: i32,
    /// Its start time, which tells a reused pid.
    pub start_ticks: u64,
    /// Its command.
    pub command: String,
    /// How many processes the container has.
    pub processes: usize,
}

impl Observer {
    /// An observer of the processes in `tree`, and of `most` containers.
    #[must_use]
    pub fn new(tree: ProcTree, most: usize) -> Self {
        let text = |path: &std::path::Path| {
            String::from_utf8_lossy(&read_bounded(path, 8192).unwrap_or_default()).into_owned()
        };
        let node =
            usage::node(&text("/sys/devices/system/cpu/online".as_ref()), &text(&tree.global("meminfo")));
        Self { tree, most, node, memories: HashMap::new(), sights: HashMap::new(), earlier: Earlier::new() }
    }

    /// What a container without limits is measured against.
    #[must_use]
    pub const fn node(&self) -> Node {
        self.node
    }

    /// The containers, their runtimes and their use of CPU and memory since the last call.
    pub async fn observe(&mut self) -> Vec<ContainerReport> {
        let processes = self.processes();
        let containers = choose::containers(&processes, own_pid(), self.most);
        self.memories.retain(|id, _| containers.iter().any(|c| c.id == *id));
        let mut reports = Vec::with_capacity(containers.len());
        for container in &containers {
            if let Some(main) = choose::main_process(container, &choose::Earlier::new()) {
                let report = self.report(container, main).await;
                reports.push(report);
            }
        }
        self.earlier = choose::cpu_times(&processes);
        reports
    }

    async fn report(&mut self, container: &Container, main: &Process) -> ContainerReport {
        let inspection = self.look(main).await;
        let seen = inspection.seen.unwrap_or_else(|| Seen::from(&Sight::new(main.pid, Runtime::Unknown)));
        let mut offers = self.possible(main, seen.offers);
        for other in choose::others(container, main, MAX_LOOKS - 1) {
            let seen = self.look(other).await.seen.unwrap_or_default();
            offers.extend(self.possible(other, seen.offers));
        }
        let cpu_percent = inspection.usage.and_then(|now| self.cpu_percent(&container.id, now));
        ContainerReport {
            id: container.id.clone(),
            runtime: bounded(seen.runtime, 64),
            cpu_percent,
            memory_percent: inspection.usage.and_then(|u| u.memory_percent(self.node)),
            cpu_of_node: inspection.usage.is_some_and(|u| u.cpu_limit_millis.is_none()),
            memory_of_node: inspection.usage.is_some_and(|u| u.memory_limit.is_none()),
            problem: self.obstacle(main),
            offers: collector::best(offers),
        }
    }

    /// Inspects a process; what it runs is remembered.
    async fn look(&mut self, process: &Process) -> Inspection {
        let is_fresh = |(seen, at): &(Seen, Instant)| {
            let whole = seen.offers.iter().all(|offer| offer.problem.is_none());
            at.elapsed() < if whole { SIGHT_AGE } else { PROBLEM_AGE }
        };
        self.sights.retain(|_, sight| is_fresh(sight));
        let key = (process.pid, process.start_ticks, process.command.clone());
        let known = self.sights.get(&key).map(|(seen, _)| seen.clone());
        let mut inspection = inspect(&self.tree, process.pid, known.is_none()).await;
        if let Some(seen) = &inspection.seen {
            self.sights.insert(key, (seen.clone(), Instant::now()));
        }
        inspection.seen = known.or(inspection.seen);
        inspection
    }

    /// Offers of a process, none of which can be kept where the process may not be looked at.
    fn possible(&self, process: &Process, mut offers: Vec<Offer>) -> Vec<Offer> {
        offers.truncate(MAX_OFFERS);
        if let Some(obstacle) = self.obstacle(process) {
            offers.iter_mut().for_each(|offer| offer.problem = Some(obstacle.clone()));
        }
        let problems = offers.iter_mut().filter_map(|offer| offer.problem.as_mut());
        problems
            .for_each(|problem| problem.message = bounded(std::mem::take(&mut problem.message), MAX_PROBLEM));
        offers
    }

    /// Bytes that a worker may allocate that captures the process `pid`.
    pub async fn worker_memory(&self, mode: AgentMode, pid: i32) -> Result<u64, Problem> {
        let target = inspect(&self.tree, pid, false).await.usage;
        memory::of_worker(mode, usage::read(OWN_CGROUP.as_ref()).ok(), target)
    }

    fn cpu_percent(&mut self, id: &str, reading: Reading) -> Option<i32> {
        let at = Instant::now();
        let before = self.memories.get(id);
        if let Some(memory) = before.filter(|m| at.duration_since(m.at) < SHORTEST) {
            return memory.cpu_percent;
        }
        let cpu_percent =
            before.and_then(|m| reading.cpu_percent(&m.reading, nanos(at.duration_since(m.at)), self.node));
        self.memories.insert(id.to_owned(), Memory { reading, at, cpu_percent });
        cpu_percent
    }

    /// Why a process cannot be captured, where that is plain: another user's, and we are not root; or one
    /// that gave up its rights, and we may not trace every process.
    fn obstacle(&self, main: &Process) -> Option<Problem> {
        let own = nix::unistd::geteuid();
        let uid = self.tree.owner(main.pid)?.uid;
        let message = || {
            format!(
                "the agent runs as user {own}, but the container's main process runs as user {uid}: set \
                 securityContext.runAsUser"
            )
        };
        if !own.is_root() && own.as_raw() != uid {
            return Some(problem(Reason::PermissionDenied, message()));
        }
        (self.tree.is_dumpable(main.pid) == Some(false) && !proc::may_trace_all())
            .then(|| problem(Reason::NotDumpable, Reason::NotDumpable.advice()))
    }

    /// The busiest process of a container. Errors when the container is not there.
    pub fn target(&self, container: &str) -> Result<Target, Problem> {
        let processes = self.processes();
        let containers = choose::containers(&processes, own_pid(), self.most);
        let found = containers.iter().find(|c| c.id == container);
        let chosen = found.and_then(|c| Some((choose::main_process(c, &self.earlier)?, c.processes.len())));
        let target = |(p, processes): (&Process, usize)| Target {
            pid: p.pid,
            start_ticks: p.start_ticks,
            command: p.command.clone(),
            processes,
        };
        chosen.map(target).ok_or_else(|| missing(container, &containers, &processes))
    }

    fn processes(&self) -> Vec<Process> {
        self.tree
            .processes()
            .inspect_err(|error| tracing::warn!(%error, "failed to list processes"))
            .unwrap_or_default()
    }
}

/// Why a container is not there: it has ended, or the agent sees no other container at all.
fn missing(container: &str, containers: &[Container], processes: &[Process]) -> Problem {
    let short: String = container.chars().take(12).collect();
    if containers.is_empty() && !choose::sees_pause(processes) {
        let message = format!(
            "no processes of container {short} or any other container found: the pod does not share its \
             process namespace, or the container has exited"
        );
        return problem(Reason::ProcessNamespaceConflict, message);
    }
    let there: Vec<String> = containers.iter().take(8).map(|c| c.id.chars().take(12).collect()).collect();
    let message =
        format!("container {short} is no longer running in this pod; running now: [{}]", there.join(", "));
    problem(Reason::ContainerRestarted, message)
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// Whole nanoseconds.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures a target during its capture: mean CPU use and highest memory use.
pub struct Gauge {
    node: Node,
    first: Option<(Reading, Instant)>,
    last: Option<(Reading, Instant)>,
    memory_percent: Option<i32>,
}

impl Gauge {
    /// A gauge without a reading.
    #[must_use]
    pub const fn new(node: Node) -> Self {
        Self { node, first: None, last: None, memory_percent: None }
    }

    /// Takes in what was seen at `at`.
    pub fn take(&mut self, inspection: &Inspection, at: Instant) {
        if let Some(reading) = inspection.usage {
            self.first.get_or_insert((reading, at));
            self.last = Some((reading, at));
            self.memory_percent = self.memory_percent.max(reading.memory_percent(self.node));
        }
    }

    /// Mean CPU use in % of the target's limit; `None` with fewer than two readings.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<i32> {
        let ((first, start), (last, end)) = (self.first?, self.last?);
        last.cpu_percent(&first, nanos(end.duration_since(start)), self.node)
    }

    /// Highest memory use in % of the target's limit.
    #[must_use]
    pub const fn memory_percent(&self) -> Option<i32> {
        self.memory_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_tells_the_mean_and_the_peak() {
        let mut gauge = Gauge::new(Node { cpu_millis: 1000, memory_bytes: 1000 });
        let start = Instant::now();
        assert_eq!((gauge.cpu_percent(), gauge.memory_percent()), (None, None));
        for (second, cpu_seconds, memory) in [(0, 10, 100), (1, 11, 900), (4, 12, 200)] {
            let usage = Reading {
                cpu_nanos: cpu_seconds * 1_000_000_000,
                cpu_limit_millis: None,
                memory_bytes: memory,
                memory_limit: None,
            };
            gauge.take(&Inspection { usage: Some(usage), seen: None }, start + Duration::from_secs(second));
        }
        gauge.take(&Inspection::default(), start + Duration::from_secs(9));
        assert_eq!((gauge.cpu_percent(), gauge.memory_percent()), (Some(50), Some(90)));
    }

    #[test]
    fn a_missing_container_is_told_from_a_missing_namespace() {
        let pause = Process {
            pid: 1,
            parent: 0,
            command: "pause".into(),
            state: b'S',
            cpu_ticks: 0,
            start_ticks: 0,
            container: None,
        };
        assert_eq!(missing("abc", &[], &[]).reason, Reason::ProcessNamespaceConflict);
        assert_eq!(missing("abc", &[], std::slice::from_ref(&pause)).reason, Reason::ContainerRestarted);
        let other = Container { id: "0123456789abcdef".into(), processes: vec![pause] };
        assert_eq!(
            missing("abc", &[other], &[]).message,
            "container abc is no longer running in this pod; running now: [0123456789ab]"
        );
    }
}
