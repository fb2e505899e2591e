//! Which containers does the agent see, how busy are they, and by which process does it know each?

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{ContainerReport, MAX_OFFERS, Problem, Signals};

use super::captures::problem;
use super::choose::{self, Container, Earlier};
use super::gauge::nanos;
use super::glance::{Glance, LIVELY};
use super::heartbeat::SignalsOf;
use super::inspect::{Inspection, Seen, Wanted, inspect};
use super::offers::of_container;
use super::signals::Counters;
use super::usage::{self, Node, Reading};
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
/// The same of a process that has just started.
const YOUNG_AGE: Duration = Duration::from_secs(2);
/// Most containers that are remembered to have ended.
const MAX_ENDED: usize = 256;
/// Most bytes of what is said of a kind that cannot be captured.
const MAX_PROBLEM: usize = 256;
/// Most processes of a container whose threads are counted one by one, where its cgroup does not count them.
const MAX_COUNTED: usize = 256;
/// Most programs of a container that are looked at for what can be captured.
const MAX_LOOKS: usize = 8;

/// What is remembered of a container between two heartbeats.
struct Memory {
    reading: Reading,
    at: Instant,
    cpu_percent: Option<i32>,
    counters: Option<Counters>,
    signals: Option<Signals>,
}

/// What was seen of a process, when, and for how long that holds.
struct Sighted {
    seen: Seen,
    at: Instant,
    holds: Duration,
}

impl Sighted {
    /// What was seen now of a process of this age. What a young one can give changes soon: it holds as long
    /// again as the process is old.
    fn now(seen: Seen, age: Option<Duration>) -> Self {
        let is_whole = seen.offers.iter().all(|offer| offer.problem.is_none());
        let most = if is_whole { SIGHT_AGE } else { PROBLEM_AGE };
        let holds = age.map_or(most, |age| age.clamp(YOUNG_AGE, most));
        Self { seen, at: Instant::now(), holds }
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < self.holds
    }
}

/// Watches the containers of the pod, or of the node.
pub struct Observer {
    tree: ProcTree,
    most: usize,
    node: Node,
    memories: HashMap<String, Memory>,
    sights: HashMap<(i32, u64, String), Sighted>,
    earlier: Earlier,
    glance: Glance,
    /// Containers that are there, and those that were.
    present: BTreeSet<String>,
    ended: VecDeque<String>,
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
        Self {
            tree,
            most,
            node,
            memories: HashMap::new(),
            sights: HashMap::new(),
            earlier: Earlier::new(),
            glance: Glance::default(),
            present: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    /// What a container without limits is measured against.
    #[must_use]
    pub const fn node(&self) -> Node {
        self.node
    }

    /// Whether [`Self::observe`] may find something that it did not the last time: a container runs another
    /// program, or a process that was young may give more by now.
    pub fn may_have_changed(&mut self) -> bool {
        let is_due = |sighted: &Sighted| sighted.holds < LIVELY && !sighted.is_fresh();
        self.glance.look(&self.tree) || self.sights.values().any(is_due)
    }

    /// Whether a container was there and has ended.
    #[must_use]
    pub fn has_ended(&self, container: &str) -> bool {
        self.ended.iter().any(|id| id == container)
    }

    /// The containers, their runtimes and their use of CPU and memory since the last call; of those in `signals`,
    /// their signals too.
    pub async fn observe(&mut self, signals: &SignalsOf) -> Vec<ContainerReport> {
        let processes = self.processes();
        let containers = choose::containers(&processes, own_pid(), self.most);
        self.note_ended(&containers);
        self.sights.retain(|_, sighted| sighted.is_fresh());
        self.memories.retain(|id, _| containers.iter().any(|c| c.id == *id));
        let mut reports = Vec::with_capacity(containers.len());
        for container in &containers {
            if let Some(main) = choose::main_process(container, &choose::Earlier::new()) {
                let report = self.report(container, main, signals.has(&container.id)).await;
                reports.push(report);
            }
        }
        self.earlier = choose::cpu_times(&processes);
        reports
    }

    fn note_ended(&mut self, containers: &[Container]) {
        let present: BTreeSet<String> = containers.iter().map(|c| c.id.clone()).collect();
        self.ended.retain(|id| !present.contains(id));
        self.ended.extend(self.present.difference(&present).cloned());
        self.ended.drain(..self.ended.len().saturating_sub(MAX_ENDED));
        self.present = present;
    }

    async fn report(&mut self, container: &Container, main: &Process, signals: bool) -> ContainerReport {
        let (mut found, seen) = self.look(main, signals).await;
        found.counters = found.counters.map(|counters| self.with_threads(counters, container));
        let usage = found.usage;
        let figures = usage.map(|usage| self.figures(&container.id, usage, found.counters));
        let (cpu_percent, signals) = figures.unwrap_or((None, found.counters.map(|c| c.signals(None))));
        let seen = seen.unwrap_or_else(|| Seen::from(&Sight::new(main.pid, Runtime::Unknown)));
        let working = choose::working(container, main, MAX_LOOKS - 1);
        let mut programs = vec![self.possible(main, seen.clone())];
        for other in working.others {
            let seen = self.sight(other).await;
            programs.push(self.possible(other, seen));
        }
        ContainerReport {
            id: container.id.clone(),
            runtime: bounded(seen.runtime, 64),
            cpu_percent,
            memory_percent: usage.and_then(|u| u.memory_percent(self.node)),
            signals,
            cpu_of_node: usage.is_some_and(|u| u.cpu_limit_millis.is_none()),
            memory_of_node: usage.is_some_and(|u| u.memory_limit.is_none()),
            problem: self.obstacle(main),
            offers: of_container(programs, working.is_proven),
        }
    }

    /// The figures of a process's container, and what the process runs, which is remembered.
    async fn look(&mut self, process: &Process, counters: bool) -> (Inspection, Option<Seen>) {
        let key = (process.pid, process.start_ticks, process.command.clone());
        let known = self.sights.get(&key).map(|sighted| sighted.seen.clone());
        let mut found = inspect(&self.tree, process.pid, Wanted { sight: known.is_none(), counters }).await;
        let seen = found.seen.take();
        if let Some(seen) = &seen {
            self.sights.insert(key, Sighted::now(seen.clone(), proc::age(process.pid)));
        }
        (found, known.or(seen))
    }

    /// What a process runs; nothing where it may not be known.
    async fn sight(&mut self, process: &Process) -> Seen {
        let key = (process.pid, process.start_ticks, process.command.clone());
        match self.sights.get(&key) {
            Some(sighted) => sighted.seen.clone(),
            None => self.look(process, false).await.1.unwrap_or_default(),
        }
    }

    /// Offers of a process, none of which can be kept where the process may not be looked at.
    fn possible(&self, process: &Process, seen: Seen) -> Seen {
        let Seen { runtime, mut offers } = seen;
        offers.truncate(MAX_OFFERS);
        if let Some(obstacle) = self.obstacle(process) {
            offers.iter_mut().for_each(|offer| offer.problem = Some(obstacle.clone()));
        }
        let problems = offers.iter_mut().filter_map(|offer| offer.problem.as_mut());
        problems
            .for_each(|problem| problem.message = bounded(std::mem::take(&mut problem.message), MAX_PROBLEM));
        Seen { runtime, offers }
    }

    /// How much of its memory the agent uses, and how much of its own the container of the process `pid`.
    pub async fn memory_of(&self, pid: i32) -> (Option<Reading>, Option<Reading>) {
        let target = inspect(&self.tree, pid, Wanted::default()).await.usage;
        (usage::read(OWN_CGROUP.as_ref()).ok(), target)
    }

    /// CPU use since the last reading, and the signals where they were read.
    fn figures(
        &mut self,
        id: &str,
        reading: Reading,
        counters: Option<Counters>,
    ) -> (Option<i32>, Option<Signals>) {
        let at = Instant::now();
        let before = self.memories.get(id);
        if let Some(memory) = before.filter(|m| at.duration_since(m.at) < SHORTEST) {
            let signals = counters.map(|now| memory.signals.unwrap_or_else(|| now.signals(None)));
            return (memory.cpu_percent, signals);
        }
        let passed = |memory: &Memory| nanos(at.duration_since(memory.at));
        let cpu_percent = before.and_then(|m| reading.cpu_percent(&m.reading, passed(m), self.node));
        let earlier = before.and_then(|m| Some((m.counters.as_ref()?, passed(m))));
        let signals = counters.map(|now| now.signals(earlier));
        self.memories.insert(id.to_owned(), Memory { reading, at, cpu_percent, counters, signals });
        (cpu_percent, signals)
    }

    /// The counters with the threads of the container's processes, where its cgroup does not count them.
    fn with_threads(&self, counters: Counters, container: &Container) -> Counters {
        if !counters.lacks_threads() {
            return counters;
        }
        let threads = |process: &Process| {
            std::fs::read_dir(self.tree.path(process.pid, "task")).map_or(0, |tasks| tasks.count() as u64)
        };
        counters.with_threads(container.processes.iter().take(MAX_COUNTED).map(threads).sum())
    }

    /// Why a process cannot be captured, where that is plain: another user's, and we are not root; or one
    /// that gave up its rights, and we may not trace every process.
    fn obstacle(&self, main: &Process) -> Option<Problem> {
        let own = nix::unistd::geteuid();
        let uid = self.tree.owner(main.pid)?.uid;
        let may_look = own.is_root() || own.as_raw() == uid;
        let is_closed = self.tree.is_dumpable(main.pid) == Some(false) && !proc::may_trace_all();
        obstacle(own.as_raw(), uid, may_look, is_closed)
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

    /// How many containers there are now.
    pub fn containers(&self) -> usize {
        choose::containers(&self.processes(), own_pid(), self.most).len()
    }

    fn processes(&self) -> Vec<Process> {
        self.tree
            .processes()
            .inspect_err(|error| tracing::warn!(%error, "failed to list processes"))
            .unwrap_or_default()
    }
}

/// The cause alone, in words: whoever tells it adds the advice of the reason.
fn obstacle(own: u32, uid: u32, may_look: bool, is_closed: bool) -> Option<Problem> {
    if !may_look {
        let message =
            format!("the agent runs as user {own}, but the container's main process runs as user {uid}");
        return Some(problem(Reason::PermissionDenied, message));
    }
    let message = format!(
        "the container's main process, of user {uid}, lets nobody look at it: it changed its user without \
         starting a program afterwards, or its program has file capabilities or is not readable"
    );
    is_closed.then(|| problem(Reason::NotDumpable, message))
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

#[cfg(test)]
mod tests;
