//! What is a collector, and what is a capture that it began? The seam between the runtimes and the session.
//!
//! ```text
//! process ─► Sight ─► Collector::offers    before an order: which kinds, or why not
//!                 └─► Attaches::attach ──► Capture: (turn ─►)* drain … stop ─► drain
//! ```
//! A runtime is one module with one row in `collectors`. A *sampler* has turns: stacks are taken one after
//! another by the session's clock. A *recording* has none: the target, or a thread of the collector, records
//! by itself, and hands over what it has when a slice ends.
//!
//! The program that waits in every pod asks for offers alone, so that the linker leaves out of it what attaches:
//! it must stay small.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{Offer, Problem};
use fleetprof_crds::{ProfileKind, Reason};

use super::dotnet::EVENT_PIPE;
use super::go::GO_PPROF;
use super::jvm::{JFR, JVM_HEAP, JVM_THREADS};
use super::native::{NATIVE, NATIVE_WALL, Shared};
use super::node::INSPECTOR;
use super::php::PHP;
use super::protocol::{Failure, MAX_NOTES};
use super::python::PYTHON;
use super::ruby::{RBSPY, RUBY_THREADS};
use super::sight::Sight;
use super::slices::Slices;

/// Every collector, the preferred ones first: each kind is captured by the first one that offers it.
macro_rules! collectors {
    () => {
        &[
            &PYTHON,
            &GO_PPROF,
            &JFR,
            &JVM_THREADS,
            &JVM_HEAP,
            &INSPECTOR,
            &EVENT_PIPE,
            &RBSPY,
            &RUBY_THREADS,
            &PHP,
            &NATIVE,
            &NATIVE_WALL,
        ]
    };
}

/// Every collector, as far as it tells what it captures.
pub const COLLECTORS: &[&dyn Collector] = collectors!();

/// Every collector, to capture with: of a worker alone.
pub const ATTACHING: &[&dyn Attaches] = collectors!();

/// What captures processes of one runtime, as far as it says what it captures.
pub trait Collector: Sync {
    /// Its name: `python`, `go-pprof`, `native`. Goes over the wire and into statuses.
    fn name(&self) -> &'static str;

    /// The kinds that it captures where nothing is in the way.
    fn kinds(&self) -> &'static [ProfileKind];

    /// What it captures of a process, or why it cannot. Does nothing to the process; kinds that it never
    /// captures of such a process are left out, or refused where there is something to say.
    fn offers(&self, sight: &Sight) -> Vec<Offer>;

    /// An offer for each of its kinds, with what is in the way of all of them.
    fn offered(&self, problem: Option<&str>) -> Vec<Offer> {
        let problem =
            problem.map(|text| Problem { reason: Reason::UnsupportedRuntime, message: text.to_owned() });
        let offer =
            |kind: &ProfileKind| Offer { problem: problem.clone(), ..Offer::good(*kind, self.name()) };
        self.kinds().iter().map(offer).collect()
    }
}

/// A collector, as it captures.
pub trait Attaches: Collector {
    /// Begins to capture the kinds of [`Ask::kinds`], as the user that the worker runs as.
    ///
    /// # Errors
    /// `UnsupportedRuntime` where the next collector may be tried for these kinds; other failures are final.
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure>;

    /// Whether a process of its runtime may not be ready yet when it is seen: then no other collector takes
    /// its place before [`Ask::is_last_try`].
    fn waits_for_start(&self) -> bool {
        false
    }
}

/// What to capture of a process, and how.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The process.
    pub sight: &'a Sight,
    /// What to capture: at least one kind.
    pub kinds: &'a [ProfileKind],
    /// Samples a second, for kinds that are taken at a rate.
    pub frequency_hz: u32,
    /// Length of a slice.
    pub slice: Duration,
    /// When the capture ends, if nothing ends it sooner.
    pub until: Instant,
    /// How many processes share what the kernel lends for sampling.
    pub sharers: usize,
    /// Attempts to find an interpreter: a process that starts may not have its own yet.
    pub attempts: u64,
    /// Most bytes of memory that a profile of another program may take.
    pub memory: usize,
    /// Whether the process is not looked at again where it cannot be captured now.
    pub is_last_try: bool,
    /// What the native collectors of a capture have in common.
    pub shared: &'a Shared,
}

/// A capture that has begun.
pub struct Attached {
    /// What it captures with: `cpython`, `py-spy`, `perf`, `ptrace`.
    pub method: &'static str,
    /// A sentence on why this method was chosen.
    pub why: String,
    /// The capture.
    pub capture: Box<dyn Capture>,
    /// Kinds of [`Ask::kinds`] that it does not capture after all, and why, as [`Attaches::attach`] says it.
    pub refused: Vec<(ProfileKind, Failure)>,
}

/// The capture of one process by one collector.
///
/// [`Capture::stop`] is called on every way out: at the end, on a failure, on SIGTERM, and when the capture
/// is dropped. Where the worker is ended by its watchdog, what was given to [`super::undo`] is done instead.
pub trait Capture {
    /// Distance of its turns; `None` for a recording, which needs none.
    fn interval(&self) -> Option<Duration>;

    /// Takes one turn.
    ///
    /// # Errors
    /// The process cannot be captured any more.
    fn turn(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Moves what was collected since the last time into the slices of its kinds. Waits for nobody.
    ///
    /// # Errors
    /// The slice cannot hold it: fleetprof's own fault. A kind that brings nothing is told by
    /// [`Tally::failures`].
    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure>;

    /// What it has to say so far.
    fn tally(&self) -> Tally;

    /// Is told that [`Capture::stop`] follows soon, so that several captures end at the same time.
    fn ending(&mut self) {}

    /// Undoes what was done to the target and gives back what the kernel lent. There are no more turns; what
    /// was collected stays for one more drain. Returns soon after `by`, also where the target does not
    /// answer. Harmless twice.
    fn stop(&mut self, by: Instant);
}

/// What a capture has to say of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that should have been taken, where it is not the number of turns.
    pub expected: Option<u64>,
    /// Samples (or turns) that were taken.
    pub taken: u64,
    /// Samples that were taken but lost.
    pub lost: u64,
    /// Sentences on the quality of the capture.
    pub notes: Vec<String>,
    /// CPU time in the kernel that the sampler may not see, in nanoseconds.
    pub unseen_kernel: u64,
    /// Kinds that were to be captured and could not be, and why.
    pub failures: BTreeMap<ProfileKind, Failure>,
    /// What to do where a kind has no samples, as a part of a sentence.
    pub advice: BTreeMap<ProfileKind, String>,
    /// What the frames do not show, and what helps: a sentence for the target's status.
    pub lacking: Option<String>,
}

impl Tally {
    /// Adds what another capture has to say. Where only one of them knows what to expect, the other's samples
    /// are what was to be expected of it.
    pub fn add(&mut self, other: Self) {
        let or_taken = |tally: &Self| tally.expected.unwrap_or(tally.taken + tally.lost);
        self.expected = match (self.expected, other.expected) {
            (None, None) => None,
            _ => Some(or_taken(self) + or_taken(&other)),
        };
        self.taken += other.taken;
        self.lost += other.lost;
        self.unseen_kernel += other.unseen_kernel;
        self.lacking = self.lacking.take().or(other.lacking);
        for note in other.notes {
            if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        for (kind, failure) in other.failures {
            self.failures.entry(kind).or_insert(failure);
        }
        for (kind, advice) in other.advice {
            self.advice.entry(kind).or_insert(advice);
        }
    }
}

/// The kinds that the collectors capture, in the order of the API.
#[must_use]
pub fn kinds() -> Vec<ProfileKind> {
    let is_captured = |kind: &ProfileKind| COLLECTORS.iter().any(|c| c.kinds().contains(kind));
    ProfileKind::ALL.into_iter().filter(is_captured).collect()
}

/// What can be captured of a process: of each kind the offer of the first collector that has no problem, else
/// the first problem.
#[must_use]
pub fn offers(sight: &Sight) -> Vec<Offer> {
    best(COLLECTORS.iter().flat_map(|collector| collector.offers(sight)))
}

/// Of each kind the first offer without a problem, else the first one; in the order of the API.
#[must_use]
pub fn best(offers: impl IntoIterator<Item = Offer>) -> Vec<Offer> {
    let mut best: BTreeMap<ProfileKind, Offer> = BTreeMap::new();
    for offer in offers {
        let better = |known: &Offer| known.problem.is_some() && offer.problem.is_none();
        if best.get(&offer.kind).is_none_or(better) {
            best.insert(offer.kind, offer);
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::runtime::Runtime;

    fn offer(kind: ProfileKind, collector: &str, problem: Option<&str>) -> Offer {
        let reason = Reason::UnsupportedRuntime;
        let problem = problem.map(|message| Problem { reason, message: message.into() });
        Offer { kind, collector: collector.into(), problem }
    }

    #[test]
    fn the_first_offer_without_a_problem_wins_and_a_problem_is_better_than_nothing() {
        use ProfileKind::{Cpu, Heap};
        let all = [
            offer(Heap, "a", Some("first")),
            offer(Heap, "b", Some("second")),
            offer(Cpu, "a", Some("no")),
            offer(Cpu, "b", None),
            offer(Cpu, "c", None),
        ];
        assert_eq!(best(all), [offer(Cpu, "b", None), offer(Heap, "a", Some("first"))]);
    }

    #[test]
    fn cpu_is_offered_of_every_process() {
        for runtime in [Runtime::Python(None), Runtime::Ruby, Runtime::Go(None), Runtime::Unknown] {
            let offers = offers(&Sight::new(1, runtime.clone()));
            let cpu = offers.iter().find(|offer| offer.kind == ProfileKind::Cpu);
            assert!(cpu.is_some_and(|offer| offer.problem.is_none()), "{runtime}");
        }
    }

    #[test]
    fn every_collector_has_a_name_of_its_own_and_offers_no_more_than_it_captures() {
        let mut names: Vec<&str> = COLLECTORS.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COLLECTORS.len());
        use Runtime::{DotNet, Go, Jvm, Native, Node, Php, Python, Ruby};
        for runtime in [Python(None), Go(None), Native, Jvm, DotNet, Node, Php(None), Ruby] {
            let sight = Sight::new(1, runtime);
            for collector in COLLECTORS {
                for offer in collector.offers(&sight) {
                    let can_be = collector.kinds().contains(&offer.kind) || offer.problem.is_some();
                    assert!(can_be, "{}", collector.name());
                    assert_eq!(offer.collector, collector.name());
                }
            }
        }
        assert!(kinds().contains(&ProfileKind::Cpu) && !kinds().contains(&ProfileKind::Unknown));
    }

    #[test]
    fn tallies_add_up_and_the_first_reason_for_a_kind_stays() {
        let failure = |text: &str| Failure::internal(text);
        let with = |taken, expected, text: &str| Tally {
            taken,
            expected,
            failures: [(ProfileKind::Heap, failure(text))].into(),
            ..Tally::default()
        };
        let mut tally = with(3, None, "first");
        tally.add(with(5, Some(7), "second"));
        assert_eq!((tally.taken, tally.expected), (8, Some(10)));
        assert_eq!(tally.failures[&ProfileKind::Heap], failure("first"));
    }
}
