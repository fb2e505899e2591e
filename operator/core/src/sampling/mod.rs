//! How many pods of a workload does a round capture, for how long and how often, so that it has the samples that
//! its policy asks for (`sampling.samplesPerHour`)?
//!
//! ```text
//! sessions ─► past ─► samples per tick ─┐
//! goal of a round, limits of the policy ┴─► enough as before? ─► the same effort
//!                                               └── too few, too many ─► pods ─► seconds ─► Hz
//! ```
//! A tick is one look at one pod: a pod has `seconds × Hz` of them. What a tick gives is the number of cores that
//! the pod keeps busy, so it says how much effort a number of samples takes, whatever the effort was before.
//!
//! Nothing is remembered but the sessions themselves. An effort is kept while what it is expected to give lies
//! between the goal and [`MOST`] times of it, so that load which goes up and down a little changes nothing.

mod past;

use fleetprof_crds::ProfilingPolicySpec;
use jiff::Timestamp;

use crate::schedule::Plan;
pub use past::{Past, Round};

/// A new effort aims this much above the goal: less load than before is not too few samples at once.
const AIM: f64 = 1.3;
/// An effort that is expected to give more than this many times the goal is too much.
pub const MOST: f64 = 2.0;
/// Shorter captures see a moment rather than the app, and cost more to start than to run. Seconds.
pub const SHORTEST: u32 = 30;
/// Captures last a multiple of this, so that they look alike. Seconds.
const STEP: u32 = 5;
/// Lower rates miss what is short. Hz.
pub const SLOWEST: u32 = 11;
/// From one round to the next, the number of pods at most grows to so many times: agents are attached to pods that
/// have none, and a workload that only rests for a moment does not need many.
const GROWTH: usize = 2;
/// So many rounds tell what a workload gives.
pub const ROUNDS: usize = 4;

/// What a round does with a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Pods to capture, at least 1.
    pub pods: usize,
    /// How long each of them is captured, in seconds.
    pub seconds: u32,
    /// Samples per second, in Hz.
    pub frequency_hz: u32,
}

impl Effort {
    /// How many times a pod is looked at, over all pods.
    fn ticks(self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let pods = self.pods as f64;
        pods * f64::from(self.seconds) * f64::from(self.frequency_hz)
    }

    /// The same within other limits.
    fn within(self, most: Self) -> Self {
        Self {
            pods: self.pods.min(most.pods).max(1),
            seconds: self.seconds.min(most.seconds),
            frequency_hz: self.frequency_hz.min(most.frequency_hz),
        }
    }
}

/// How many samples the rounds of a policy are to have of each workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Samples of one round, so that on average there are as many per hour as the policy asks for.
    samples: f64,
    /// The most that the policy allows.
    most: Effort,
}

impl Goal {
    /// The goal of the policy with this UID; `None` without `sampling.samplesPerHour`, or without a next round.
    #[must_use]
    pub fn of(policy_uid: &str, spec: &ProfilingPolicySpec, now: Timestamp) -> Option<Self> {
        let per_hour = f64::from(spec.sampling.samples_per_hour?);
        let gap = Plan::read(policy_uid, &spec.schedule).ok()?.gap(now)?;
        #[allow(clippy::cast_precision_loss)]
        let samples = per_hour * gap.max(1) as f64 / 3600.0;
        let most = Effort {
            pods: usize::try_from(spec.sampling.replicas_per_workload).unwrap_or(1),
            seconds: spec.schedule.duration.as_secs(),
            frequency_hz: u32::try_from(spec.frequency_hz).unwrap_or(1),
        };
        Some(Self { samples, most })
    }

    /// The effort of the next round for a workload that has so many pods and had these rounds, the newest first.
    ///
    /// Without any, it is what a policy does by default: one pod, for as long and as often as the policy allows.
    #[must_use]
    pub fn effort(&self, pods: usize, past: &[Round]) -> Effort {
        let most = Effort { pods: self.most.pods.min(pods).max(1), ..self.most };
        let Some(newest) = past.first() else { return Effort { pods: 1, ..most } };
        let before = newest.effort.within(most);
        // Nothing was captured: slots were taken, or agents failed. More effort does not help.
        let Some(per_tick) = past::samples_per_tick(past) else { return before };
        let expected = per_tick * before.ticks();
        if (self.samples..=self.samples * MOST).contains(&expected) {
            return before;
        }
        let most = Effort { pods: most.pods.min(before.pods.saturating_mul(GROWTH)), ..most };
        smallest(self.samples * AIM / per_tick, most)
    }
}

/// The smallest effort of at least so many ticks: few pods rather than short captures, which show one moment, and
/// short captures rather than slow ones, which miss what is short. At most `most`.
fn smallest(ticks: f64, most: Effort) -> Effort {
    let of_pod = Effort { pods: 1, ..most }.ticks();
    let pods = up(ticks / of_pod).clamp(1, most.pods as u64);
    #[allow(clippy::cast_precision_loss)]
    let each = ticks / pods as f64;
    let seconds = up(each / f64::from(most.frequency_hz)).next_multiple_of(STEP.into());
    let seconds = within(seconds, SHORTEST, most.seconds);
    let frequency_hz = match seconds > SHORTEST {
        true => most.frequency_hz,
        false => within(prime_from(up(each / f64::from(seconds.max(1)))), SLOWEST, most.frequency_hz),
    };
    Effort { pods: usize::try_from(pods).unwrap_or(1), seconds, frequency_hz }
}

/// The next whole number, at most some 10⁹: also of what is infinite, as with apps that gave no sample.
fn up(number: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = number.ceil().clamp(0.0, 1e9) as u64;
    whole
}

/// `number` between `least` and `most`; `most` where it is less than `least`.
fn within(number: u64, least: u32, most: u32) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(least).min(most)
}

/// The first prime number from here on: such a rate does not keep step with timers of the app. Numbers above 1000,
/// which is more than any policy allows, are given back.
fn prime_from(number: u64) -> u64 {
    let is_prime = |n: &u64| *n > 1 && (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    if number > 1000 { number } else { (number..).find(is_prime).unwrap_or(number) }
}
