//! How are all processes of a container captured as one?
//!
//! ```text
//! look (1 s) ─► plan ─► begin: attach ─► members ─► turn ─► drain ─┐
//!                   └─► end ──────────► ended ─────────────► drain ┴─► one slice, a label for each name
//! ```

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::attach::{Ask, attach};
use super::members::{Earlier, Identity, MAX_PROCESSES, Plan, Seen, plan};
use super::native::Shared;
use super::process_names::ProcessNames;
use super::protocol::{CaptureRequest, Cover, Failure, FailureReason, Started};
use super::session::{Sampler, Tally};
use super::slices::Slice;
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

/// A process that is captured.
struct Member {
    process: Seen,
    label: String,
    sampler: Box<dyn Sampler>,
    /// It has every n-th turn.
    every: u64,
    has_samples: bool,
}

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
    refusals: HashMap<Identity, Refusal>,
    names: ProcessNames,
    /// Of processes that are captured no more.
    tally: Tally,
    turn: u64,
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
            refusals: HashMap::new(),
            names: ProcessNames::default(),
            tally: Tally::default(),
            turn: 0,
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
        let first = self.begin(main, sharers);
        let others = self.replan(&seen, sharers);
        self.earlier = ticks_of(&seen);
        match (first, others) {
            (Ok(started), _) | (Err(_), Some(started)) => Ok(started),
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
        let due = self.members.iter().map(|m| m.every - self.turn % m.every).min();
        let idle = due.unwrap_or(most).min(most).saturating_sub(1);
        self.turn += idle;
        idle
    }

    fn sample_members(&mut self) -> Result<(), Failure> {
        let mut last = None;
        for at in (0..self.members.len()).rev() {
            let turn = self.turn;
            let Some(member) = self.members.get_mut(at).filter(|m| turn.is_multiple_of(m.every)) else {
                continue;
            };
            if let Err(failure) = guarded(|| member.sampler.sample()) {
                let member = self.members.remove(at);
                self.refuse(&member.process.identity, failure.clone(), TRIES);
                self.ended.push(member);
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

    /// Moves what was sampled since the last time into a slice.
    pub fn drain(&mut self, slice: &mut Slice<'_>) -> Result<(), Failure> {
        // Before the names are looked up: what is used meanwhile is in the next slice.
        self.read_used();
        for mut member in std::mem::take(&mut self.ended) {
            self.drain_member(&mut member, slice)?;
            self.tally.add(member.sampler.tally());
        }
        for mut member in std::mem::take(&mut self.members) {
            self.drain_member(&mut member, slice)?;
            self.members.push(member);
        }
        self.profiled = self.profiled.saturating_add(slice.nanos);
        Ok(())
    }

    fn drain_member(&mut self, member: &mut Member, slice: &mut Slice<'_>) -> Result<(), Failure> {
        let before = slice.samples;
        slice.of_process(&member.label);
        guarded(|| member.sampler.drain(slice))?;
        if slice.samples > before && !member.has_samples {
            member.has_samples = true;
            self.captured = self.captured.saturating_add(1);
        }
        Ok(())
    }

    /// What the samplers have to say so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        self.members.iter().for_each(|m| tally.add(m.sampler.tally()));
        tally
    }

    /// What is covered so far.
    pub const fn cover(&self) -> Cover {
        Cover { processes: self.captured, cpu_nanos: self.profiled, used_nanos: self.used }
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
        Facts {
            profiled: cover.cpu_nanos,
            used: cover.used_nanos,
            left_out: self.left_out,
            refused: for_good().count(),
            obstacle: for_good().next().map(|r| r.failure.clone()),
            unseen_kernel: tally.unseen_kernel,
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
    fn seen(&self) -> Vec<Seen> {
        let tree = ProcTree::new("/proc");
        let request = self.request;
        let main = tree.process(request.pid).filter(|p| p.is_alive() && p.start_ticks == self.start_ticks);
        let all = match &request.container {
            Some(_) => tree.processes().unwrap_or_default(),
            None => Vec::new(),
        };
        let inside = |p: &proc::Process| {
            p.is_alive() && p.container.is_some() && p.container == request.container && p.pid != request.pid
        };
        main.into_iter().chain(all.into_iter().filter(inside)).map(seen).collect()
    }

    /// Follows the plan for the processes seen now. Gives back how the first new one is sampled.
    fn replan(&mut self, seen: &[Seen], sharers: usize) -> Option<Started> {
        let held: Vec<Identity> = self.members.iter().map(|m| m.process.identity.clone()).collect();
        let given_up = self.refusals.iter().filter(|(_, r)| is_given_up(r)).map(|(i, _)| i.clone()).collect();
        let bound = if self.ended.len() < MAX_ENDED { MAX_PROCESSES } else { held.len() };
        let Plan { end, begin, left_out } = plan(seen, &held, &given_up, &self.earlier, bound);
        end.iter().for_each(|identity| self.end(identity));
        self.left_out = self.left_out.max(left_out);
        let mut first = None;
        for process in begin {
            let started = self.begin(process, sharers);
            // Names take time: the rings of those that are sampled already must not overflow meanwhile.
            let _later = self.sample_members();
            first = first.or(started.ok());
        }
        first
    }

    fn begin(&mut self, process: Seen, sharers: usize) -> Result<Started, Failure> {
        let tries = self.refusals.get(&process.identity).map_or(0, |r| r.tries);
        let alone = self.request.container.is_none();
        let ask = Ask {
            pid: process.identity.pid,
            collector: self.request.collector,
            frequency_hz: self.request.frequency_hz,
            sharers: sharers.clamp(1, MAX_PROCESSES),
            attempts: if alone || sharers <= 1 { ATTEMPTS[0] } else { ATTEMPTS[1] },
            settle_for_native: alone || tries + 1 >= TRIES,
            shared: &self.shared,
        };
        let attached = guarded(|| attach(&ask));
        match attached {
            Ok((started, sampler)) => {
                self.refusals.remove(&process.identity);
                let turns = sampler.interval().as_nanos() / self.interval().as_nanos().max(1);
                let every = u64::try_from(turns).unwrap_or(1).max(1);
                let label = self.names.label(&process.command);
                self.members.push(Member { process, label, sampler, every, has_samples: false });
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
            let _last = guarded(|| member.sampler.sample());
            member.sampler.close();
            self.ended.push(member);
        }
    }
}

/// Where a collector crashes, the capture of other processes goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(
            FailureReason::CollectorCrashed,
            "the collector crashed; the target is not affected; see the agent's log for the location",
        ))
    })
}

const fn is_given_up(refusal: &Refusal) -> bool {
    refusal.tries >= TRIES || !matches!(refusal.failure.reason, FailureReason::UnsupportedRuntime)
}

/// Whether the process is still there and out of reach.
const fn is_for_good(refusal: &Refusal) -> bool {
    let ended = matches!(refusal.failure.reason, FailureReason::NoSuchProcess | FailureReason::TargetExited);
    is_given_up(refusal) && !ended
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
