//! What does the heap of Java hold? It counts its objects by class (`GC.class_histogram -all`), once, when the
//! capture ends.
//!
//! Java stops all threads while it counts, for about half a second for each gigabyte. With `-all` it counts what
//! no longer is reachable as well: without, it would collect all garbage first, which takes several times as
//! long. A heap so large that it would stand still for long is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::read::class_histogram::{self, HistogramLimits, heap_used};

use super::attach::{Attach, Deadline};
use crate::capture::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::recording::{Line, Recording};
use crate::capture::runtime::Runtime;
use crate::capture::schedule::saturating_nanos;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;

/// The command that has Java count its objects, without a collection before.
const COUNT: &str = "GC.class_histogram -all";
/// The command that has Java tell how much of the heap is in use.
const INFO: &str = "GC.heap_info";
/// Most bytes of a heap that is counted: Java stands still for a second or so.
const MOST_HEAP: u64 = 2 << 30;
/// How long Java may take to listen, and to say how large its heap is.
const ANSWERS: Duration = Duration::from_secs(10);
/// How long Java may take to count: less than what a capture waits for its end.
const COUNTS: Duration = Duration::from_secs(4);
/// Longer than this is said.
const LONG: Duration = Duration::from_millis(100);

/// The heap of Java: a row of its own, since it does not need the recorder.
pub struct JvmHeap;

/// The row of the table of collectors.
pub const JVM_HEAP: JvmHeap = JvmHeap;

impl Collector for JvmHeap {
    fn name(&self) -> &'static str {
        "jvm-heap"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Heap]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Jvm {
            return Vec::new();
        }
        self.offered(super::obstacle(sight))
    }
}

impl Attaches for JvmHeap {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let deadline = Deadline { by: Instant::now() + ANSWERS, is_aborted: &|| false };
        let heap = Heap { attach: Attach::open(ask.sight.pid, deadline)?, took: Arc::default() };
        heap.is_countable(deadline)?;
        let (took, until) = (Arc::clone(&heap.took), ask.until);
        let recording = Recording::start(move |line| heap.count_at_end(line, until))?;
        let why = "Java counts the objects of its heap by class at the end of the capture".to_owned();
        let capture = Box::new(Histogram { recording, took });
        Ok(Attached { method: "class-histogram", why, capture, refused: Vec::new() })
    }
}

/// The capture.
struct Histogram {
    recording: Recording,
    /// How long Java took to count, in nanoseconds.
    took: Arc<AtomicU64>,
}

impl Capture for Histogram {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.recording.drain(into)
    }

    fn tally(&self) -> Tally {
        let took = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        let taken = self.recording.samples();
        Tally {
            expected: Some(taken),
            taken,
            notes: stood_still(took).into_iter().collect(),
            failures: self.recording.failures(),
            ..Tally::default()
        }
    }

    fn ending(&mut self) {
        self.recording.ending();
    }

    fn stop(&mut self, by: Instant) {
        self.recording.stop(by);
    }
}

/// Says how long Java stood still, where that was long.
fn stood_still(took: Duration) -> Option<String> {
    (took > LONG).then(|| {
        format!(
            "Java stopped all threads for up to {:.1} s to count the objects of its heap",
            took.as_secs_f64()
        )
    })
}

/// Java, asked for its heap.
struct Heap {
    attach: Attach,
    took: Arc<AtomicU64>,
}

impl Heap {
    fn count_at_end(&self, line: &Line, until: Instant) {
        line.wait(until);
        if line.is_aborted() {
            return;
        }
        // Whoever stops a capture early does not want Java to stand still for it, and a process that is gone has no
        // heap.
        if Instant::now() < until {
            let why = "the capture ended early, and Java counts its heap at the end only";
            return line.fail(ProfileKind::Heap, unsupported(why.to_owned()));
        }
        match self.count(&|| line.is_aborted()) {
            Ok(text) => line.give(
                ProfileKind::Heap,
                Box::new(move || {
                    let read = class_histogram::read(&text, &HistogramLimits::default());
                    read.map_err(|e| unsupported(format!("what Java prints of its heap is of no use: {e}")))
                }),
            ),
            Err(failure) => line.fail(ProfileKind::Heap, failure),
        }
    }

    fn count(&self, is_aborted: &dyn Fn() -> bool) -> Result<String, Failure> {
        let asked = Instant::now();
        let deadline = Deadline { by: asked + COUNTS, is_aborted };
        // It may have grown since the capture began.
        self.is_countable(deadline)?;
        let asked = Instant::now();
        let answer = self.attach.long_command(COUNT, HistogramLimits::default().bytes, deadline);
        self.took.store(saturating_nanos(asked.elapsed()), Ordering::Relaxed);
        answer
    }

    /// # Errors
    /// The heap is too large, or Java does not say how large it is.
    fn is_countable(&self, deadline: Deadline<'_>) -> Result<(), Failure> {
        let answer = self.attach.command(INFO, deadline)?;
        match heap_used(&answer) {
            Some(used) if used > MOST_HEAP => Err(too_large(used)),
            Some(_) => Ok(()),
            None => Err(unsupported("Java does not say how much of its heap is in use".to_owned())),
        }
    }
}

fn too_large(used: u64) -> Failure {
    unsupported(format!(
        "a heap of more than {} MB is not counted, because Java stops all threads meanwhile; {} MB of this one \
         are in use. Profile alloc instead, or take a heap dump of a process that may stand still",
        MOST_HEAP >> 20,
        used >> 20
    ))
}

fn unsupported(text: String) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::sight::Arguments;

    #[test]
    fn the_heap_is_offered_of_java_that_accepts_commands() {
        let offers = |runtime, arguments: &[u8]| {
            let sight = Sight { arguments: Arguments::parse(arguments), ..Sight::new(1, runtime) };
            JVM_HEAP.offers(&sight)
        };
        assert!(offers(Runtime::Jvm, b"java")[0].problem.is_none());
        assert!(offers(Runtime::Jvm, b"java\0-XX:+DisableAttachMechanism")[0].problem.is_some());
        assert_eq!(offers(Runtime::Node, b"node"), []);
    }

    #[test]
    fn what_it_costs_is_said_where_it_is_much() {
        assert_eq!(stood_still(Duration::from_millis(99)), None);
        assert!(stood_still(Duration::from_millis(420)).is_some_and(|said| said.contains("up to 0.4 s")));
        let refused = too_large(3 << 30).message;
        assert!(refused.contains("2048 MB") && refused.contains("3072 MB"), "{refused}");
    }
}
