//! Where does the time of Java's threads pass, whether they run or wait? Java prints the stacks of all of them
//! (`Thread.print`), several times a second.
//!
//! Java stops all threads until the last stack is printed: some hundredths of a millisecond for each. So the time of
//! an answer counts as its cost, which has it asked for seldom where there are many threads, and not at all where
//! there are very many.
//!
//! Java tells what threads wait for. Whether one that is ready ran, or waited for a CPU, the scheduler has counted.

use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::read::thread_dump::{self, DumpLimits, for_each_thread};

use super::attach::{Attach, Deadline};
use crate::capture::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use crate::capture::kernel_threads::KernelThreads;
use crate::capture::looks::{Doing, Looks, Seen, Telling};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::runtime::Runtime;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;

/// The command that has Java print all stacks.
const PRINT: &str = "Thread.print";
/// Most threads of a process that is asked. With 2,000 it stood still for 60 to 120 ms at a time.
const MOST_THREADS: usize = 1_000;
/// How long Java may take to listen.
const LISTENS: Duration = Duration::from_secs(10);

/// Wall time of Java: a row of its own, since it does not need the recorder.
pub struct JvmThreads;

/// The row of the table of collectors.
pub const JVM_THREADS: JvmThreads = JvmThreads;

impl Collector for JvmThreads {
    fn name(&self) -> &'static str {
        "jvm-threads"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Wall]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Jvm {
            return Vec::new();
        }
        self.offered(super::obstacle(sight))
    }
}

impl Attaches for JvmThreads {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let pid = ask.sight.pid;
        let deadline = Deadline { by: Instant::now() + LISTENS, is_aborted: &|| false };
        let threads = Threads { attach: Attach::open(pid, deadline)?, kernel: KernelThreads::new(pid) };
        let looks = Looks::begin(threads, ask.frequency_hz)?;
        let why = "Java prints the stacks of its threads".to_owned();
        Ok(Attached {
            method: "thread-dump",
            why,
            capture: Box::new(ThreadLooks(looks)),
            refused: Vec::new(),
        })
    }
}

/// The capture.
struct ThreadLooks(Looks);

impl Capture for ThreadLooks {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.0.drain(into)
    }

    fn tally(&self) -> Tally {
        self.0.tally()
    }

    fn ending(&mut self) {
        self.0.recording().ending();
    }

    fn stop(&mut self, by: Instant) {
        self.0.recording().stop(by);
    }
}

/// Java, asked for its threads.
struct Threads {
    attach: Attach,
    kernel: KernelThreads,
}

impl Telling for Threads {
    type Answer = String;

    const WHAT: &'static str = "Java threads";

    fn ask(&mut self, by: Instant, is_aborted: &dyn Fn() -> bool) -> Result<(String, Duration), Failure> {
        let threads = self.kernel.count();
        if threads > MOST_THREADS {
            return Err(too_many(threads));
        }
        let asked = Instant::now();
        let most = DumpLimits::default().bytes;
        let answer = self.attach.long_command(PRINT, most, Deadline { by, is_aborted })?;
        Ok((answer, asked.elapsed()))
    }

    fn add(&mut self, answer: &String, seen: &mut Seen) -> Result<(), Failure> {
        self.kernel.begin();
        let read = for_each_thread(answer, &DumpLimits::default(), |thread| {
            let doing = match (thread.doing, thread.tid) {
                (thread_dump::Doing::Waits(wait), _) => Doing::Blocked(wait),
                (thread_dump::Doing::Native(wait), tid) => match tid {
                    Some(tid) if self.kernel.is_ready(tid) => self.kernel.counted(tid),
                    _ => Doing::Blocked(wait),
                },
                (thread_dump::Doing::Ready, Some(tid)) => self.kernel.counted(tid),
                (thread_dump::Doing::Ready, None) => Doing::Counted { ran: 0, delayed: 0 },
            };
            seen.add(&thread.frames(), 1, doing);
        });
        let useless = |e| format!("what Java prints of its threads is of no use: {e}");
        read.map(|_threads| ()).map_err(|e| Failure::new(FailureReason::UnsupportedRuntime, useless(e)))
    }
}

fn too_many(threads: usize) -> Failure {
    let text = format!(
        "wall time of Java with more than {MOST_THREADS} threads is not captured, because Java stops all of them \
         while it prints their stacks; this process has {threads}"
    );
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::sight::Arguments;

    #[test]
    fn wall_time_is_offered_of_java_that_accepts_commands() {
        let offers = |runtime, arguments: &[u8]| {
            let sight = Sight { arguments: Arguments::parse(arguments), ..Sight::new(1, runtime) };
            JVM_THREADS.offers(&sight)
        };
        assert!(offers(Runtime::Jvm, b"java")[0].problem.is_none());
        assert!(offers(Runtime::Jvm, b"java\0-XX:+DisableAttachMechanism")[0].problem.is_some());
        assert_eq!(offers(Runtime::Node, b"node"), []);
    }
}
