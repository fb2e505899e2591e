//! A fleet of pods whose profiles vary as those of real ones do, and whose truth is known.

use fleetprof_profile::verdict::{About, Call, FunctionUse, PodCapture, Side};

use crate::random::Random;

/// How many functions have costs of their own.
const FUNCTIONS: usize = 120;
/// How many functions each one calls.
const CALLEES: usize = 3;
/// Nanoseconds for which a sample at 99 Hz stands.
const PERIOD: i64 = 10_101_010;
/// The function of 5 % of the CPU time that gets slower.
pub const LARGE: usize = 50;
/// The one of 1 %.
pub const SMALL: usize = 70;

/// How captures differ from each other though nothing changed.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Variance of shares between pods ÷ what counting alone gives, for a capture of [`Fleet::samples`]
    /// (Dirichlet-multinomial). 1 is counting alone.
    pub dispersion: f64,
    /// Spread of a function's cost between pods, as a part of the cost (gamma-Poisson).
    pub pods: f64,
    /// The same between moments; all pods of a moment share it.
    pub moments: f64,
    /// Spread of the load of a pod.
    pub load: f64,
}

/// Counting alone, on pods with slightly different loads.
pub const COUNTING: Noise = Noise { dispersion: 1.0, pods: 0.0, moments: 0.0, load: 0.1 };

/// A workload.
pub struct Fleet {
    costs: Vec<f64>,
    /// Mean samples of a capture of the old revision.
    pub samples: f64,
    pub noise: Noise,
}

impl Fleet {
    /// A workload in which most functions are small: shares fall with their rank.
    pub fn new(samples: f64, noise: Noise) -> Self {
        let mut costs: Vec<f64> = (0..FUNCTIONS).map(|rank| 1.0 / (rank as f64 + 3.0)).collect();
        costs[LARGE] = 0.0;
        costs[SMALL] = 0.0;
        let all: f64 = costs.iter().sum();
        costs.iter_mut().for_each(|cost| *cost *= 0.94 / all);
        costs[LARGE] = 0.05;
        costs[SMALL] = 0.01;
        Self { costs, samples, noise }
    }

    /// The costs of a revision in which the share of one function rises by so much.
    pub fn slower(&self, function: usize, rise: f64) -> Vec<f64> {
        let mut costs = self.costs.clone();
        let share = costs[function] + rise;
        costs[function] = (1.0 - costs[function]) * share / (1.0 - share);
        costs
    }

    /// The costs of a revision in which nothing changed.
    pub fn same(&self) -> Vec<f64> {
        self.costs.clone()
    }

    /// The costs of a revision in which a function's cost moved to one beside it, which had none before.
    pub fn moved(&self, from: usize, to: usize) -> (Vec<f64>, Vec<f64>) {
        let (mut old, mut new) = (self.costs.clone(), self.costs.clone());
        old[from] += old[to];
        old[to] = 0.0;
        new[to] = old[from];
        new[from] = 0.0;
        (old, new)
    }

    /// What all pods of a moment have in common.
    pub fn moment(&self, random: &mut Random) -> Vec<f64> {
        (0..FUNCTIONS).map(|_| random.around_one(self.noise.moments)).collect()
    }

    /// A capture of a pod that runs these costs, with so many times the usual samples.
    pub fn capture(
        &self,
        about: About,
        costs: &[f64],
        moment: &[f64],
        size: f64,
        random: &mut Random,
    ) -> PodCapture {
        let concentration = (self.samples - 1.0) / (self.noise.dispersion - 1.0) - 1.0;
        let load = random.around_one(self.noise.load);
        let mean = |cost: f64, random: &mut Random| match concentration.is_finite() {
            true => random.gamma(concentration * cost) / concentration,
            false => cost,
        };
        let counts: Vec<i64> = costs
            .iter()
            .zip(moment)
            .map(|(cost, moment)| {
                let cost = mean(cost * moment, random) * random.around_one(self.noise.pods);
                random.poisson(self.samples * size * load * cost)
            })
            .collect();
        capture(about, &counts)
    }
}

/// The function that calls this one.
fn caller(function: usize) -> Option<usize> {
    function.checked_sub(1).map(|n| n / CALLEES)
}

fn capture(mut about: About, counts: &[i64]) -> PodCapture {
    let samples: i64 = counts.iter().sum();
    let mut cum = counts.to_vec();
    for function in (1..counts.len()).rev() {
        if let Some(caller) = caller(function) {
            cum[caller] += cum[function];
        }
    }
    about.cpu_seconds = Some((samples * PERIOD) as f64 / 1e9);
    let functions = counts.iter().zip(&cum).enumerate().map(|(n, (own, cum))| FunctionUse {
        name: format!("shop::orders::function_{n}"),
        file: format!("orders_{}.rs", n % 9),
        own: own * PERIOD,
        cum: cum * PERIOD,
    });
    let calls = (0..counts.len()).filter_map(|callee| {
        Some(Call { caller: u32::try_from(caller(callee)?).ok()?, callee: u32::try_from(callee).ok()? })
    });
    let (functions, calls) = (functions.collect(), calls.collect());
    PodCapture { about, samples, value: samples * PERIOD, functions, calls }
}

/// How a rollout is looked at: so many captures of each revision, at these moments.
#[derive(Clone, Copy, Debug)]
pub enum Design {
    /// All pods at the same time.
    Together { old: u32, new: u32 },
    /// Both revisions at each of some moments.
    Repeated { moments: u32, old: u32, new: u32 },
    /// One pod of the old revision at each of some moments, and the new ones together later.
    Sessions { moments: u32, new: u32 },
}

impl Design {
    /// Of each moment, the captures of the old and of the new revision.
    fn moments(self) -> Vec<[u32; 2]> {
        match self {
            Self::Together { old, new } => vec![[old, new]],
            Self::Repeated { moments, old, new } => (0..moments).map(|_| [old, new]).collect(),
            Self::Sessions { moments, new } => (0..moments).map(|_| [1, 0]).chain([[0, new]]).collect(),
        }
    }
}

/// A rollout as it was captured, with the costs of the old and the new revision; the new captures have `size`
/// times the samples.
pub fn rollout(fleet: &Fleet, costs: [&[f64]; 2], design: Design, size: f64, seed: u64) -> Vec<PodCapture> {
    let mut random = Random::new(seed);
    let mut captures = Vec::new();
    for (moment, pods) in (0..).zip(design.moments()) {
        let common = fleet.moment(&mut random);
        let sides = [(Side::Old, pods[0], costs[0], 1.0), (Side::New, pods[1], costs[1], size)];
        for (side, pods, costs, size) in sides {
            for n in 0..pods {
                let pod = format!("{side:?}-{moment}-{n}");
                let pod_seconds = 120.0 * size;
                let about = About { pod, side, moment, pod_seconds, cpu_seconds: None, coverage: Some(97) };
                captures.push(fleet.capture(about, costs, &common, size, &mut random));
            }
        }
    }
    captures
}
