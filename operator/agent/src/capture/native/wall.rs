//! Where does the time of a target's threads pass, by its machine code? Threads that wait are read without
//! stopping them; those that run are stopped for some microseconds, as for CPU.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Frame;

use super::space::AddressSpace;
use super::stacks::Stacks;
use super::tracer::{Attempt, STACK_BYTES, Tracer, probe};
use super::{Shared, SharedSymbols, errno_name, ptrace_advice, refusal_reason};
use crate::capture::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use crate::capture::cpu_time::own_cpu_time;
use crate::capture::protocol::Failure;
use crate::capture::runtime::Runtime;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;
use crate::capture::wall::{self, Look, NOT_SAMPLED, Pace, Place, Spent, ThreadState, Threads};
use crate::proc;

/// Most threads that are looked at in a turn; the others have theirs in the next ones.
const MOST_THREADS: usize = 256;
/// Longest turn: threads that wait for CPU quota stop late. The threads that are left come first in the next
/// one.
const LONGEST: Duration = Duration::from_millis(50);
/// Longest last turn, in which all threads are looked at.
const LONGEST_LAST: Duration = Duration::from_millis(500);
/// How often the mappings are read again for an address that lies in none.
const REFRESH: Duration = Duration::from_secs(1);

/// Wall time by machine code: a row of its own, because it takes turns of its own beside those for CPU.
pub struct NativeWall;

/// The row of the table of collectors.
pub const NATIVE_WALL: NativeWall = NativeWall;

impl Collector for NativeWall {
    fn name(&self) -> &'static str {
        "native-wall"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Wall]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if has_wall(&sight.runtime) { self.offered(None) } else { Vec::new() }
    }
}

impl Attaches for NativeWall {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let sampler = WallSampler::open(ask.sight.pid, ask.frequency_hz, ask.shared).map_err(|e| {
            let text = format!(
                "wall time needs ptrace, which was refused with {} ({}); run the agent as the target's user \
                 (securityContext.runAsUser)",
                errno_name(&e),
                ptrace_advice()
            );
            Failure::new(refusal_reason(&e), text)
        })?;
        let why = "threads that wait are read in /proc, those that run are stopped by ptrace".to_owned();
        Ok(Attached { method: "procfs", why, capture: Box::new(sampler), refused: Vec::new() })
    }
}

/// Whether machine code shows where a runtime's threads wait. In Go and Node.js other things than threads wait,
/// and the machine code of the other runtimes says nothing about the program. What they tell of themselves is
/// the business of their collectors.
const fn has_wall(runtime: &Runtime) -> bool {
    matches!(runtime, Runtime::Native | Runtime::Unknown | Runtime::Python(_))
}

/// A stack, leaf first.
type Stack = Rc<[u64]>;

/// Samples the wall time of one process.
pub struct WallSampler {
    pid: i32,
    period: Duration,
    pace: Pace,
    threads: Threads,
    memory: File,
    tracer: Tracer,
    space: AddressSpace,
    symbols: SharedSymbols,
    /// The stack of each thread when it was last looked at.
    last: HashMap<i32, Stack>,
    stacks: BTreeMap<ThreadState, Stacks>,
    /// Samples and nanoseconds that no stack stands for.
    unsampled: (u64, u64),
    /// The thread that was looked at last.
    cursor: i32,
    next_refresh: Instant,
    taken: u64,
    lost: u64,
}

impl WallSampler {
    /// Makes sure that the kernel lets us look at the threads of a process, and trace them. The error is what
    /// it answered.
    pub fn open(pid: i32, frequency_hz: u32, shared: &Shared) -> io::Result<Self> {
        probe(pid)?;
        let now = Instant::now();
        let period = wall::period(frequency_hz);
        Ok(Self {
            pid,
            period,
            pace: Pace::new(period, now),
            threads: Threads::start(pid, now)?,
            memory: File::open(format!("/proc/{pid}/mem"))?,
            tracer: Tracer::of_woken(pid),
            space: AddressSpace::of(pid, &shared.files)?,
            symbols: Rc::clone(&shared.symbols),
            last: HashMap::new(),
            stacks: BTreeMap::new(),
            unsampled: (0, 0),
            cursor: 0,
            next_refresh: now,
            taken: 0,
            lost: 0,
        })
    }

    /// Looks at the next threads: at most so many, and for so long.
    fn look_at(&mut self, most: usize, longest: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        self.threads.refresh(start);
        let ids = self.threads.ids();
        let next = ids.partition_point(|tid| *tid <= self.cursor);
        let (before, after) = ids.split_at(next);
        for tid in after.iter().chain(before).take(most) {
            self.look_at_thread(*tid)?;
            self.cursor = *tid;
            if start.elapsed() >= longest {
                break;
            }
        }
        let threads = &self.threads;
        self.last.retain(|tid, _| threads.knows(*tid));
        Ok(())
    }

    fn look_at_thread(&mut self, tid: i32) -> Result<(), Failure> {
        let now = Instant::now();
        let look = self.threads.look(tid, now);
        let known = match look {
            Look::Waits(_, true) | Look::Ready(true) => self.last.get(&tid).cloned(),
            _ => self.last.remove(&tid).and(None),
        };
        match (look, known) {
            (Look::Gone, _) => {}
            (Look::Waits(place, _), Some(stack)) => {
                let spent = self.threads.spend(tid, now);
                self.add(ThreadState::Blocked(place.wait), &stack, spent.nanos);
            }
            (Look::Waits(place, _), None) => self.read_waiting(tid, place, now),
            // It was woken, or lost its CPU, and has not been given one since.
            (Look::Ready(_), Some(stack)) => {
                let spent = self.threads.spend(tid, now);
                self.add(ThreadState::Runnable, &stack, spent.nanos);
            }
            (Look::Ready(_), None) => self.stop_ready(tid, now)?,
        }
        Ok(())
    }

    /// Reads the stack of a thread that waits, from its memory. One that has run meanwhile is left for the next
    /// turn, with its time.
    fn read_waiting(&mut self, tid: i32, place: Place, now: Instant) {
        let mut stack = vec![0; STACK_BYTES];
        let n = self.memory.read_at(&mut stack, place.sp).unwrap_or(0);
        stack.truncate(n);
        if self.threads.has_run(tid) {
            return;
        }
        let stack: Stack = self.space.unwind_waiting(place.pc, place.sp, &stack).into();
        self.last.insert(tid, Rc::clone(&stack));
        let spent = self.spend(tid, now);
        self.add(ThreadState::Blocked(place.wait), &stack, spent.nanos);
    }

    /// Stops a thread that runs or waits for a CPU, for the time of a sample.
    fn stop_ready(&mut self, tid: i32, now: Instant) -> Result<(), Failure> {
        match self.tracer.sample(tid) {
            Attempt::Sample(registers, stack, _) => {
                let stack: Stack = self.space.unwind(&registers, &stack).into();
                let (running, runnable) = self.spend(tid, now).split();
                self.add(ThreadState::Running, &stack, running);
                self.add(ThreadState::Runnable, &stack, runnable);
                self.last.insert(tid, stack);
            }
            Attempt::Waiting | Attempt::Gone => {}
            Attempt::Stuck => self.lost += 1,
            // A thread that ends is refused as one is that may not be looked at.
            Attempt::Refused(e) if proc::thread_stat(self.pid, tid).is_ok_and(|s| !s.ending) => {
                return Err(super::refused_meanwhile(self.pid, &e));
            }
            Attempt::Refused(_) => {}
        }
        Ok(())
    }

    /// Counts the time of a thread whose stack is new; what is too long ago for it is kept apart.
    fn spend(&mut self, tid: i32, now: Instant) -> Spent {
        let (spent, rest) = self.threads.spend(tid, now).bounded();
        if rest > 0 {
            self.unsampled = (self.unsampled.0 + 1, self.unsampled.1.saturating_add(rest));
        }
        spent
    }

    fn add(&mut self, state: ThreadState, stack: &Stack, nanos: u64) {
        if nanos > 0 {
            self.taken += 1;
            self.stacks.entry(state).or_default().add(stack.to_vec(), nanos);
        }
    }
}

impl Capture for WallSampler {
    fn interval(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if !self.pace.is_due(now) {
            return Ok(());
        }
        let before = own_cpu_time();
        self.look_at(MOST_THREADS, LONGEST)?;
        if now >= self.next_refresh && self.stacks.values().any(|stacks| stacks.leave(&self.space)) {
            self.next_refresh = now + REFRESH;
            let _gone = self.space.refresh();
        }
        self.pace.taken(now, own_cpu_time().saturating_sub(before));
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let slice = into.kind(ProfileKind::Wall)?;
        let _gone = self.space.refresh();
        self.space.refresh_jit_names();
        let (space, mut symbols) = (&self.space, self.symbols.borrow_mut());
        for (state, stacks) in &mut self.stacks {
            slice.labelled(state.labels(), |slice| stacks.drain(space, &mut symbols, slice, &mut || {}))?;
        }
        let (samples, nanos) = std::mem::take(&mut self.unsampled);
        match samples {
            0 => Ok(()),
            samples => slice.add(&[Frame::named(NOT_SAMPLED, "", 0)], samples, nanos),
        }
    }

    fn tally(&self) -> Tally {
        let (taken, lost, left_out) = (self.taken, self.lost, self.threads.left_out());
        let crowd =
            || format!("{left_out} threads are not in the wall profile: there are too many to follow");
        let notes = (left_out > 0).then(crowd).into_iter().collect();
        Tally { expected: Some(taken + lost), taken, lost, notes, ..Tally::default() }
    }

    /// Nothing stays behind in the target; the time up to now is counted.
    fn stop(&mut self, _by: Instant) {
        let _ended = self.look_at(usize::MAX, LONGEST_LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_offered_where_machine_code_tells_what_waits() {
        let is_offered = |runtime: Runtime| !NATIVE_WALL.offers(&Sight::new(1, runtime)).is_empty();
        for runtime in [Runtime::Native, Runtime::Unknown, Runtime::Python(None)] {
            assert!(is_offered(runtime.clone()), "{runtime}");
        }
        for runtime in [Runtime::Go(None), Runtime::Jvm, Runtime::Node, Runtime::Ruby, Runtime::DotNet] {
            assert!(!is_offered(runtime.clone()), "{runtime}");
        }
    }
}
