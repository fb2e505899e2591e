//! Sessions that wait for a load and repeat while it runs: when they start, when they stop, and that they
//! always stop.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, Reach};
use fleetprof_core::pod::{Owner, PodFacts, Workload};
use fleetprof_core::session::{
    Action, JobFacts, Observed, Permission, PolicyFacts, Settings, load, repeat, step,
};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

const BEGIN: i64 = 1_800_000_000;

/// One session, the shop that it captures, and the load that it waits for.
struct World {
    now: Timestamp,
    session: ProfileSession,
    observed: Observed,
    /// Sessions that were asked for, by name.
    made: Vec<ProfileSession>,
    /// How often the API server was asked for the right to profile.
    asked: usize,
    requeue: Option<SignedDuration>,
    forgotten: bool,
}

fn pod(name: &str, kind: &str, owner: &str, ready: bool) -> PodFacts {
    let workload = Arc::new(Workload { kind: kind.into(), name: owner.into() });
    let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" }.to_owned();
    let controller = Owner { api_version, kind: kind.into(), name: owner.into(), uid: owner.into() };
    let pod = common::pod("shop", name, owner, 2000);
    PodFacts { workload, owner: Some(Arc::new(controller)), running: ready, ready, sidecar: None, ..pod }
}

impl World {
    fn new(extra: Value) -> Self {
        let now = Timestamp::from_second(BEGIN).unwrap();
        let mut spec =
            json!({"target": {"workload": {"kind": "Deployment", "name": "orders"}}, "duration": "30s"});
        extra.as_object().unwrap().iter().for_each(|(k, v)| spec[k] = v.clone());
        let mut session: ProfileSession = serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": "peak", "namespace": "shop", "uid": "s-1", "generation": 1, "labels": {"build": "17"}}, "spec": spec,
        }))
        .unwrap();
        session.metadata.creation_timestamp = Some(Time(now));
        let agent = AgentFacts {
            version: "0.1.0".into(),
            protocol: 1,
            runtimes: HashMap::new(),
            offers: HashMap::new(),
            reach: Reach::Pod,
        };
        let observed = Observed {
            now,
            settled: true,
            no_room: None,
            permission: Permission::Allowed,
            policy: PolicyFacts::Unnamed,
            namespace_labels: std::collections::BTreeMap::new(),
            resources: fleetprof_core::inject::ResourceRules::default(),
            pods: vec![Arc::new(pod("orders-1", "Deployment", "orders", true))],
            agents: [("uid-orders-1".to_owned(), agent)].into(),
            node_agents: NodeAgents::default(),
            captures: HashMap::new(),
            places: HashMap::new(),
            yields: HashMap::new(),
            node_cpu: HashMap::new(),
            until_record: None,
            recorded: Phase::Pending,
            job: JobFacts::Missing,
            follow_ups: vec![],
            earlier: 0,
            sessions: vec![],
        };
        Self { now, session, observed, made: vec![], asked: 0, requeue: None, forgotten: false }
    }
    fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self.observed.now = self.now;
        self.step()
    }
    fn step(&mut self) -> &mut Self {
        let step = step(&self.session, &self.observed, &Settings::default());
        (self.session.status, self.requeue) = (Some(step.status), step.requeue);
        assert!(
            self.status().phase.is_terminal() || step.requeue.is_some(),
            "a live session looks again by itself"
        );
        assert!(!self.forgotten || self.status().phase.is_terminal());
        for action in step.actions {
            match action {
                Action::Repeat { session, .. } => {
                    let mut made = *session;
                    made.metadata.uid = Some(format!("s-{}", made.metadata.name.as_deref().unwrap()));
                    assert!(
                        self.made.iter().all(|m| m.metadata.name != made.metadata.name),
                        "no capture is made twice"
                    );
                    self.observed.follow_ups.push(Arc::new(made.clone()));
                    self.made.push(made);
                }
                Action::Forget => self.forgotten = true,
                Action::CheckPermission => self.asked += 1,
                _ => {}
            }
        }
        self
    }
    fn load(&mut self, ready: bool) -> &mut Self {
        self.no_load();
        self.observed.pods.push(Arc::new(pod("load-1", "Job", "load", ready)));
        self
    }
    fn no_load(&mut self) -> &mut Self {
        self.observed.pods.retain(|p| p.workload.name != "load");
        self
    }
    /// Ends a capture: the root's own, or that of the follow-up with this number.
    fn end(&mut self, number: usize, phase: Phase, reason: Reason) -> &mut Self {
        if number == 1 {
            let now = self.now;
            let status = self.session.status.as_mut().unwrap();
            (status.phase, status.reason, status.end_time) = (phase, Some(reason), Some(Time(now)));
        } else {
            let mut found = (*self.observed.follow_ups[number - 2]).clone();
            let status = found.status.get_or_insert_default();
            (status.phase, status.reason) = (phase, Some(reason));
            self.observed.follow_ups[number - 2] = Arc::new(found);
        }
        self.step()
    }
    fn good(&mut self, number: usize) -> &mut Self {
        self.end(number, Phase::Succeeded, Reason::Completed)
    }
    fn status(&self) -> &fleetprof_crds::ProfileSessionStatus {
        self.session.status.as_ref().unwrap()
    }
    fn series(&self) -> &fleetprof_crds::load::RepeatStatus {
        self.status().repeat.as_ref().unwrap()
    }
    fn is(&self, phase: Phase, reason: Reason) -> &str {
        assert_eq!(
            (self.status().phase, self.status().reason),
            (phase, Some(reason)),
            "{:#?}",
            self.status()
        );
        &self.status().message
    }
}

fn waits_for_job() -> World {
    World::new(json!({"startWhen": {"jobRef": {"name": "load"}}}))
}

#[test]
fn waits_until_a_pod_of_the_job_is_ready() {
    let mut w = waits_for_job();
    let text = w.step().is(Phase::Pending, Reason::WaitingForLoad).to_owned();
    assert_eq!(
        text,
        "Waiting until 2027-01-15T08:15:00Z for the load (the Job load): the Job does not exist."
    );
    assert!(w.status().start_time.is_none(), "nothing is picked meanwhile");
    w.observed.job = JobFacts::Active;
    assert!(w.after(1).is(Phase::Pending, Reason::WaitingForLoad).contains("has no pod yet"));
    assert!(
        w.load(false)
            .after(1)
            .is(Phase::Pending, Reason::WaitingForLoad)
            .contains("its pod load-1 is not ready yet")
    );
    w.load(true).after(600);
    w.is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(w.status().start_time.as_ref().unwrap().0, w.now, "startDeadline counts from the start");
    w.no_load().after(30).is(Phase::Starting, Reason::WaitingForAgent);
}

#[test]
fn who_waits_looks_again_only_for_its_deadline_unless_jobs_cannot_be_listed() {
    let mut w = waits_for_job();
    w.observed.job = JobFacts::Unlisted;
    w.step().is(Phase::Pending, Reason::WaitingForLoad);
    assert_eq!(w.requeue, Some(SignedDuration::from_secs(10)), "nothing would tell");
    w.observed.job = JobFacts::Active;
    w.after(1).is(Phase::Pending, Reason::WaitingForLoad);
    assert_eq!(w.requeue, Some(SignedDuration::from_secs(899)), "the deadline of the load");
    w.load(true).step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(w.requeue, Some(SignedDuration::from_secs(10)));

    let mut w = World::new(json!({"startWhen": {"jobRef": {"name": "load"}, "deadline": "24h"}}));
    w.after(1).is(Phase::Pending, Reason::WaitingForLoad);
    assert_eq!(w.requeue, Some(SignedDuration::from_secs(3600)), "in case nobody told");
}

#[test]
fn the_right_to_profile_is_asked_for_before_the_wait_and_again_before_the_start() {
    let mut w = waits_for_job();
    w.observed.permission = Permission::Unchecked;
    w.step();
    assert_eq!(w.asked, 1, "a session that is not allowed ends before it waits");
    w.observed.permission = Permission::Allowed;
    w.step().is(Phase::Pending, Reason::WaitingForLoad);
    w.observed.permission = Permission::Unchecked;
    w.after(60).after(60).is(Phase::Pending, Reason::WaitingForLoad);
    assert_eq!(w.asked, 1, "the answer is good for as long as it waits");
    w.load(true).step().is(Phase::Pending, Reason::WaitingForLoad);
    assert_eq!(w.asked, 2, "it may have changed since");
    w.observed.permission = Permission::Denied("eve may not profile".into());
    w.step().is(Phase::Failed, Reason::Forbidden);
}

#[test]
fn a_load_that_never_comes_fails_the_session_with_what_to_do() {
    let cases = [
        (json!({"jobRef": {"name": "load"}}), JobFacts::Missing, 901, Reason::LoadNotStarted),
        (
            json!({"jobRef": {"name": "load"}, "deadline": "10s"}),
            JobFacts::Suspended,
            10,
            Reason::LoadNotStarted,
        ),
        (
            json!({"jobRef": {"name": "load"}, "deadline": "10s"}),
            JobFacts::Unlisted,
            10,
            Reason::LoadNotStarted,
        ),
        (json!({"jobRef": {"name": "load"}}), JobFacts::Ended("has completed".into()), 0, Reason::LoadEnded),
        (
            json!({"podSelector": {"matchLabels": {"app": "load"}}, "deadline": "1m"}),
            JobFacts::Unlisted,
            60,
            Reason::LoadNotStarted,
        ),
    ];
    for (start, job, seconds, reason) in cases {
        let mut w = World::new(json!({"startWhen": start}));
        w.observed.job = job;
        let text = w.after(seconds).is(Phase::Failed, reason).to_owned();
        assert!(text.contains(reason.advice()) && text.contains("load"), "{text}");
        let complete = w.status().conditions.iter().find(|c| c.type_ == "Complete").unwrap();
        assert_eq!(
            (complete.status.as_str(), complete.reason.as_str()),
            ("True", reason.as_str()),
            "who waits for the end learns it"
        );
    }
}

#[test]
fn labels_find_a_load_too_and_pods_that_ended_are_none() {
    let mut w = World::new(json!({"startWhen": {"podSelector": {"matchLabels": {"app": "load"}}}}));
    let mut old = pod("load-0", "Job", "load", true);
    (old.ending, old.ready) = (true, false);
    w.observed.pods.push(Arc::new(old));
    assert!(
        w.step()
            .is(Phase::Pending, Reason::WaitingForLoad)
            .contains("(pods with app=load): there is no matching pod")
    );
    w.load(true).after(1).is(Phase::Starting, Reason::WaitingForAgent);
}

#[test]
fn who_may_not_profile_does_not_wait_and_who_cancels_need_not() {
    let mut w = waits_for_job();
    w.observed.permission = Permission::Denied("eve may not".into());
    w.step().is(Phase::Failed, Reason::Forbidden);
    let mut w = waits_for_job();
    w.step();
    w.session.spec.cancel = true;
    w.step().is(Phase::Cancelled, Reason::Cancelled);
}

#[test]
fn a_pod_of_the_load_wakes_who_waits_for_it() {
    let mut w = waits_for_job();
    w.step();
    let awaited = |w: &World, kind, name| load::is_awaited(&w.session, &pod("x", kind, name, true));
    assert_eq!(
        (awaited(&w, "Job", "load"), awaited(&w, "Job", "other"), awaited(&w, "Deployment", "load")),
        (true, false, false)
    );
    w.load(true).step();
    assert!(!awaited(&w, "Job", "load"), "it waits no more");
}

#[test]
fn captures_follow_one_another_in_the_name_of_who_asked() {
    let mut w = World::new(
        json!({"repeat": {"count": 3, "interval": "1m"}, "requestedBy": {"username": "ann", "groups": ["g"]}, "ttl": "1h"}),
    );
    w.step();
    assert_eq!((w.series().made, w.series().reason), (1, Some(Reason::Repeating)));
    w.after(59).good(1);
    assert_eq!(w.made.len(), 0, "an interval counts from start to start");
    w.after(1);
    let second = &w.made[0];
    assert_eq!(second.metadata.name.as_deref(), Some("peak-2"));
    assert_eq!(second.metadata.labels.as_ref().unwrap()["fleetprof.dev/repeats"], "peak");
    assert_eq!(second.metadata.labels.as_ref().unwrap()["build"], "17");
    assert_eq!(second.metadata.owner_references.as_ref().unwrap()[0].uid, "s-1");
    assert_eq!(
        (&second.spec.repeat, second.spec.requested_by.as_ref().unwrap().username.as_str()),
        (&None, "ann")
    );
    w.after(600);
    assert_eq!(w.made.len(), 1, "one after another");
    let due =
        |w: &World, phase| repeat::is_due(&w.session, w.now, |name| (name == "peak-2").then_some(phase));
    assert_eq!((due(&w, Phase::Running), due(&w, Phase::Uploading)), (false, true));
    w.good(2);
    assert_eq!((w.made.len(), w.series().made), (2, 3));
    assert!(!w.forgotten, "it stays while others repeat it");
    w.after(30).end(3, Phase::Failed, Reason::NoSamples);
    let series = w.series();
    assert_eq!((series.succeeded, series.failed, series.reason), (2, 1, Some(Reason::Completed)));
    assert_eq!(series.end_time.as_ref().unwrap().0, w.now);
    let told = w.status().conditions.iter().find(|c| c.type_ == "RepeatsComplete").unwrap();
    assert_eq!(
        (told.status.as_str(), told.message.as_str()),
        ("True", "3 of 3 captures made: 2 with data, 1 without. All 3 captures are complete.")
    );
    w.is(Phase::Succeeded, Reason::Completed);
    assert!(!w.after(3599).forgotten, "the ttl counts from the end of the last capture");
    assert!(w.after(1).forgotten);
    assert_eq!(w.made.len(), 2);
}

#[test]
fn a_long_load_is_covered_until_it_ends() {
    let mut w = World::new(
        json!({"startWhen": {"jobRef": {"name": "load"}}, "repeat": {"untilLoadEnds": true, "interval": "1m"}}),
    );
    w.step();
    assert!(w.status().repeat.is_none(), "nothing repeats what has not started");
    w.load(true).after(100);
    for number in 1..=4 {
        w.good(number).after(60);
        assert_eq!(w.made.len(), number);
    }
    assert!(
        w.made.iter().all(|m| m.spec.start_when.is_some()),
        "they wait for the load as well, if it pauses"
    );
    w.no_load().observed.job = JobFacts::Active;
    w.good(5).after(60);
    assert_eq!(w.made.len(), 5, "between two pods of a Job the load goes on");
    w.observed.job = JobFacts::Ended("has completed".into());
    w.after(1);
    assert_eq!(
        (w.series().reason, w.series().end_time.is_some()),
        (Some(Reason::LoadEnded), false),
        "the last capture goes on"
    );
    w.good(6);
    assert!(
        w.series().end_time.is_some() && w.series().message.contains("(the Job load) has completed"),
        "{:?}",
        w.series()
    );
    assert_eq!((w.series().made, w.series().succeeded), (6, 6));
}

#[test]
fn a_series_stops_when_it_is_cancelled_refused_or_pointless() {
    let series = || World::new(json!({"repeat": {"count": 9, "interval": "30s"}}));
    let mut w = series();
    w.step().after(1).good(1).after(30);
    w.session.spec.cancel = true;
    w.end(2, Phase::Cancelled, Reason::Cancelled);
    assert_eq!(
        (w.series().reason, w.series().end_time.is_some(), w.made.len()),
        (Some(Reason::Cancelled), true, 1)
    );
    let mut w = series();
    w.step().after(1).good(1).after(30).end(2, Phase::Failed, Reason::Forbidden);
    assert_eq!((w.series().reason, w.series().end_time.is_some()), (Some(Reason::Forbidden), true));
    let mut w = series();
    w.observed.permission = Permission::Denied("no".into());
    w.step();
    assert_eq!((w.series().reason, w.series().made, w.series().failed), (Some(Reason::Forbidden), 1, 1));
    let mut w = series();
    w.step().after(1).good(1).after(30).observed.follow_ups.clear();
    w.after(30);
    assert_eq!(w.series().captures[0].phase, Phase::Pending, "it may not have come to this leader's watch");
    w.after(31);
    assert_eq!(
        (w.series().captures[0].phase, w.made.len()),
        (Phase::Cancelled, 2),
        "one that was deleted holds nothing up"
    );
}

#[derive(Clone, Debug)]
enum Event {
    Time(i64),
    Load(Option<bool>),
    Job(u8),
    End(usize, bool),
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1i64..120).prop_map(Event::Time),
        2 => any::<Option<bool>>().prop_map(Event::Load),
        1 => (0u8..5).prop_map(Event::Job),
        4 => (1usize..8, prop::bool::weighted(0.8)).prop_map(|(n, good)| Event::End(n, good)),
        1 => Just(Event::Cancel),
    ]
}

proptest! {
    #[test]
    fn every_series_ends_makes_no_more_than_was_asked_for_and_never_two_at_once(
        count in prop::option::of(1i32..6), waits in any::<bool>(), events in prop::collection::vec(event(), 0..60),
    ) {
        let mut spec = json!({"repeat": {"interval": "30s"}});
        match count {
            Some(n) => spec["repeat"]["count"] = json!(n),
            None => spec["repeat"]["untilLoadEnds"] = json!(true),
        }
        if waits || count.is_none() {
            spec["startWhen"] = json!({"jobRef": {"name": "load"}});
        }
        let mut w = World::new(spec);
        w.step();
        for event in events {
            match event {
                Event::Time(seconds) => { w.after(seconds); }
                Event::Load(Some(ready)) => { w.load(ready).step(); }
                Event::Load(None) => { w.no_load().step(); }
                Event::Job(n) => w.observed.job = match n {
                    0 => JobFacts::Unlisted, 1 => JobFacts::Missing, 2 => JobFacts::Suspended, 3 => JobFacts::Active,
                    _ => JobFacts::Ended("has completed".into()),
                },
                Event::End(number, good) => {
                    let started = if number == 1 { w.status().start_time.is_some() } else { number - 2 < w.made.len() };
                    if started && !(number == 1 && w.status().phase.is_terminal()) {
                        w.end(number, if good { Phase::Succeeded } else { Phase::Failed }, if good { Reason::Completed } else { Reason::NoSamples });
                    }
                }
                Event::Cancel => w.session.spec.cancel = true,
            }
            w.step();
            let live = w.observed.follow_ups.iter().filter(|s| s.status.as_ref().is_none_or(|s| s.phase <= Phase::Running)).count();
            prop_assert!(live + usize::from(w.status().start_time.is_some() && w.status().phase <= Phase::Running) <= 1, "{:#?}", w.status());
            prop_assert!(w.made.len() < usize::try_from(count.unwrap_or(50)).unwrap());
        }
        // Whatever was left: the load ends, what was started ends, and time goes by.
        w.no_load().observed.job = JobFacts::Ended("has completed".into());
        for _ in 0..60 {
            w.after(3600);
            if !w.status().phase.is_terminal() {
                w.good(1);
            }
            for number in 2..w.made.len() + 2 {
                w.good(number);
            }
        }
        let series = w.series();
        prop_assert!(series.end_time.is_some() && !series.message.is_empty(), "{series:#?}");
        prop_assert_eq!(series.succeeded + series.failed, series.made);
        prop_assert!(w.after(604_801).forgotten);
    }
}
