//! Where does a PHP target spend its CPU time? Its interpreter's own frames, read without stopping it.
//!
//! Each turn reads the stack of the thread that runs PHP, which is the first one of the process, if it is on a
//! CPU. A stack is worth the CPU time that the thread used since it was last counted. PHP that was built for
//! several threads (ZTS: FrankenPHP, some Apache modules) keeps its state elsewhere, and is left to the native
//! collector.

mod frames;
mod memory;

use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Frame;

use self::frames::{Frames, Look};
use self::memory::ProcessMemory;
use super::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use super::cpu_time::{ThreadTimes, most_worth};
use super::named_stacks::{self, Stacks, torn_note};
use super::protocol::{Failure, FailureReason};
use super::runtime::Runtime;
use super::schedule::saturating_nanos;
use super::sight::Sight;
use super::slices::{Slice, Slices};
use super::variables::{self, Presence};
use crate::proc::{self, Mapping};

/// Where PHP keeps its state.
const GLOBALS: &str = "executor_globals";
/// Why PHP cannot be read.
const NO_GLOBALS: &str = "PHP has no symbol executor_globals, by which its stacks are found: it was built for \
                          threads (ZTS), or its symbols were removed; use a build without ZTS";
/// The frame for CPU time while no PHP function runs: requests that are read, scripts that are compiled.
const NO_CODE: &str = "[no PHP code]";
/// The frame for CPU time of other threads.
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
        &[ProfileKind::Cpu]
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
        let sampler = PhpSampler::attach(ask.sight.pid, ask.frequency_hz)?;
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
    stacks: Stacks,
    taken: u64,
    failed: u64,
}

impl PhpSampler {
    fn attach(pid: i32, frequency_hz: u32) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| refused(pid, &e);
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(refused)?;
        let maps = proc::maps(pid).map_err(refused)?;
        let exe = exe.to_string_lossy();
        let found = variables::addresses(pid, &maps, program(&maps, &exe), [GLOBALS]);
        let globals = match found {
            Ok([Some(globals)]) => globals,
            Ok([None]) => return Err(unsupported(NO_GLOBALS)),
            Err(e) => {
                return Err(unsupported(&format!("the program of PHP process {pid} cannot be read: {e}")));
            }
        };
        let memory = ProcessMemory::open(pid).map_err(refused)?;
        let mut frames = Frames::new(memory, globals);
        if !is_understood(&mut frames) {
            let text = format!("the stack of PHP process {pid} is not as in PHP 7.4 to 8.4");
            return Err(unsupported(&text));
        }
        Ok(Self {
            pid,
            frames,
            times: ThreadTimes::start(pid).map_err(refused)?,
            period: Duration::from_secs(1) / frequency_hz.max(1),
            names: named_stacks::Frames::default(),
            stacks: Stacks::default(),
            taken: 0,
            failed: 0,
        })
    }

    fn add(&mut self, look: Look, nanos: u64) {
        let stack = match look {
            Look::Stack(stack) => {
                stack.iter().map(|f| self.names.number(&f.name(), &f.function.file, f.line)).collect()
            }
            Look::Idle => vec![self.names.number(NO_CODE, "", 0)],
            Look::Torn => return self.failed += 1,
        };
        self.taken += 1;
        self.times.count(self.pid, nanos);
        self.stacks.add((), stack, most_worth(nanos, self.period), &mut self.names);
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
        Some(self.period)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let nanos = self.times.uncounted(self.pid);
        if nanos == 0 || !self.times.runnable(self.pid) {
            self.taken += 1;
            return Ok(());
        }
        let look = self.frames.look();
        self.add(look, nanos);
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let slice = into.kind(ProfileKind::Cpu)?;
        self.stacks.drain(&std::mem::take(&mut self.names), slice)?;
        self.drain_other_threads(slice)?;
        self.frames.forget();
        Ok(())
    }

    fn tally(&self) -> Tally {
        let notes = torn_note(self.failed, self.taken + self.failed).into_iter().collect();
        Tally { taken: self.taken, lost: self.failed, notes, ..Tally::default() }
    }

    /// Nothing was done to the target.
    fn stop(&mut self, _by: Instant) {}
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
        let failure = PhpSampler::attach(i32::MAX, 99).map(drop).unwrap_err();
        assert_eq!(failure.reason, FailureReason::NoSuchProcess);
    }
}
