//! The life of one revision, session by session: its load, its memory, and what grows in it.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use fleetprof_profile::ProfileKind;
use fleetprof_profile::trend::{Settings, Trend, loads, trend};
use fleetprof_profile::verdict::{About, FunctionUse, PodCapture, Side};

use crate::fleet::{COUNTING, Fleet, LARGE, Noise};
use crate::random::Random;

/// Bytes between two samples of Go's heap profile.
const STEP: f64 = 524_288.0;
/// Bytes that a pod holds where nothing grows.
const HELD: f64 = 400e6;
/// Functions that hold memory.
const HOLDERS: usize = 60;
/// The one that leaks.
pub const LEAK: usize = 20;

/// How the load goes over the sessions.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Varies by chance.
    Varies,
    /// Rises to so many times what it was.
    Rises(f64),
    /// A day in 24 sessions, between a third and five thirds, and at which part of it the first session is.
    Day(f64),
}

/// What happens over the sessions beside load; `at` goes from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Nothing,
    /// A function rises to so many times what it was, steadily.
    Grows(f64),
    /// It does so at once, after two fifths of the sessions.
    Steps(f64),
    /// It does so at the beginning, as a cache that fills.
    Fills(f64),
}

/// A revision and how it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub sessions: u32,
    pub pods: u32,
    pub noise: Noise,
    pub load: Load,
    pub change: Change,
    /// How much what differs between sessions carries on to the next one; 0 to 1.
    pub carries: f64,
    /// How memory goes with the load, and by how many sessions later.
    pub memory_of_load: f64,
    pub later: f64,
}

pub const PLAIN: Life = Life {
    sessions: 24,
    pods: 2,
    noise: COUNTING,
    load: Load::Varies,
    change: Change::Nothing,
    carries: 0.0,
    memory_of_load: 0.0,
    later: 0.0,
};

impl Life {
    fn at(&self, session: u32) -> f64 {
        f64::from(session) / f64::from(self.sessions - 1)
    }

    /// The load of a session ÷ the usual one.
    fn load(&self, session: f64) -> f64 {
        match self.load {
            Load::Varies => 1.0,
            Load::Rises(times) => 1.0 + (times - 1.0) * session / f64::from(self.sessions - 1),
            Load::Day(start) => 1.0 + 2.0 / 3.0 * (TAU * (start + session / 24.0)).sin(),
        }
    }

    /// What the function uses that changes ÷ what it used.
    fn change(&self, session: u32) -> f64 {
        let at = self.at(session);
        match self.change {
            Change::Nothing => 1.0,
            Change::Grows(times) => 1.0 + (times - 1.0) * at,
            Change::Steps(times) => {
                if at < 0.4 {
                    1.0
                } else {
                    times
                }
            }
            Change::Fills(times) => 1.0 + (times - 1.0) * (1.0 - (-6.0 * at).exp()),
        }
    }
}

/// Factors of functions that carry on from session to session.
struct Carried {
    factors: Vec<f64>,
    part: f64,
    spread: f64,
}

impl Carried {
    fn new(life: &Life, functions: usize, random: &mut Random) -> Self {
        let spread = life.noise.moments;
        let factors = (0..functions).map(|_| random.around_one(spread)).collect();
        Self { factors, part: life.carries, spread }
    }

    fn next(&mut self, random: &mut Random) -> Vec<f64> {
        let fresh = (1.0 - self.part * self.part).sqrt();
        for factor in &mut self.factors {
            let news = random.around_one(self.spread) - 1.0;
            *factor = (1.0 + self.part * (*factor - 1.0) + fresh * news).max(0.05);
        }
        self.factors.clone()
    }
}

fn about(session: u32, pod: u32) -> About {
    About {
        pod: format!("pod-{session}-{pod}"),
        side: Side::New,
        moment: session,
        pod_seconds: 120.0,
        cpu_seconds: None,
        coverage: Some(97),
    }
}

/// Captures of CPU time: `samples` in each at the usual load. Small functions take more of a larger load than large
/// ones do.
pub fn cpu(life: &Life, samples: f64, seed: u64) -> Vec<PodCapture> {
    let fleet = Fleet::new(samples, Noise { moments: 0.0, ..life.noise });
    let mut random = Random::new(seed);
    let functions = fleet.same().len();
    let mut carried = Carried::new(life, functions, &mut random);
    let mut captures = Vec::new();
    for session in 0..life.sessions {
        let load = life.load(f64::from(session)) * random.around_one(life.noise.load);
        let factors = carried.next(&mut random);
        let mut costs = fleet.same();
        costs[LARGE] *= life.change(session);
        let of_load = (0_u32..).zip(&mut costs).map(|(n, cost)| (f64::from(n % 3) * 0.25, cost));
        of_load.for_each(|(more, cost)| *cost *= load.powf(more));
        for pod in 0..life.pods {
            captures.push(fleet.capture(about(session, pod), &costs, &factors, load, &mut random));
        }
    }
    captures
}

/// Captures of memory, as Go samples it.
pub fn heap(life: &Life, seed: u64) -> Vec<PodCapture> {
    let mut random = Random::new(seed);
    let mut carried = Carried::new(life, HOLDERS, &mut random);
    let all: f64 = (0..HOLDERS).map(|rank| 1.0 / (rank as f64 + 3.0)).sum();
    let mut captures = Vec::new();
    for session in 0..life.sessions {
        let load = life.load(f64::from(session) - life.later);
        let factors = carried.next(&mut random);
        for pod in 0..life.pods {
            let held = |n: usize| {
                let of_load = 1.0 + life.memory_of_load * (load - 1.0);
                let change = if n == LEAK { life.change(session) } else { 1.0 };
                HELD / all / (n as f64 + 3.0) * factors[n] * of_load * change
            };
            let functions: Vec<FunctionUse> = (0..HOLDERS)
                .map(|n| (n, (random.poisson(held(n) / STEP) as f64 * STEP) as i64))
                .map(|(n, own)| FunctionUse {
                    name: format!("shop::orders::function_{n}"),
                    file: "orders.go".to_owned(),
                    own,
                    cum: own,
                })
                .collect();
            let value: i64 = functions.iter().map(|function| function.own).sum();
            let about = about(session, pod);
            captures.push(PodCapture { about, samples: value / 64, value, functions, calls: Vec::new() });
        }
    }
    captures
}

/// The CPU captures of a life that hold its load for its memory.
pub fn loads_of(life: &Life, seed: u64) -> BTreeMap<u32, f64> {
    loads(&cpu(life, 2_970.0, seed), &Settings::default())
}

pub fn look(kind: ProfileKind, life: &Life, settings: &Settings, seed: u64) -> Trend {
    match kind {
        ProfileKind::Cpu => trend(kind, &cpu(life, 2_970.0, seed), &BTreeMap::new(), settings, seed),
        _ => trend(kind, &heap(life, seed), &loads_of(life, seed), settings, seed),
    }
}
