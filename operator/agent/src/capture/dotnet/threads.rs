//! Where does the time of .NET's threads pass, whether they run or wait? The runtime's own sampler tells the stacks
//! of all threads that are in managed code.
//!
//! ```text
//! session of the sampler, for some milliseconds ─► the first stack of each thread ─► names of methods
//!                                                  its number ─► what the kernel knows of it
//! ```
//! The sampler stops all threads at each of its ticks, a thousand times a second. So its session is open for a few
//! ticks only, several times a second or less.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_profile::read::nettrace::{Event, Limits, Place};
use fleetprof_profile::{Frame, Wait};

use super::ipc::Session;
use super::program::Program;
use super::session::Port;
use crate::capture::cpu_time::cpu_time_of;
use crate::capture::kernel_threads::KernelThreads;
use crate::capture::looks::{Doing, Seen, Telling};
use crate::capture::named_stacks::FrameKey;
use crate::capture::native::TellsMethods;
use crate::capture::protocol::{Failure, FailureReason};

/// Most threads of a process whose sampler is used.
const MOST_THREADS: usize = 1_000;
/// How long the sampler runs: some ticks.
const SAMPLES: Duration = Duration::from_millis(4);
/// The same where it told nothing, at most.
const LONGEST: Duration = Duration::from_millis(64);
/// Frames at the top of a stack that say what a thread waits for.
const TELLING: usize = 12;
/// The frame for code whose method is not known.
const UNNAMED: &str = "[anon]";
/// How the frame for code is written whose method may be told until the slice ends: with its address.
const UNTOLD: &str = "[code at 0x";

/// A runtime that tells what its threads do.
pub struct Threads {
    port: Port,
    limits: Limits,
    program: Arc<Program>,
    kernel: KernelThreads,
    samples: Duration,
    /// What the threads of the last answer do, as the kernel said at the first tick: they run, or wait for this.
    states: BTreeMap<u64, Option<Wait>>,
}

/// The stack of each thread, leaf first, by its number in the process's namespace.
pub type Stacks = BTreeMap<u64, Box<[u64]>>;

impl Threads {
    /// The threads of a process whose methods are known to these.
    pub fn new(pid: i32, port: Port, limits: Limits, program: Arc<Program>) -> Self {
        let (kernel, states) = (KernelThreads::new(pid), BTreeMap::new());
        Self { port, limits, program, kernel, samples: SAMPLES, states }
    }

    /// The stacks at the first tick of a short session.
    fn first_tick(&mut self, by: Instant, is_aborted: &dyn Fn() -> bool) -> Result<Stacks, Failure> {
        let mut session = self.port.start(Session::Threads, self.limits, by)?;
        let begun = Instant::now();
        // The runtime takes a tenth of a second to end a session: until then threads do other things.
        self.kernel.begin();
        let known: Vec<u64> = self.states.keys().copied().collect();
        self.states = known.into_iter().map(|thread| (thread, self.state(thread))).collect();
        std::thread::sleep(self.samples.saturating_sub(begun.elapsed()));
        let mut stacks = Stacks::new();
        session.stop(by, is_aborted, &mut |event| {
            if let Event::Sample { thread, stack } = event
                && !stack.is_empty()
                && stacks.len() < MOST_THREADS
            {
                stacks.entry(thread).or_insert_with(|| stack.into());
            }
        })?;
        Ok(stacks)
    }

    /// What a thread waits for, by the kernel; `None` where it runs, or could.
    fn state(&mut self, thread: u64) -> Option<Wait> {
        let tid = i32::try_from(thread).ok().filter(|tid| !self.kernel.is_ready(*tid))?;
        Some(self.kernel.waits(tid).unwrap_or(Wait::Other))
    }

    fn doing(&mut self, thread: u64, frames: &[Frame<'_>]) -> Doing {
        let known = self.states.get(&thread).copied();
        let state = known.unwrap_or_else(|| self.state(thread));
        self.states.insert(thread, state);
        let Some(by_kernel) = state else {
            return i32::try_from(thread).map_or(Doing::Ready, |tid| self.kernel.counted(tid));
        };
        let by_method = frames.iter().take(TELLING).find_map(|frame| waits(frame.function));
        let tells_all = !matches!(by_kernel, Wait::Futex | Wait::Other);
        Doing::Blocked(if tells_all { by_kernel } else { by_method.unwrap_or(by_kernel) })
    }
}

impl Telling for Threads {
    type Answer = Stacks;

    const WHAT: &'static str = ".NET threads";

    fn ask(&mut self, by: Instant, is_aborted: &dyn Fn() -> bool) -> Result<(Stacks, Duration), Failure> {
        let threads = self.kernel.count();
        if threads > MOST_THREADS {
            return Err(too_many(threads));
        }
        let (asked, used) = (Instant::now(), self.used());
        let mut stacks = self.first_tick(by, is_aborted)?;
        // A busy machine leaves no tick in so short a time.
        while stacks.is_empty() && self.samples < LONGEST {
            self.samples *= 2;
            stacks = self.first_tick(by, is_aborted)?;
        }
        if stacks.is_empty() {
            let text = "the sampler of the .NET runtime told of no thread";
            return Err(Failure::new(FailureReason::UnsupportedRuntime, text));
        }
        Ok((stacks, asked.elapsed().min(self.used().saturating_sub(used))))
    }

    fn add(&mut self, answer: &Stacks, seen: &mut Seen) -> Result<(), Failure> {
        self.states.retain(|thread, _| answer.contains_key(thread));
        for (thread, stack) in answer {
            let places = places(&*self.program, stack);
            let frames: Vec<Frame<'_>> = places.iter().map(Place::frame).collect();
            let doing = self.doing(*thread, &frames);
            seen.add(&frames, 1, doing);
        }
        Ok(())
    }

    fn used(&self) -> Duration {
        cpu_time_of(self.kernel.pid()).unwrap_or_default()
    }
}

/// The methods of a stack. Addresses of callers are those to which is returned.
fn places(methods: &dyn TellsMethods, stack: &[u64]) -> Vec<Place> {
    let place = |(depth, address): (usize, &u64)| {
        let address = if depth == 0 { *address } else { address.saturating_sub(1) };
        let untold = || Place::named(format!("{UNTOLD}{address:x}]").into());
        methods.method(address).unwrap_or_else(untold)
    };
    stack.iter().enumerate().map(place).collect()
}

/// The method, file and line of code that was not told yet when its thread was looked at.
pub fn told(methods: &dyn TellsMethods, name: &str) -> Option<FrameKey> {
    let address = name.strip_prefix(UNTOLD)?.strip_suffix(']')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let place = methods.method(address).unwrap_or_else(|| Place::named(UNNAMED.into()));
    Some((place.name.to_string(), place.file.to_string(), place.line))
}

fn too_many(threads: usize) -> Failure {
    let text = format!(
        "wall time of .NET with more than {MOST_THREADS} threads is not captured, because the runtime stops all of \
         them for their stacks; this process has {threads}"
    );
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

/// What a method waits for, of those that all wait for a futex.
fn waits(method: &str) -> Option<Wait> {
    const WAITS: [(&str, Wait); 12] = [
        ("System.Threading.Lock.", Wait::Lock),
        ("System.Threading.LowLevelLifoSemaphore.", Wait::Condition),
        ("System.Threading.ManualResetEventSlim.Wait", Wait::Condition),
        ("System.Threading.Monitor.Enter", Wait::Lock),
        ("System.Threading.Monitor.ReliableEnter", Wait::Lock),
        ("System.Threading.Monitor.TryEnter", Wait::Lock),
        ("System.Threading.Monitor.ObjWait", Wait::Condition),
        ("System.Threading.Monitor.Wait", Wait::Condition),
        ("System.Threading.Thread.Join", Wait::Condition),
        ("System.Threading.Thread.Sleep", Wait::Sleep),
        ("System.Threading.WaitHandle.", Wait::Condition),
        ("System.Threading.WaitSubsystem", Wait::Condition),
    ];
    WAITS.iter().find(|(begin, _)| method.starts_with(begin)).map(|(_, wait)| *wait)
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::read::nettrace::Method;

    use super::*;

    #[test]
    fn methods_are_named_by_their_addresses_callers_by_where_they_called() {
        let program = Program::new(1, Limits::default());
        let add = |start: u64, end: u64, name: &str| {
            program.methods().add(Method { start, end, name: name.into(), ..Method::default() });
        };
        add(100, 150, "Shop.Pay");
        add(200, 250, "Shop.Order");
        let named = places(&program, &[100, 250, 0x321]);
        let named: Vec<&str> = named.iter().map(|place| &*place.name).collect();
        assert_eq!(named, ["Shop.Pay", "Shop.Order", "[code at 0x320]"]);
        assert_eq!(told(&program, named[2]).unwrap().0, UNNAMED);
        add(0x310, 0x330, "Shop.Late");
        assert_eq!(told(&program, named[2]).unwrap().0, "Shop.Late");
        assert_eq!(told(&program, "Shop.Pay"), None);
    }

    #[test]
    fn the_method_tells_which_futex_it_is() {
        let cases = [
            ("System.Threading.Monitor.Enter", Some(Wait::Lock)),
            ("System.Threading.Thread.SleepInternal", Some(Wait::Sleep)),
            ("System.Threading.WaitHandle.WaitOneCore", Some(Wait::Condition)),
            ("Shop.Pay", None),
        ];
        for (method, wanted) in cases {
            assert_eq!(waits(method), wanted, "{method}");
        }
    }
}
