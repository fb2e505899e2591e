//! How are all processes of a container captured as one?
//!
//! ```text
//! look (1 s) ─► plan ─► begin: attach ─► members ─► turn ─► drain ─┐
//!                   └─► end ──────────► ended ─────────────► drain ┴─► one slice, a label for each name
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;

use super::attach::{Attachment, attach};
use super::collector::{Ask, Tally};
use super::elsewhere::Elsewhere;
use super::member::{Member, guarded};
use super::members::{Earlier, Identity, MAX_PROCESSES, Plan, Seen, plan};
use super::native::Shared;
use super::process_names::ProcessNames;
use super::protocol::{CaptureRequest, Cover, Failure, FailureReason, Started};
use super::sight::Sight;
use super::slices::Slices;
use super::verdict::Facts;
use crate::proc::{self, ProcTree};

/// How often processes that are new, gone or busy are looked for; sooner after the start.
const LOOK: Duration = Duration::from_secs(1);
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// Longest time without a turn.
const MOST_IDLE: Duration = Duration::from_millis(100);
/// Looks after which a process that could not be attached to is given up: its interpreter may just be
/// starting.
const TRIES: u32 = 3;
/// Attempts to find an interpreter in a process of an order, and in one of many.
const ATTEMPTS: [u64; 2] = [25, 3];
/// Most captured processes that have ended since the last slice; with more, no others are attached to.
const MAX_ENDED: usize = 4 * MAX_PROCESSES;
/// Most bytes of memory that a profile of another program may take, and which part of the worker's.
const MAX_FOREIGN: usize = 64 << 20;
const FOREIGN_SHARE: u64 = 8;
/// How long all captures together may take to end: the worker's last slice must be written in time.
const STOPPED: Duration = Duration::from_secs(5);
/// The same of a process that has ended, or makes room for others: the turns of these must not wait.
const STOPPED_MEANWHILE: Duration = Duration::from_millis(200);

/// A process that could not be captured.
struct Refusal {
    tries: u32,
    failure: Failure,
}

/// The captured processes of a container.
pub struct Container<'a> {
    request: &'a CaptureRequest,
    start_ticks: u64,
    shared: Shared,
    members: Vec<Member>,
    ended: Vec<Member>,
    earlier: Earlier,
    elsewhere: Elsewhere,
    refusals: HashMap<Identity, Refusal>,
    /// Kinds that a captured process does without, and why.
    unmet: BTreeMap<ProfileKind, Failure>,
    names: ProcessNames,
    /// Of processes that are captured no more.
    tally: Tally,
    turn: u64,
    until: Instant,
    stopped: bool,
    next_look: Instant,
    captured: u32,
    profiled: u64,
    left_out: usize,
    used_before: Option<u64>,
    used: Option<u64>,
}

impl<'a> Container<'a> {
    /// Begins to capture the processes of the request's container; of its process alone where it names no
    /// container. Errors when none of them can be captured.
    pub fn open(request: &'a CaptureRequest, start_ticks: u64) -> Result<(Started, Self), Failure> {
        let mut container = Self {
            request,
            start_ticks,
            shared: Shared::default(),
            members: Vec::new(),
            ended: Vec::new(),
            earlier: Earlier::new(),
            elsewhere: Elsewhere::default(),
            refusals: HashMap::new(),
            unmet: BTreeMap::new(),
            names: ProcessNames::default(),
            tally: Tally::default(),
            turn: 0,
            until: Instant::now() + Duration::from_millis(request.duration_ms),
            stopped: false,
            next_look: Instant::now() + FIRST_LOOK,
            captured: 0,
            profiled: 0,
            left_out: 0,
            used_before: None,
            used: None,
        };
        container.used_before = container.cpu();
        let started = container.begin_all()?;
        Ok((started, container))
    }

    /// The process of the request first: it is the one that the container is known by.
    fn begin_all(&mut self) -> Result<Started, Failure> {
        let seen = self.seen();
        let pid = self.request.pid;
        let main = seen.iter().find(|p| p.identity.pid == pid).cloned();
        let main = main.ok_or_else(|| gone(pid))?;
        let sharers = seen.iter().filter(|p| p.cpu_ticks > 0).count();
        // A runtime that may only be starting is not waited for where nothing else is captured meanwhile.
        let first = self.begin(main.clone(), sharers, sharers <= 1);
        let others = self.replan(&seen, sharers);
        self.earlier = ticks_of(&seen);
        match (first, others) {
            (Ok(started), _) | (Err(_), Some(started)) => Ok(started),
            (Err(failure), None) if self.request.container.is_some() && !is_final(&failure) => {
                self.begin(main, sharers, true)
            }
            (Err(failure), None) => Err(failure),
        }
    }

    /// The distance of turns: the smallest that a member can need.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.request.frequency_hz.max(1)
    }

    /// Takes one turn. Errors when no process is left that can be captured.
    pub fn sample(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.next_look && self.request.container.is_some() {
            self.next_look = now + LOOK;
            self.read_used();
            let seen = self.seen();
            let sharers = self.members.len() + 1;
            let _started = self.replan(&seen, sharers);
            self.earlier = ticks_of(&seen);
        }
        self.turn += 1;
        self.sample_members()
    }

    /// Leaves out the next turns in which no process is due, and gives back how many.
    pub fn skip_idle_turns(&mut self) -> u64 {
        let most = u64::try_from(MOST_IDLE.as_nanos() / self.interval().as_nanos().max(1)).unwrap_or(1);
        let due = self.members.iter().filter_map(|m| m.due(self.turn)).min();
        let idle = due.unwrap_or(most).min(most).saturating_sub(1);
        self.turn += idle;
        idle
    }

    fn sample_members(&mut self) -> Result<(), Failure> {
        let mut last = None;
        for at in (0..self.members.len()).rev() {
            let turn = self.turn;
            let Some((mut gone, failure)) = self.members.get_mut(at).and_then(|m| m.turn(turn)) else {
                continue;
            };
            gone.kinds().for_each(|kind| {
                self.unmet.entry(kind).or_insert_with(|| failure.clone());
            });
            gone.stop(Instant::now() + STOPPED_MEANWHILE);
            self.ended.push(gone);
            if self.members.get(at).is_some_and(Member::is_over) {
                let member = self.members.remove(at);
                self.refuse(&member.process.identity, failure.clone(), TRIES);
                last = Some(failure);
            }
        }
        last.filter(|_| self.members.is_empty()).map_or(Ok(()), Err)
    }

    /// Whether nothing is left to capture: the container, or the one process, has ended.
    pub fn is_over(&mut self) -> bool {
        let gone = |m: &Member| proc::has_exited(m.process.identity.pid, m.process.identity.start_ticks);
        let exited: Vec<Identity> =
            self.members.iter().filter(|m| gone(m)).map(|m| m.process.identity.clone()).collect();
        exited.iter().for_each(|identity| self.end(identity));
        self.members.is_empty() && self.seen().is_empty()
    }

    /// Ends every capture: no more turns, and nothing is left behind in the targets. What was collected stays
    /// for a last drain.
    pub fn stop(&mut self) {
        // What is used while they end is not captured any more.
        self.read_used();
        self.stopped = true;
        self.members.iter_mut().for_each(Member::ending);
        let by = Instant::now() + STOPPED;
        self.members.iter_mut().for_each(|member| member.stop(by));
    }

    /// Moves what was collected since the last time into slices.
    pub fn drain(&mut self, slices: &mut Slices<'_>) -> Result<(), Failure> {
        // Before the names are looked up: what is used meanwhile is in the next slice.
        if !self.stopped {
            self.read_used();
        }
        for mut member in std::mem::take(&mut self.ended) {
            self.drain_member(&mut member, slices)?;
            self.tally.add(member.tally());
        }
        for mut member in std::mem::take(&mut self.members) {
            self.drain_member(&mut member, slices)?;
            self.members.push(member);
        }
        self.profiled = self.profiled.saturating_add(slices.cpu_nanos());
        Ok(())
    }

    fn drain_member(&mut self, member: &mut Member, slices: &mut Slices<'_>) -> Result<(), Failure> {
        if member.drain(slices)? {
            self.captured = self.captured.saturating_add(1);
        }
        Ok(())
    }

    /// What the captures have to say so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        self.members.iter().for_each(|m| tally.add(m.tally()));
        tally.add(Tally { failures: self.unmet.clone(), ..Tally::default() });
        tally
    }

    /// What is covered so far. What the container used is nothing that other kinds could cover.
    pub fn cover(&self) -> Cover {
        let used_nanos = self.used.filter(|_| self.request.profiles.contains(&ProfileKind::Cpu));
        Cover { processes: self.captured, cpu_nanos: self.profiled, used_nanos }
    }

    /// Of a container that has ended, the last count stays.
    fn read_used(&mut self) {
        let used = self.cpu().zip(self.used_before).map(|(now, before)| now.saturating_sub(before));
        self.used = used.or(self.used);
    }

    /// What the verdict has to know, beside the session's own counts.
    pub fn facts(&self) -> Facts {
        let cover = self.cover();
        let for_good = || self.refusals.values().filter(|r| is_for_good(r));
        let tally = self.tally();
        let of_cpu = tally.failures.get(&ProfileKind::Cpu).filter(|failure| !is_of_end(failure));
        Facts {
            profiled: cover.cpu_nanos,
            used: cover.used_nanos,
            left_out: self.left_out,
            refused: for_good().count(),
            obstacle: for_good().next().map(|r| r.failure.clone()).or_else(|| of_cpu.cloned()),
            unseen_kernel: tally.unseen_kernel,
            advice: tally.advice.get(&ProfileKind::Cpu).cloned(),
            ..Facts::default()
        }
    }

    /// The count of the container's cgroup, through whichever process still shows it.
    fn cpu(&self) -> Option<u64> {
        let container = self.request.container.as_deref()?;
        let members = self.members.iter().map(|m| m.process.identity.pid);
        std::iter::once(self.request.pid).chain(members).find_map(|pid| proc::container_cpu(pid, container))
    }

    /// The living processes that are meant.
    fn seen(&mut self) -> Vec<Seen> {
        let tree = ProcTree::new("/proc");
        let request = self.request;
        let main = tree.process(request.pid).filter(|p| p.is_alive() && p.start_ticks == self.start_ticks);
        let all = request.container.as_ref().map_or_else(Vec::new, |id| {
            let pids = tree.pids().unwrap_or_default();
            let now = proc::since_boot().unwrap_or_default();
            self.elsewhere.inside(id, &pids, |pid| tree.process(pid), now)
        });
        let inside = |p: &proc::Process| p.is_alive() && p.pid != request.pid;
        let is_ours = |pid| request.owner.is_none_or(|ours| proc::owner(pid).is_ok_and(|o| o == ours));
        let meant = main.into_iter().chain(all.into_iter().filter(inside));
        meant.filter(|p| is_ours(p.pid)).map(seen).collect()
    }

    /// Follows the plan for the processes seen now. Gives back how the first new one is sampled.
    fn replan(&mut self, seen: &[Seen], sharers: usize) -> Option<Started> {
        let held: Vec<Identity> = self.members.iter().map(|m| m.process.identity.clone()).collect();
        let given_up = self.refusals.iter().filter(|(_, r)| is_given_up(r)).map(|(i, _)| i.clone()).collect();
        let bound = if self.ended.len() < MAX_ENDED { MAX_PROCESSES } else { held.len() };
        let Plan { end, mut begin, left_out } =
            plan(seen, &held, &given_up, &self.earlier, bound, self.idle_too());
        // An inspector that is open has the port that the others would open theirs at.
        begin.sort_by_cached_key(|process| {
            proc::listeners(process.identity.pid).is_ok_and(|all| all.is_empty())
        });
        end.iter().for_each(|identity| self.end(identity));
        self.left_out = self.left_out.max(left_out);
        let mut first = None;
        for process in begin {
            let started = self.begin(process, sharers, false);
            // Names take time: the rings of those that are sampled already must not overflow meanwhile.
            let _later = self.sample_members();
            first = first.or(started.ok());
        }
        first
    }

    /// Whether what idle processes hold, or wait for, is captured as well.
    fn idle_too(&self) -> bool {
        self.request.profiles.iter().any(|kind| *kind != ProfileKind::Cpu)
    }

    fn begin(&mut self, process: Seen, sharers: usize, is_last_try: bool) -> Result<Started, Failure> {
        let tries = self.refusals.get(&process.identity).map_or(0, |r| r.tries);
        let alone = self.request.container.is_none();
        let sight = Sight::of(process.identity.pid);
        let ask = Ask {
            sight: &sight,
            kinds: &self.request.profiles,
            frequency_hz: self.request.frequency_hz,
            slice: Duration::from_millis(self.request.slice_ms),
            until: self.until,
            sharers: sharers.clamp(1, MAX_PROCESSES),
            attempts: if alone || sharers <= 1 { ATTEMPTS[0] } else { ATTEMPTS[1] },
            memory: self.request.memory_bytes.map_or(MAX_FOREIGN, |bytes| {
                usize::try_from(bytes / FOREIGN_SHARE).unwrap_or(MAX_FOREIGN).min(MAX_FOREIGN)
            }),
            is_last_try: is_last_try || alone || tries + 1 >= TRIES,
            shared: &self.shared,
        };
        match guarded(|| attach(&ask, self.request.collector.as_deref())) {
            Ok(Attachment { started, begun, unmet }) => {
                self.refusals.remove(&process.identity);
                for (kind, failure) in unmet {
                    self.unmet.entry(kind).or_insert(failure);
                }
                let label = self.names.label(&process.command);
                self.members.push(Member::new(process, label, begun, self.interval()));
                Ok(started)
            }
            Err(failure) => {
                tracing::debug!(process.pid = process.identity.pid, error = %failure, "not captured");
                self.refuse(&process.identity, failure.clone(), tries + 1);
                Err(failure)
            }
        }
    }

    fn refuse(&mut self, identity: &Identity, failure: Failure, tries: u32) {
        if self.refusals.len() < 1024 {
            self.refusals.insert(identity.clone(), Refusal { tries, failure });
        }
    }

    /// A process is captured no more; what was sampled of it stays for the next slice.
    fn end(&mut self, identity: &Identity) {
        if let Some(at) = self.members.iter().position(|m| m.process.identity == *identity) {
            let mut member = self.members.remove(at);
            member.ending();
            member.stop(Instant::now() + STOPPED_MEANWHILE);
            self.ended.push(member);
        }
    }
}

const fn is_given_up(refusal: &Refusal) -> bool {
    refusal.tries >= TRIES || is_final(&refusal.failure)
}

/// Whether another try would fail as well.
const fn is_final(failure: &Failure) -> bool {
    !matches!(failure.reason, FailureReason::UnsupportedRuntime)
}

/// Whether the process is still there and out of reach.
const fn is_for_good(refusal: &Refusal) -> bool {
    is_given_up(refusal) && !is_of_end(&refusal.failure)
}

const fn is_of_end(failure: &Failure) -> bool {
    matches!(failure.reason, FailureReason::NoSuchProcess | FailureReason::TargetExited)
}

fn seen(process: proc::Process) -> Seen {
    let program = std::fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap_or_default();
    let program = program.to_string_lossy().into_owned();
    let identity = Identity { pid: process.pid, start_ticks: process.start_ticks, program };
    Seen { identity, command: process.command, cpu_ticks: process.cpu_ticks }
}

fn ticks_of(seen: &[Seen]) -> Earlier {
    seen.iter().map(|p| (p.identity.clone(), p.cpu_ticks)).collect()
}

fn gone(pid: i32) -> Failure {
    Failure::new(FailureReason::NoSuchProcess, format!("no such process {pid}: it has ended"))
}
