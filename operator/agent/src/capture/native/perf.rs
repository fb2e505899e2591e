//! How does the kernel sample a target for us? By perf events of the CPU clock that record registers and
//! stack.
//!
//! Every thread has one event for each CPU, and the events of one CPU share one ring buffer; threads that a
//! thread starts inherit its events. Where that would take too many files, each thread has one event with a
//! ring of its own.

use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use nix::sys::resource::{Resource, getrlimit};
use perf_event_open::config::{Cpu, Inherit, Opts, Priv, Proc, RegsMask, SampleOn, Size};
use perf_event_open::count::Counter;
use perf_event_open::event::sw::Software;

use super::jit_names::Compiled;
use super::registers::PERF_MASK;
use super::rings::Rings;
use super::space::AddressSpace;
use super::stacks::Stacks;
use super::{Shared, SharedSymbols};
use crate::capture::collector::{Capture, Tally};
use crate::capture::cpu_time::TICK_NANOS;
use crate::capture::protocol::Failure;
use crate::capture::runtime::Runtime;
use crate::capture::schedule::saturating_nanos;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;
use crate::proc;

/// Bytes of stack in a sample; less at high rates, so that rings stay small.
const STACK_BYTES: u32 = 16 * 1024;
/// Rate from which samples hold half of the stack.
const HIGH_RATE_HZ: u32 = 400;
/// With more processes than these, each has smaller rings and samples with half of the stack.
const FEW_SHARERS: usize = 2;
/// Most events of one capture.
const MAX_EVENTS: usize = 16_384;
/// Files that are left for others.
const SPARE_FILES: usize = 512;
/// How often threads without events are looked for, with and without inheritance.
const RESCAN: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(100)];
/// CPU time by which a thread must have been sampled, in clock ticks, else it has no event.
const UNSAMPLED_TICKS: u64 = 25;

/// What the kernel accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Time in the kernel counts for the stack that called it.
    pub kernel: bool,
    /// New threads inherit events.
    inherit: bool,
}

/// Perf events of one target.
pub struct PerfSampler {
    pid: i32,
    runtime: Runtime,
    period: Duration,
    grant: Grant,
    stack_bytes: u32,
    /// The CPUs with a ring each, or none where each thread has a ring.
    cpus: Vec<u32>,
    rings: Rings,
    /// Threads with events of their own.
    opened: HashSet<i32>,
    /// CPU ticks of threads without events when they were first seen without a sample.
    unsampled: HashMap<i32, u64>,
    next_scan: Instant,
    space: AddressSpace,
    stacks: Stacks,
    symbols: SharedSymbols,
    next_refresh: Instant,
    ticks: (u64, u64),
    kernel_ticks: (u64, u64),
}

impl PerfSampler {
    /// Opens events for every thread of a process, one of so many `sharers` of what the kernel lends. The
    /// error is what the kernel answered.
    pub fn open(
        sight: &Sight,
        frequency_hz: u32,
        sharers: usize,
        shared: &Shared,
        compiled: Compiled,
    ) -> io::Result<Self> {
        let pid = sight.pid;
        let threads = proc::threads(pid)?;
        let main = *threads.first().ok_or(io::ErrorKind::NotFound)?;
        let small = frequency_hz > HIGH_RATE_HZ || sharers > FEW_SHARERS;
        let stack_bytes = if small { STACK_BYTES / 2 } else { STACK_BYTES };
        let period = Duration::from_secs(1) / frequency_hz.max(1);
        let grant = probe(main, period, stack_bytes)?;
        let cpus = layout(online_cpus(), threads.len(), grant.inherit, file_budget() / sharers.max(1));
        let now = Instant::now();
        let mut sampler = Self {
            pid,
            runtime: sight.runtime.clone(),
            period,
            grant,
            stack_bytes,
            cpus,
            rings: Rings::for_sharers(sharers),
            opened: HashSet::new(),
            unsampled: HashMap::new(),
            next_scan: now + RESCAN[1],
            space: AddressSpace::of(pid, &shared.files)?.named_by(compiled),
            stacks: Stacks::default(),
            symbols: Rc::clone(&shared.symbols),
            next_refresh: now,
            ticks: both(cpu_ticks(pid, grant.kernel)),
            kernel_ticks: both(kernel_ticks(pid)),
        };
        for tid in threads {
            sampler.open_thread(tid)?;
        }
        Ok(sampler)
    }

    /// What the kernel accepted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Opens the events of a thread; one that is gone meanwhile is left out.
    fn open_thread(&mut self, tid: i32) -> io::Result<()> {
        self.opened.insert(tid);
        let opts = options(self.grant, self.period, self.stack_bytes, !self.cpus.is_empty());
        let thread = Proc(u32::try_from(tid).unwrap_or(0));
        if self.cpus.is_empty() {
            return match Counter::new(Software::CpuClock, (thread, Cpu::ALL), &opts) {
                Ok(counter) => self.rings.attach(u32::try_from(tid).unwrap_or(0), counter, self.opened.len()),
                Err(e) => gone_is_fine(e),
            };
        }
        for cpu in self.cpus.clone() {
            match Counter::new(Software::CpuClock, (thread, Cpu(cpu)), &opts) {
                Ok(counter) => self.rings.attach(cpu, counter, self.cpus.len())?,
                Err(e) => gone_is_fine(e)?,
            }
        }
        Ok(())
    }

    /// Unwinds the samples that were read.
    fn unwind(&mut self) {
        let nanos = saturating_nanos(self.period);
        for (registers, stack) in self.rings.take() {
            self.stacks.add(self.space.unwind(&registers, &stack), nanos);
        }
    }

    /// Gives events to threads that have none: those that were started by a thread before it had its own.
    fn scan_threads(&mut self) -> io::Result<()> {
        for tid in proc::threads(self.pid)? {
            if self.opened.contains(&tid)
                || self.rings.sampled.contains(&tid)
                || self.rings.events() >= MAX_EVENTS
            {
                continue;
            }
            let used = thread_ticks(self.pid, tid);
            let first = *self.unsampled.entry(tid).or_insert(used);
            if !self.grant.inherit || self.cpus.is_empty() || used.saturating_sub(first) >= UNSAMPLED_TICKS {
                self.open_thread(tid)?;
            }
        }
        Ok(())
    }
}

impl Capture for PerfSampler {
    /// A third of the time in which a ring of one CPU fills.
    fn interval(&self) -> Option<Duration> {
        let held = (4096_u32 << self.rings.most_pages()) / (self.stack_bytes + 128);
        Some((self.period * held / 3).clamp(Duration::from_millis(5), Duration::from_millis(100)))
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.rings.read();
        self.unwind();
        let now = Instant::now();
        if let Ok(ticks) = cpu_ticks(self.pid, self.grant.kernel) {
            self.ticks.1 = self.ticks.1.max(ticks);
        }
        if let Ok(ticks) = kernel_ticks(self.pid) {
            self.kernel_ticks.1 = self.kernel_ticks.1.max(ticks);
        }
        if now >= self.next_scan {
            let inherits = self.grant.inherit && !self.cpus.is_empty();
            self.next_scan = now + RESCAN[usize::from(!inherits)];
            // A target on its way out has no threads; the session notices that.
            if let Err(error) = self.scan_threads() {
                tracing::debug!(process.pid = self.pid, %error, "failed to open perf events for new threads");
            }
        }
        if now >= self.next_refresh && self.stacks.leave(&self.space) {
            self.next_refresh = now + RESCAN[0];
            let _gone = self.space.refresh();
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let slice = into.kind(ProfileKind::Cpu)?;
        self.rings.read();
        let _gone = self.space.refresh();
        self.space.refresh_jit_names();
        self.unwind();
        let Self { rings, stacks, space, symbols, .. } = self;
        // Names take time, seconds for a large program: the rings must not overflow meanwhile.
        stacks.drain(space, &mut symbols.borrow_mut(), slice, &mut || rings.read())
    }

    fn tally(&self) -> Tally {
        let used = (self.ticks.1 - self.ticks.0).saturating_mul(TICK_NANOS);
        let expected = used / saturating_nanos(self.period).max(1);
        let (taken, lost) = (self.rings.taken, self.rings.lost);
        let mut notes = super::notes(&self.space, lost, taken);
        if expected > 20 && taken + lost < expected * 7 / 10 {
            notes.push(format!(
                "only {taken} of {expected} samples expected from the CPU time were taken: threads that live \
                 shorter than a sampling period are missed"
            ));
        }
        let unseen = if self.grant.kernel { 0 } else { self.kernel_ticks.1 - self.kernel_ticks.0 };
        let unseen_kernel = unseen.saturating_mul(TICK_NANOS);
        let lacking = super::lacking(&self.runtime, self.stacks.unnamed(), taken, self.space.naming_advice());
        Tally { expected: Some(expected), taken, lost, notes, unseen_kernel, lacking, ..Tally::default() }
    }

    fn stop(&mut self, _by: Instant) {
        self.unwind();
        self.rings.close();
    }
}

/// What the kernel lets us do with a thread: best first, the error of the last attempt otherwise.
fn probe(tid: i32, period: Duration, stack_bytes: u32) -> io::Result<Grant> {
    let grants = [(true, true), (false, true), (true, false), (false, false)]
        .map(|(kernel, inherit)| Grant { kernel, inherit });
    let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
    let cpu = online_cpus().first().copied().unwrap_or(0);
    for grant in grants {
        let opts = options(grant, period, stack_bytes, true);
        match Counter::new(Software::CpuClock, (Proc(u32::try_from(tid).unwrap_or(0)), Cpu(cpu)), &opts) {
            Ok(_) => return Ok(grant),
            Err(e) => refusal = e,
        }
    }
    Err(refusal)
}

fn options(grant: Grant, period: Duration, stack_bytes: u32, per_cpu: bool) -> Opts {
    let mut opts = Opts {
        sample_on: SampleOn::Count(saturating_nanos(period)),
        exclude: Priv { kernel: !grant.kernel, hv: true, ..Priv::default() },
        inherit: (grant.inherit && per_cpu).then_some(Inherit::NewThread),
        ..Opts::default()
    };
    opts.sample_format.user_regs = Some(RegsMask(PERF_MASK));
    opts.sample_format.user_stack = Some(Size(stack_bytes));
    opts.record_id_format.task = true;
    opts
}

/// A count at the start and now, which are the same at first; one that cannot be read counts from zero.
fn both(count: io::Result<u64>) -> (u64, u64) {
    let count = count.unwrap_or(0);
    (count, count)
}

/// A thread or CPU that is gone needs no event.
fn gone_is_fine(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENODEV) => Ok(()),
        _ => Err(error),
    }
}

/// CPUs to open events on; none where each thread shall have one event instead.
fn layout(cpus: Vec<u32>, threads: usize, inherit: bool, files: usize) -> Vec<u32> {
    let fits = threads.saturating_mul(cpus.len()) <= files.min(MAX_EVENTS);
    if inherit && fits { cpus } else { Vec::new() }
}

fn file_budget() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(SPARE_FILES)
}

fn online_cpus() -> Vec<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = parse_cpus(&text);
    let count = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    if cpus.is_empty() { (0..count).collect() } else { cpus }
}

/// `0-3,8` → 0, 1, 2, 3, 8; at most 4096.
fn parse_cpus(text: &str) -> Vec<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().take(4096).collect()
}

/// CPU time of the process in clock ticks.
fn cpu_ticks(pid: i32, kernel: bool) -> io::Result<u64> {
    proc::stat(pid).map(|s| if kernel { s.user_ticks + s.system_ticks } else { s.user_ticks })
}

/// CPU time of the process in the kernel, in clock ticks.
fn kernel_ticks(pid: i32) -> io::Result<u64> {
    proc::stat(pid).map(|s| s.system_ticks)
}

fn thread_ticks(pid: i32, tid: i32) -> u64 {
    proc::thread_stat(pid, tid).map_or(0, |s| s.user_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed() {
        assert_eq!(parse_cpus("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cpus("0\n"), [0]);
        assert_eq!(parse_cpus(""), [0_u32; 0]);
        assert_eq!(parse_cpus("0-4294967295").len(), 4096);
    }

    #[test]
    fn events_for_each_cpu_only_where_the_files_suffice() {
        let cpus: Vec<u32> = (0..64).collect();
        assert_eq!(layout(cpus.clone(), 10, true, 1000), cpus);
        assert_eq!(layout(cpus.clone(), 16, true, 1000), [0_u32; 0]);
        assert_eq!(layout(cpus, 1, false, 1000), [0_u32; 0]);
    }
}
