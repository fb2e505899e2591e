//! Can two replicas lead at the same moment, and does one always lead again? A simulated API server that
//! loses, delays and fails calls, and replicas that crash, stop and have clocks of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetprof_core::election::{Answer, Candidate, Decision, Now, Timing};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;

/// Milliseconds of simulated time, which no replica knows.
type Millis = u64;

/// How long everything goes wrong.
const TROUBLE: Millis = 120_000;
/// How long after that there may be no leader: a look, the lease's 15 s by the slowest clock, another look.
const RECOVERY: Millis = 25_000;
/// When the simulation ends.
const END: Millis = TROUBLE + RECOVERY + 60_000;

/// How badly things go, in per cent of calls, or of the times at which it is asked.
#[derive(Clone, Debug)]
struct Trouble {
    replicas: usize,
    lost: u64,
    failed: u64,
    late: u64,
    cuts: u64,
    crashes: u64,
    stops: u64,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let calls = (0..60_u64, 0..40_u64, 0..60_u64);
    (2..=4_usize, calls, 0..60_u64, 0..30_u64, 0..30_u64).prop_map(
        |(replicas, (lost, failed, late), cuts, crashes, stops)| Trouble {
            replicas,
            lost,
            failed,
            late,
            cuts,
            crashes,
            stops,
        },
    )
}

/// One pod: its name stays, its processes come and go.
struct Replica {
    candidate: Candidate,
    /// Tells its processes apart.
    process: u64,
    started: Millis,
    /// How fast its steady clock runs.
    speed: f64,
    /// How far its wall clock is off, in seconds.
    skew: i64,
    /// The call that it waits for, and when that was sent by its steady clock.
    call: Option<(u64, Duration)>,
    /// Until when none of its calls arrive, and none of its answers.
    cut: [Millis; 2],
    doing: Doing,
}

#[derive(Clone, Copy, PartialEq)]
enum Doing {
    /// Takes part; leads while the candidate says so.
    Runs,
    /// Has ended its work and gives the lease back.
    Leaves,
    /// Is not there.
    Down,
}

impl Replica {
    fn steady(&self, at: Millis) -> Duration {
        Duration::from_secs_f64((at - self.started) as f64 * self.speed / 1000.0)
    }

    fn now(&self, at: Millis) -> Now {
        let wall = Timestamp::from_millisecond(1_700_000_000_000 + at as i64).unwrap();
        Now { steady: self.steady(at), wall: wall + SignedDuration::from_secs(self.skew) }
    }

    /// When its steady clock shows this.
    fn when(&self, steady: Duration) -> Millis {
        self.started + (steady.as_secs_f64() * 1000.0 / self.speed).ceil() as Millis
    }

    fn leads(&self, at: Millis) -> bool {
        self.doing == Doing::Runs && self.candidate.leads_until().is_some_and(|until| self.steady(at) < until)
    }
}

enum Event {
    /// A replica does what is next, if it is still this process of it.
    Step { replica: usize, process: u64 },
    /// A call arrives at the API server.
    Arrive { replica: usize, call: u64, decision: Decision },
    /// An answer arrives; `Failed` also when the replica waits no longer.
    Answered { replica: usize, call: u64, answer: Answer },
    /// A process starts.
    Start(usize),
    /// Something may happen to a replica.
    Fate(usize),
}

struct World {
    trouble: Trouble,
    timing: Timing,
    at: Millis,
    random: u64,
    next: u64,
    events: BTreeMap<(Millis, u64), Event>,
    replicas: Vec<Replica>,
    lease: Option<Lease>,
    version: u64,
}

impl World {
    fn new(trouble: Trouble, timing: Timing, seed: u64) -> Self {
        let mut world = Self {
            trouble: trouble.clone(),
            timing,
            at: 0,
            random: seed,
            next: 0,
            events: BTreeMap::new(),
            replicas: Vec::new(),
            lease: None,
            version: 0,
        };
        for replica in 0..trouble.replicas {
            let (speed, skew) = (0.85 + 0.3 * world.fraction(), world.below(200_000) as i64 - 100_000);
            world.replicas.push(Replica {
                candidate: Candidate::new("l", &format!("pod-{replica}"), timing),
                process: 0,
                started: 0,
                speed,
                skew,
                call: None,
                cut: [0; 2],
                doing: Doing::Down,
            });
            let start = world.below(3_000);
            world.after(start, Event::Start(replica));
            world.after(1_000, Event::Fate(replica));
        }
        world
    }

    /// Runs to the end; the error says what went wrong.
    fn run(mut self) -> Result<(), String> {
        while let Some(((at, _), event)) = self.events.pop_first().filter(|((at, _), _)| *at < END) {
            self.at = at;
            self.happens(event);
            let leaders: Vec<usize> =
                (0..self.replicas.len()).filter(|replica| self.replicas[*replica].leads(at)).collect();
            if leaders.len() > 1 {
                return Err(format!("{leaders:?} lead at {at} ms"));
            }
            if at > TROUBLE + RECOVERY && leaders.is_empty() {
                return Err(format!("nobody leads at {at} ms"));
            }
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Start(replica) => self.start(replica),
            Event::Step { replica, process } if self.replicas[replica].process == process => {
                self.step(replica)
            }
            Event::Step { .. } => {}
            Event::Arrive { replica, call, decision } => self.serve(replica, call, decision),
            Event::Answered { replica, call, answer } => self.answered(replica, call, answer),
            Event::Fate(replica) => self.fate(replica),
        }
    }

    fn start(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if replica.doing != Doing::Down {
            return;
        }
        replica.candidate = Candidate::new("l", &format!("pod-{index}"), self.timing);
        (replica.process, replica.started) = (replica.process + 1, self.at);
        (replica.call, replica.doing) = (None, Doing::Runs);
        self.step(index);
    }

    fn step(&mut self, index: usize) {
        let replica = &self.replicas[index];
        let now = replica.now(self.at);
        let decision = match replica.doing {
            _ if replica.call.is_some() => return,
            Doing::Runs => Some(replica.candidate.next(now)),
            Doing::Leaves => replica.candidate.release(now.wall),
            Doing::Down => return,
        };
        match decision {
            Some(Decision::Wait(until)) => {
                let (when, process) = (replica.when(until), replica.process);
                self.push(when, Event::Step { replica: index, process });
            }
            Some(decision @ (Decision::Look | Decision::Write(_))) => self.call(index, decision),
            Some(Decision::Lost(_)) | None => self.ends(index, 5_000),
        }
    }

    /// Sends a call, and gives up on it in time.
    fn call(&mut self, index: usize, decision: Decision) {
        self.next += 1;
        let call = self.next;
        let replica = &mut self.replicas[index];
        let sent = replica.steady(self.at);
        let limit = match replica.doing {
            Doing::Runs => replica.candidate.call_limit(sent),
            _ => self.timing.call,
        };
        replica.candidate.calls(&decision);
        replica.call = Some((call, sent));
        let timeout = replica.when(sent + limit);
        self.push(timeout, Event::Answered { replica: index, call, answer: Answer::Failed });
        if let Some(delay) = self.delay(index, 0) {
            self.after(delay, Event::Arrive { replica: index, call, decision });
        }
    }

    /// The API server, which judges nothing but the resourceVersion.
    fn serve(&mut self, replica: usize, call: u64, decision: Decision) {
        let fails = self.happens_in(self.trouble.failed);
        let answer = match decision {
            _ if fails => Answer::Failed,
            Decision::Write(lease) => self.write(*lease),
            _ => Answer::Found(self.lease.clone().map(Box::new)),
        };
        if let Some(delay) = self.delay(replica, 1) {
            self.after(delay, Event::Answered { replica, call, answer });
        }
    }

    fn write(&mut self, mut lease: Lease) -> Answer {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if self.lease.as_ref().and_then(version) != version(&lease) {
            return Answer::Conflict;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Answer::Written(Box::new(lease))
    }

    fn answered(&mut self, index: usize, call: u64, answer: Answer) {
        let random = self.fraction();
        let replica = &mut self.replicas[index];
        let Some((_, sent)) = replica.call.filter(|(waits, _)| *waits == call) else { return };
        replica.call = None;
        let gives_up =
            replica.doing == Doing::Leaves && matches!(answer, Answer::Failed | Answer::Written(_));
        if gives_up {
            return self.ends(index, 5_000);
        }
        replica.candidate.heard(answer, sent, replica.steady(self.at), random);
        self.step(index);
    }

    /// Its process is gone; the next one of the same name comes within this time.
    fn ends(&mut self, index: usize, within: Millis) {
        let replica = &mut self.replicas[index];
        (replica.doing, replica.call) = (Doing::Down, None);
        let delay = 100 + self.below(within);
        let when = (self.at + delay).min(self.at.max(TROUBLE) + 5_000);
        self.push(when, Event::Start(index));
    }

    fn fate(&mut self, index: usize) {
        let runs = self.replicas[index].doing == Doing::Runs;
        if runs && self.happens_in(self.trouble.crashes) {
            self.ends(index, 30_000);
        } else if runs && self.happens_in(self.trouble.stops) {
            let replica = &mut self.replicas[index];
            (replica.doing, replica.call) = (Doing::Leaves, None);
            self.step(index);
        }
        for direction in 0..2 {
            if self.happens_in(self.trouble.cuts) {
                let until = self.at + self.below(40_000);
                self.replicas[index].cut[direction] = until.min(TROUBLE);
            }
        }
        let pause = 500 + self.below(10_000);
        self.after(pause, Event::Fate(index));
    }

    /// How long a call or an answer takes; `None`: it is lost.
    fn delay(&mut self, replica: usize, direction: usize) -> Option<Millis> {
        if self.at < self.replicas[replica].cut[direction] || self.happens_in(self.trouble.lost) {
            return None;
        }
        let late = self.happens_in(self.trouble.late);
        let delay = self.below(if late { 30_000 } else { 200 });
        // What is still on its way when the trouble ends arrives then.
        Some(delay.min(TROUBLE.saturating_sub(self.at).max(200)))
    }

    fn happens_in(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent && self.at < TROUBLE
    }

    fn after(&mut self, delay: Millis, event: Event) {
        self.push(self.at + delay, event);
    }

    fn push(&mut self, when: Millis, event: Event) {
        self.next += 1;
        self.events.insert((when.max(self.at), self.next), event);
    }

    fn fraction(&mut self) -> f64 {
        self.below(1_000_001) as f64 / 1_000_000.0
    }

    /// A number below `most`, by splitmix64.
    fn below(&mut self, most: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

proptest! {
    #[test]
    fn never_two_lead_and_one_leads_again(trouble in trouble(), seed: u64) {
        World::new(trouble, Timing::default(), seed).run().map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_simulation_sees_two_leaders_where_there_are_two() {
    let trouble = Trouble { replicas: 3, lost: 5, failed: 5, late: 5, cuts: 8, crashes: 2, stops: 2 };
    let found =
        |timing| (0..50).filter(|seed| World::new(trouble.clone(), timing, *seed).run().is_err()).count();
    assert_eq!(found(Timing::default()), 0);
    let acts_longer_than_others_wait = Timing { deadline: Duration::from_secs(20), ..Timing::default() };
    assert!(found(acts_longer_than_others_wait) > 10, "{}", found(acts_longer_than_others_wait));
}
