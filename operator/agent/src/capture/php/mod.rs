//! Where does a PHP target spend its CPU time and its wall time? Its interpreter's own frames, read without
//! stopping it.
//!
//! Each turn reads the stack of the thread that runs PHP, which is the first one of the process. For CPU it
//! counts only while it is on a CPU, and is worth the CPU time that the thread used since it was last counted; what
//! it used before it began to wait went where it was the last time.
//! For wall time it always counts, and is worth the time that has passed. PHP that was built for several
//! threads (ZTS: FrankenPHP, some Apache modules) keeps its state elsewhere, and is left to the native collector.

mod frames;

use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Frame;

use self::frames::{Called, Frames, Look};
use super::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use super::cpu_stacks::CpuStacks;
use super::cpu_time::{ThreadTimes, own_cpu_time};
use super::memory::ProcessMemory;
use super::named_stacks::{self, FrameId, torn_note};
use super::protocol::{Failure, FailureReason};
use super::runtime::Runtime;
use super::schedule::saturating_nanos;
use super::sight::Sight;
use super::slices::{Slice, Slices};
use super::threads_wall::{Sighted, WallTime};
use super::variables::{self, Presence};
use super::wall;
use crate::proc::{self, Mapping};

/// Where PHP keeps its state.
const GLOBALS: &str = "executor_globals";
/// Why PHP cannot be read.
const NO_GLOBALS: &str = "PHP has no symbol executor_globals, by which its stacks are found: it was built for \
                          threads (ZTS), or its symbols were removed; use a build without ZTS";
/// The frame for time while no PHP function runs: requests that are waited for, scripts that are compiled.
const NO_CODE: &str = "[no PHP code]";
/// The frame for time of other threads.
const NATIVE_THREADS: &str = "[threads without PHP code]";
/// How often the stack is looked for in a process that starts, and how far apart.
const LOOKS: u64 = 5;
const AGAIN: Duration = Duration::from_millis(20);

/// The collector.
pub struct Php;

/// The row of the table of collectors.
pub const PHP: Php = Php;

impl Collector for Php {
    fn name(&self) -> &'static str {
        "php"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu, ProfileKind::Wall]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if !matches!(sight.runtime, Runtime::Php(_)) {
            return Vec::new();
        }
        self.offered((sight.variables == Presence::Missing).then_some(NO_GLOBALS))
    }
}

impl Attaches for Php {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let sampler = PhpSampler::attach(ask.sight.pid, ask.frequency_hz, ask.kinds)?;
        let why = format!("the target runs {}, whose stacks can be read", ask.sight.runtime);
        Ok(Attached { method: "php", why, capture: Box::new(sampler), refused: Vec::new() })
    }

    fn waits_for_start(&self) -> bool {
        true
    }
}

/// Whether the interpreter of a PHP process can be found by its symbols.
#[must_use]
pub fn look_for_variables(pid: i32, maps: &[Mapping], exe: &str) -> Presence {
    variables::presence(pid, maps, program(maps, exe), [GLOBALS])
}

/// The file that holds the interpreter: a library where another program loads it.
fn program<'a>(maps: &'a [Mapping], exe: &'a str) -> &'a str {
    let is_library = |path: &&str| path.rsplit('/').next().is_some_and(|name| name.starts_with("libphp"));
    maps.iter().filter_map(Mapping::file).find(is_library).unwrap_or(exe)
}

/// Samples the thread of one process that runs PHP.
struct PhpSampler {
    pid: i32,
    frames: Frames<ProcessMemory>,
    times: ThreadTimes,
    period: Duration,
    names: named_stacks::Frames,
    /// The stacks of CPU time, where that is captured.
    stacks: Option<CpuStacks>,
    /// Wall time, where that is captured.
    wall: Option<WallTime>,
    taken: u64,
    failed: u64,
}

impl PhpSampler {
    fn attach(pid: i32, frequency_hz: u32, kinds: &[ProfileKind]) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| refused(pid, &e);
        let mut frames = Frames::new(ProcessMemory::open(pid).map_err(refused)?, globals(pid)?);
        if !is_understood(&mut frames) {
            let text = format!("the stack of PHP process {pid} is not as in PHP 7.4 to 8.4");
            return Err(unsupported(&text));
        }
        let wall = kinds.contains(&ProfileKind::Wall);
        let cpu_period = Duration::from_secs(1) / frequency_hz.max(1);
        let (period, now) = (wall::period(frequency_hz), Instant::now());
        let wall = wall.then(|| WallTime::start(pid, period, now, NATIVE_THREADS));
        Ok(Self {
            pid,
            frames,
            times: ThreadTimes::start(pid).map_err(refused)?,
            period: cpu_period,
            names: named_stacks::Frames::default(),
            stacks: kinds.contains(&ProfileKind::Cpu).then(|| CpuStacks::new(cpu_period)),
            wall: wall.transpose().map_err(refused)?,
            taken: 0,
            failed: 0,
        })
    }

    /// Takes a sample of CPU time, if there is some to take.
    fn sample(&mut self) {
        let Self { pid, frames, times, names, stacks, .. } = self;
        let Some(stacks) = stacks else { return };
        match stacks.look((times, *pid), names, |names| read(frames, names)) {
            Ok(_) => self.taken += 1,
            Err(Torn) => self.failed += 1,
        }
    }

    /// Counts the wall time up to `now`.
    fn count_wall(&mut self, now: Instant) {
        let before = own_cpu_time();
        let stack = read(&mut self.frames, &mut self.names).ok();
        if self.stacks.is_none() {
            *(if stack.is_some() { &mut self.taken } else { &mut self.failed }) += 1;
        }
        if let Some(wall) = &mut self.wall {
            wall.count(vec![Sighted::new(self.pid, stack)], &mut self.names, now);
            wall.pace.taken(now, own_cpu_time().saturating_sub(before));
        }
    }

    /// Counts what other threads used, such as those of an extension.
    fn drain_other_threads(&mut self, slice: &mut Slice<'_>) -> Result<(), Failure> {
        if self.times.refresh().is_err() {
            return Ok(());
        }
        let period = saturating_nanos(self.period).max(1);
        for tid in self.times.ids().into_iter().filter(|tid| *tid != self.pid) {
            let nanos = self.times.uncounted(tid);
            if nanos >= period {
                self.times.count(tid, nanos);
                slice.add(&[Frame::named(NATIVE_THREADS, "", 0)], nanos / period, nanos)?;
            }
        }
        Ok(())
    }
}

/// PHP changed its stack while it was read.
struct Torn;

/// The stack at this moment.
fn read(frames: &mut Frames<ProcessMemory>, names: &mut named_stacks::Frames) -> Result<Vec<FrameId>, Torn> {
    match frames.look() {
        Look::Stack(stack) => {
            let number = |f: &Called| names.number(&f.name(), &f.function.file, f.line);
            Ok(stack.iter().map(number).collect())
        }
        Look::Idle => Ok(vec![names.number(NO_CODE, "", 0)]),
        Look::Torn => Err(Torn),
    }
}

/// Where the state of a process's interpreter is.
fn globals(pid: i32) -> Result<u64, Failure> {
    let refused = |e: std::io::Error| refused(pid, &e);
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(refused)?;
    let maps = proc::maps(pid).map_err(refused)?;
    match variables::addresses(pid, &maps, program(&maps, &exe.to_string_lossy()), [GLOBALS]) {
        Ok([Some(globals)]) => Ok(globals),
        Ok([None]) => Err(unsupported(NO_GLOBALS)),
        Err(e) => Err(unsupported(&format!("the program of PHP process {pid} cannot be read: {e}"))),
    }
}

/// Whether its stack can be read, or there is none now: a worker that waits for a request has none.
fn is_understood(frames: &mut Frames<ProcessMemory>) -> bool {
    for attempt in 0..LOOKS {
        if attempt > 0 {
            std::thread::sleep(AGAIN);
        }
        if !matches!(frames.look(), Look::Torn) {
            return true;
        }
    }
    false
}

impl Capture for PhpSampler {
    fn interval(&self) -> Option<Duration> {
        Some(match (&self.stacks, &self.wall) {
            (None, Some(wall)) => wall.pace.period(),
            _ => self.period,
        })
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if self.stacks.is_some() {
            self.sample();
        }
        if self.wall.as_ref().is_some_and(|wall| wall.pace.is_due(now)) {
            self.count_wall(now);
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let names = std::mem::take(&mut self.names);
        if let Some(stacks) = &mut self.stacks {
            let slice = into.kind(ProfileKind::Cpu)?;
            stacks.drain(&self.times, &names, slice)?;
            self.drain_other_threads(slice)?;
        }
        if let Some(wall) = &mut self.wall {
            wall.drain(&names, into.kind(ProfileKind::Wall)?)?;
        }
        self.frames.forget();
        Ok(())
    }

    fn tally(&self) -> Tally {
        let turns = self.taken + self.failed;
        let notes = torn_note(self.failed, turns).into_iter().collect();
        // Turns are fewer than the schedule's where they are those of wall time.
        let expected = self.stacks.is_none().then_some(turns);
        Tally { expected, taken: self.taken, lost: self.failed, notes, ..Tally::default() }
    }

    /// Nothing was done to the target; the wall time up to now is counted.
    fn stop(&mut self, _by: Instant) {
        self.stacks.iter_mut().for_each(CpuStacks::close);
        if self.wall.is_some() {
            self.count_wall(Instant::now());
        }
    }
}

fn unsupported(text: &str) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

/// Why a process could not be looked at.
fn refused(pid: i32, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(FailureReason::NoSuchProcess, format!("PHP process {pid} has ended"))
        }
        _ => Failure::unreadable("PHP", pid, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_php_is_offered_and_what_is_in_the_way_is_said() {
        assert_eq!(PHP.offers(&Sight::new(7, Runtime::Ruby)), []);
        for (variables, is_good) in
            [(Presence::Found, true), (Presence::Unknown, true), (Presence::Missing, false)]
        {
            let offers = PHP.offers(&Sight { variables, ..Sight::new(7, Runtime::Php(None)) });
            assert_eq!(offers[0].problem.is_none(), is_good, "{offers:?}");
        }
    }

    #[test]
    fn the_interpreter_is_in_the_library_where_there_is_one() {
        let line = |path: &str| format!("1000-2000 r-xp 00000000 fd:01 7 {path}\n");
        let maps =
            proc::parse_maps(&(line("/usr/sbin/apache2") + &line("/usr/lib/apache2/modules/libphp8.2.so")));
        assert_eq!(program(&maps, "/usr/sbin/apache2"), "/usr/lib/apache2/modules/libphp8.2.so");
        assert_eq!(program(&[], "/usr/bin/php8.2"), "/usr/bin/php8.2");
    }

    #[test]
    fn a_process_that_is_not_there_has_ended() {
        let failure = PhpSampler::attach(i32::MAX, 99, &[ProfileKind::Cpu]).map(drop).unwrap_err();
        assert_eq!(failure.reason, FailureReason::NoSuchProcess);
    }
}
