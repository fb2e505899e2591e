//! How is a target sampled where perf events are refused? By stopping its running threads for some
//! microseconds each.
//!
//! A sample is worth the CPU time that its thread used since its last one, so that the sum is true although a
//! target that waits for its CPU quota stops late and turns are missed.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;

use super::jit_names::Compiled;
use super::space::AddressSpace;
use super::stacks::Stacks;
use super::tracer::{Attempt, Tracer, probe};
use super::{Shared, SharedSymbols};
use crate::capture::collector::{Capture, Tally};
use crate::capture::cpu_stacks::{LastStacks, Look};
use crate::capture::cpu_time::{ThreadTimes, most_worth};
use crate::capture::protocol::Failure;
use crate::capture::runtime::Runtime;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;
use crate::proc;

/// How often new threads are looked for.
const RESCAN: Duration = Duration::from_millis(100);
/// How often the mappings are read again for an address that lies in none.
const REFRESH: Duration = Duration::from_secs(1);

/// Samples one process by ptrace.
pub struct PtraceSampler {
    pid: i32,
    runtime: Runtime,
    period: Duration,
    times: ThreadTimes,
    last: LastStacks<Vec<u64>>,
    tracer: Tracer,
    space: AddressSpace,
    stacks: Stacks,
    symbols: SharedSymbols,
    next_scan: Instant,
    next_refresh: Instant,
    taken: u64,
    lost: u64,
    pauses: Pauses,
}

/// How long it took from asking threads to stop until they ran again; the time that one waits for its CPU
/// quota anyway is in it.
#[derive(Default)]
struct Pauses {
    count: u32,
    sum: Duration,
    max: Duration,
}

impl Pauses {
    fn add(&mut self, pause: Duration) {
        self.count = self.count.saturating_add(1);
        self.sum += pause;
        self.max = self.max.max(pause);
    }

    fn note(&self) -> Option<String> {
        let mean = self.sum.checked_div(self.count)?;
        let (count, mean, max) = (self.count, mean.as_micros(), self.max.as_micros());
        Some(format!(
            "{count} samples stopped a thread for {mean} µs on average, {max} µs at most, including time \
             waiting for CPU quota"
        ))
    }
}

impl PtraceSampler {
    /// Makes sure that the kernel lets us trace. The error is what it answered.
    pub fn open(sight: &Sight, frequency_hz: u32, shared: &Shared, compiled: Compiled) -> io::Result<Self> {
        let pid = sight.pid;
        probe(pid)?;
        let now = Instant::now();
        Ok(Self {
            pid,
            runtime: sight.runtime.clone(),
            period: Duration::from_secs(1) / frequency_hz.max(1),
            times: ThreadTimes::start(pid)?,
            last: LastStacks::default(),
            tracer: Tracer::new(pid),
            space: AddressSpace::of(pid, &shared.files)?.named_by(compiled),
            stacks: Stacks::default(),
            symbols: Rc::clone(&shared.symbols),
            next_scan: now + RESCAN,
            next_refresh: now,
            taken: 0,
            lost: 0,
            pauses: Pauses::default(),
        })
    }

    fn sample_thread(&mut self, tid: i32) -> Result<(), Failure> {
        // One that used nothing since its last sample sleeps, or waits for a CPU: it is left alone.
        let nanos = match self.last.look(&self.times, tid) {
            // What passed unseen counts with the next sample.
            Look::Rests | Look::Unseen(_) => return Ok(()),
            Look::Ran(nanos, addresses) => {
                self.times.count(tid, nanos);
                self.stacks.add(addresses, most_worth(nanos, self.period));
                return Ok(());
            }
            Look::Runs(nanos) => nanos,
        };
        self.last.lose(tid);
        match self.tracer.sample(tid) {
            Attempt::Sample(registers, stack, pause) => {
                self.times.count(tid, nanos);
                self.pauses.add(pause);
                let addresses = self.space.unwind(&registers, &stack);
                self.last.note(tid, addresses.clone());
                self.stacks.add(addresses, most_worth(nanos, self.period));
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
}

impl Capture for PtraceSampler {
    fn interval(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.next_scan {
            self.next_scan = now + RESCAN;
            let _gone = self.times.refresh();
        }
        for tid in self.times.ids() {
            self.sample_thread(tid)?;
        }
        self.taken += 1;
        if now >= self.next_refresh && self.stacks.leave(&self.space) {
            self.next_refresh = now + REFRESH;
            let _gone = self.space.refresh();
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let slice = into.kind(ProfileKind::Cpu)?;
        self.last.forget();
        let _gone = self.space.refresh();
        self.space.refresh_jit_names();
        self.stacks.drain(&self.space, &mut self.symbols.borrow_mut(), slice, &mut || {})
    }

    fn tally(&self) -> Tally {
        let mut notes = super::notes(&self.space, self.lost, self.taken);
        notes.extend(self.pauses.note());
        let lacking =
            super::lacking(&self.runtime, self.stacks.unnamed(), self.taken, self.space.naming_advice());
        Tally { taken: self.taken, lost: self.lost, notes, lacking, ..Tally::default() }
    }

    /// Each turn lets every thread run again.
    fn stop(&mut self, _by: Instant) {}
}
