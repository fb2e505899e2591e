//! Restarts of workloads whose pods lack the agent: one at a time, never twice, and nothing more after one
//! that failed.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, Reach};
use fleetprof_core::conditions::Truth;
use fleetprof_core::link::PodLink;
use fleetprof_core::pod::{PodFacts, Workload};
use fleetprof_core::policy::restart::{
    BudgetFacts, Decision, Key, Seen, Situation, WorkloadFacts, candidates, decide, looks,
};
use fleetprof_crds::Reason;
use fleetprof_crds::restart::{RestartState, RestartStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;

/// A workload as the cluster has it, moved by the test.
#[derive(Clone)]
struct App {
    kind: &'static str,
    facts: WorkloadFacts,
    /// What links say of its pods.
    reason: Reason,
    /// Version of the agent in its pods.
    agent: Option<&'static str>,
}

/// A policy, its apps, and what was patched.
struct World {
    now: Timestamp,
    enabled: bool,
    suspended: bool,
    since: Timestamp,
    generation: i64,
    version: &'static str,
    pinned: bool,
    apps: BTreeMap<&'static str, App>,
    budgets: Vec<BudgetFacts>,
    last: Option<RestartStatus>,
    decision: Option<Decision>,
    patched: Vec<String>,
    /// Changes of templates that were taken.
    changes: HashMap<Key, u32>,
}

fn app(kind: &'static str, reason: Reason) -> App {
    App {
        kind,
        facts: WorkloadFacts { settled: true, ready: 2, desired: 2, ..WorkloadFacts::default() },
        reason,
        agent: None,
    }
}

fn link(name: &str, app: &App) -> PodLink {
    let pod = common::pod("shop", name, name, 2000);
    let workload = Arc::new(Workload { kind: app.kind.into(), name: name.into() });
    let pod = PodFacts { workload, sidecar: pod.sidecar.clone().filter(|_| app.agent.is_some()), ..pod };
    PodLink {
        mode: None,
        pod: Arc::new(pod),
        container: "app".into(),
        linked: false,
        reason: app.reason,
        cause: String::new(),
        has_agent: true,
    }
}

impl World {
    fn new(apps: &[(&'static str, App)]) -> Self {
        Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            enabled: true,
            suspended: false,
            since: Timestamp::MIN,
            generation: 1,
            version: "2",
            pinned: false,
            apps: apps.iter().cloned().collect(),
            budgets: vec![],
            last: None,
            decision: None,
            patched: vec![],
            changes: HashMap::new(),
        }
    }
    fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self.step()
    }
    fn step(&mut self) -> &mut Self {
        let links: Vec<PodLink> = self.apps.iter().map(|(n, a)| link(n, a)).collect();
        let agents: HashMap<String, AgentFacts> = self
            .apps
            .iter()
            .filter_map(|(n, a)| {
                Some((
                    format!("uid-{n}"),
                    AgentFacts {
                        version: a.agent?.into(),
                        protocol: 1,
                        runtimes: HashMap::new(),
                        offers: HashMap::new(),
                        reach: Reach::Pod,
                    },
                ))
            })
            .collect();
        let last = self.last.clone();
        let said = self.decision.as_ref().map(|d| d.condition.clone());
        let failure = said.as_ref().filter(|c| c.reason == Reason::RestartFailed).map(|c| c.message.as_str());
        let situation = Situation {
            now: self.now,
            failure,
            enabled: self.enabled,
            since: self.since,
            suspended: self.suspended,
            generation: Some(self.generation),
            version: self.version,
            pinned: self.pinned,
            links: &links,
            agents: &agents,
            changes: &self.changes.clone(),
            last: last.as_ref(),
        };
        let looked = looks(&situation);
        assert!(looked.len() <= 8, "a step looks at a few");
        let facts = |k: &Key| self.apps.get(k.workload.name.as_str()).map(|a| a.facts.clone());
        let seen = Seen {
            workloads: looked.iter().map(|k| (k.clone(), facts(k))).collect(),
            budgets: self.budgets.clone(),
        };
        let decision = decide(&situation, &seen);
        if let Some(key) = &decision.patch {
            assert!(candidates(&situation).contains(key), "only what lacks the agent is touched");
            let app = self.apps.get_mut(key.workload.name.as_str()).unwrap();
            assert!(app.facts.restarted_for.as_deref() != Some(self.version), "never twice for one version");
            (app.facts.restarted_for, app.facts.settled, app.facts.ready) =
                (Some(last.unwrap().agent_version), false, 0);
            self.patched.push(key.workload.name.clone());
            *self.changes.entry(key.clone()).or_default() += 1;
        }
        self.last.clone_from(&decision.last);
        self.decision = Some(decision);
        self
    }
    /// The rollout of an app ends well.
    fn rolled_out(&mut self, name: &str) -> &mut Self {
        let version = self.version;
        let app = self.apps.get_mut(name).unwrap();
        (app.facts.settled, app.facts.ready, app.reason, app.agent) =
            (true, 2, Reason::Linked, Some(version));
        self.step()
    }
    fn is(&self, truth: Truth, reason: Reason) -> &str {
        let condition = &self.decision.as_ref().unwrap().condition;
        assert_eq!((condition.status, condition.reason), (truth, reason), "{condition:?}");
        &condition.message
    }
    fn state(&self) -> Option<RestartState> {
        self.last.as_ref().map(|l| l.state)
    }
}

#[test]
fn one_after_another_with_a_pause_between() {
    let mut w = World::new(&[
        ("a", app("Deployment", Reason::CreatedBeforePolicy)),
        ("b", app("StatefulSet", Reason::WebhookMissed)),
        ("c", app("DaemonSet", Reason::Linked)),
    ]);
    w.step().is(Truth::True, Reason::Restarting);
    assert!(w.patched.is_empty(), "the decision is written before anything is touched");
    w.after(1);
    assert_eq!(w.patched, ["a"]);
    assert!(
        w.after(60)
            .is(Truth::True, Reason::Restarting)
            .contains("Restarting shop/Deployment/a for agent 2: 0 of 2 updated pods")
    );
    assert_eq!(w.patched, ["a"], "nothing else meanwhile");
    w.rolled_out("a");
    assert_eq!(w.state(), Some(RestartState::Restarted));
    w.after(29).is(Truth::True, Reason::Restarting);
    assert_eq!(w.patched, ["a"]);
    w.after(1);
    w.after(1);
    assert_eq!(w.patched, ["a", "b"]);
    w.rolled_out("b");
    w.after(60).is(Truth::False, Reason::UpToDate);
}

#[test]
fn a_young_policy_or_leader_restarts_nothing() {
    let mut w = World::new(&[("a", app("Deployment", Reason::CreatedBeforePolicy))]);
    w.since = w.now;
    assert!(w.step().is(Truth::True, Reason::Restarting).contains("1 workload is waiting"));
    w.after(29);
    assert!(w.last.is_none());
    w.after(1);
    assert_eq!(w.state(), Some(RestartState::Restarting));
}

/// The operator is upgraded between the decision and what follows from it: still one workload at a time, and
/// none is left out.
#[test]
fn an_upgraded_operator_goes_on_with_one_workload_at_a_time() {
    let apps = [
        ("a", app("Deployment", Reason::CreatedBeforePolicy)),
        ("b", app("Deployment", Reason::CreatedBeforePolicy)),
    ];
    let mut w = World::new(&apps);
    w.step();
    assert!(w.patched.is_empty() && w.state() == Some(RestartState::Restarting));
    w.version = "3";
    w.step().step();
    assert_eq!(
        (w.patched.as_slice(), w.last.as_ref().unwrap().agent_version.as_str()),
        (["a".to_owned()].as_slice(), "3")
    );
    w.version = "4";
    assert!(w.after(60).is(Truth::True, Reason::Restarting).contains("for agent 3: 0 of 2 updated pods"));
    assert_eq!(w.patched, ["a"], "the rollout that was begun is waited for");
    // The webhook was still of the version before when the new pods came.
    let rolled = w.apps.get_mut("a").unwrap();
    (rolled.facts.settled, rolled.facts.ready, rolled.reason, rolled.agent) =
        (true, 2, Reason::Linked, Some("3"));
    w.step();
    assert_eq!(w.state(), Some(RestartState::Restarted));
    w.after(30).after(1);
    assert_eq!(w.patched, ["a", "a"], "its agents are outdated now");
}

#[test]
fn a_pod_that_only_names_a_workload_restarts_it_not() {
    let mut forged = app("Deployment", Reason::CreatedBeforePolicy);
    forged.facts.selector = LabelSelector {
        match_labels: Some([("app".into(), "another".into())].into()),
        ..LabelSelector::default()
    };
    let mut w = World::new(&[("a", forged)]);
    assert!(w.step().is(Truth::False, Reason::RestartBlocked).contains("do not match its selector"));
    w.after(60).after(60);
    assert!(w.patched.is_empty());
}

#[test]
fn outdated_agents_are_replaced_once_for_each_version() {
    let mut old = app("Deployment", Reason::Linked);
    old.agent = Some("1");
    let mut w = World::new(&[("a", old)]);
    w.step().step().rolled_out("a");
    w.after(60).is(Truth::False, Reason::UpToDate);
    w.version = "3";
    w.step().step();
    assert_eq!(w.patched, ["a", "a"]);
}

#[test]
fn what_may_not_be_restarted_waits_and_is_named() {
    let unfit = |f: fn(&mut App)| {
        let mut app = app("Deployment", Reason::CreatedBeforePolicy);
        f(&mut app);
        app
    };
    let cases = [
        (unfit(|a| a.facts.unfit = Some("its rollout is paused".into())), "its rollout is paused"),
        (unfit(|a| a.facts.settled = false), "it is rolling out"),
        (unfit(|a| a.facts.restarted_for = Some("2".into())), "was already restarted for agent 2"),
    ];
    for (app, words) in cases {
        let mut w = World::new(&[("a", app)]);
        assert!(w.step().is(Truth::False, Reason::RestartBlocked).contains(words), "{words}");
        w.after(99).after(99);
        assert!(w.patched.is_empty());
    }
    let mut w = World::new(&[
        ("a", app("Deployment", Reason::CreatedBeforePolicy)),
        ("b", app("Deployment", Reason::CreatedBeforePolicy)),
    ]);
    let selector = LabelSelector {
        match_labels: Some([("app".to_owned(), "a".to_owned())].into()),
        match_expressions: None,
    };
    w.budgets.push(BudgetFacts { namespace: "shop".into(), name: "keep-a".into(), selector, allowed: 0 });
    w.step().step().rolled_out("b");
    assert_eq!(w.patched, ["b"], "a budget holds up its own workload alone");
    assert!(
        w.after(31)
            .is(Truth::False, Reason::RestartBlocked)
            .contains("the PodDisruptionBudget keep-a currently allows no disruptions")
    );
    w.budgets[0].allowed = 1;
    w.after(1);
    w.budgets[0].allowed = 0;
    assert!(
        w.after(1).is(Truth::False, Reason::RestartBlocked).contains("keep-a"),
        "it is asked again right before the change"
    );
    assert_eq!((w.patched.len(), w.state()), (1, None));
}

#[test]
fn what_injection_refuses_and_what_is_no_workload_is_never_touched() {
    for reason in [
        Reason::OptedOut,
        Reason::HostPid,
        Reason::UnknownUser,
        Reason::Conflict,
        Reason::NamespaceExcluded,
        Reason::StaticPod,
    ] {
        World::new(&[("a", app("Deployment", reason))]).step().is(Truth::False, Reason::UpToDate);
    }
    for kind in ["Job", "Pod", "ReplicaSet", "Rollout"] {
        World::new(&[("a", app(kind, Reason::CreatedBeforePolicy))])
            .step()
            .is(Truth::False, Reason::UpToDate);
    }
}

#[test]
fn a_template_that_somebody_else_sets_back_is_changed_twice_and_no_more() {
    let mut w = World::new(&[
        ("a", app("Deployment", Reason::CreatedBeforePolicy)),
        ("b", app("Deployment", Reason::CreatedBeforePolicy)),
    ]);
    w.step();
    for n in 0..1000 {
        w.after(5);
        let theirs = w.apps.get_mut("a").unwrap();
        (theirs.facts.restarted_for, theirs.facts.changed_by) = (None, Some("db-operator".into()));
        theirs.facts.settled = n % 3 == 0;
    }
    assert_eq!((w.patched.len(), w.state()), (2, Some(RestartState::Failed)));
    let said = w.is(Truth::False, Reason::RestartFailed);
    assert!(
        said.contains("something else, probably db-operator, changes its pod template")
            && said.contains("fleetprof.dev/restarted-for 2 times")
            && said.contains("AttachOnDemand"),
        "{said}"
    );
}

#[test]
fn what_no_restart_gives_an_agent_is_named() {
    let old = |kind| app(kind, Reason::CreatedBeforePolicy);
    let mut w = World::new(&[("long", old("Job")), ("one", old("Pod")), ("set", old("ReplicaSet"))]);
    assert_eq!(
        w.step().is(Truth::False, Reason::UpToDate),
        "All workloads that can be restarted have agent 2. Others get it when they are recreated, and until \
         then sessions attach one: shop/Job/long, shop/Pod/one, shop/ReplicaSet/set."
    );
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut w = World::new(&names.map(|name| (name, old("Job"))));
    assert!(w.step().is(Truth::False, Reason::UpToDate).ends_with("shop/Job/e, 2 more."));
    let mut w = World::new(&[("new", app("Job", Reason::Linked))]);
    assert_eq!(w.step().is(Truth::False, Reason::UpToDate), "All workloads have agent 2.");
}

#[test]
fn nothing_is_touched_unless_an_admin_allows_it() {
    let mut w = World::new(&[("a", app("Deployment", Reason::CreatedBeforePolicy))]);
    w.enabled = false;
    assert!(w.step().is(Truth::False, Reason::RestartDisabled).contains("restart.enabled=true"));
    (w.enabled, w.suspended) = (true, true);
    w.after(99).is(Truth::False, Reason::PolicySuspended);
    assert!(w.patched.is_empty() && w.last.is_none());
    w.suspended = false;
    w.step().is(Truth::True, Reason::Restarting);
    w.suspended = true;
    w.step().is(Truth::False, Reason::PolicySuspended);
    assert!(w.patched.is_empty() && w.last.is_none(), "what was decided and not begun is taken back");
}

#[test]
fn after_a_failure_nothing_more_is_restarted_until_a_person_has_looked() {
    let mut w = World::new(&[
        ("a", app("Deployment", Reason::CreatedBeforePolicy)),
        ("b", app("Deployment", Reason::CreatedBeforePolicy)),
    ]);
    w.step().step();
    w.apps.get_mut("a").unwrap().facts.ready = 1;
    w.after(590).is(Truth::True, Reason::Restarting);
    w.after(590).is(Truth::True, Reason::Restarting);
    let text = w.after(11).is(Truth::False, Reason::RestartFailed).to_owned();
    assert!(text.contains("shop/Deployment/a") && text.contains("1 of 2 updated pods are ready"), "{text}");
    w.rolled_out("a");
    w.after(9999).is(Truth::False, Reason::RestartFailed);
    assert_eq!(w.patched, ["a"]);
    w.generation = 2;
    w.step().step();
    assert_eq!(w.patched, ["a", "b"], "a change of the policy goes on");
}

#[test]
fn pods_that_are_ready_without_an_agent_stop_it_too() {
    let mut w = World::new(&[
        ("a", app("Deployment", Reason::WebhookMissed)),
        ("b", app("Deployment", Reason::WebhookMissed)),
    ]);
    w.step().step();
    let a = w.apps.get_mut("a").unwrap();
    (a.facts.settled, a.facts.ready) = (true, 2);
    w.after(1).is(Truth::True, Reason::Restarting);
    assert!(w.after(601).is(Truth::False, Reason::RestartFailed).contains("webhook"));
    assert_eq!(w.patched, ["a"]);
}

#[derive(Clone, Debug)]
enum Event {
    Time(i64),
    RolledOut(usize),
    Pause(usize, bool),
    Budget(i32),
    Gone(usize),
    Suspend(bool),
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1i64..300).prop_map(Event::Time),
        6 => (0usize..5).prop_map(Event::RolledOut),
        1 => (0usize..5, any::<bool>()).prop_map(|(n, on)| Event::Pause(n, on)),
        1 => (0i32..2).prop_map(Event::Budget),
        1 => (0usize..5).prop_map(Event::Gone),
        1 => any::<bool>().prop_map(Event::Suspend),
    ]
}

proptest! {
    #[test]
    fn at_most_one_is_in_flight_none_after_a_failure_and_it_comes_to_an_end(events in prop::collection::vec(event(), 0..80)) {
        let mut w = World::new(&NAMES.map(|n| (n, app("Deployment", Reason::CreatedBeforePolicy))));
        w.budgets.push(BudgetFacts { namespace: "shop".into(), name: "all".into(), selector: LabelSelector::default(), allowed: 1 });
        for event in events {
            let (before, failed) = (w.patched.len(), w.state() == Some(RestartState::Failed));
            match event {
                Event::Time(seconds) => { w.after(seconds); }
                Event::RolledOut(n) => if w.apps.get(NAMES[n]).is_some_and(|a| a.facts.restarted_for.is_some()) { w.rolled_out(NAMES[n]); },
                Event::Pause(n, on) => if let Some(a) = w.apps.get_mut(NAMES[n]) { a.facts.unfit = on.then(|| "its rollout is paused".into()); },
                Event::Budget(n) => w.budgets[0].allowed = n,
                Event::Gone(n) => { w.apps.remove(NAMES[n]); }
                Event::Suspend(on) => w.suspended = on,
            }
            w.step();
            let moving = w.apps.values().filter(|a| a.facts.restarted_for.is_some() && !a.facts.settled).count();
            prop_assert!(moving <= 1, "{:?}", w.patched);
            prop_assert!(!failed || w.patched.len() == before, "nothing after a failure");
            let mut once = w.patched.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), w.patched.len());
        }
        // All obstacles go: either it has stopped, or every app that is left comes to its agent.
        w.suspended = false;
        w.budgets[0].allowed = 1;
        w.apps.values_mut().for_each(|a| a.facts.unfit = None);
        for _ in 0..60 {
            w.after(31);
            for name in NAMES {
                if w.apps.get(name).is_some_and(|a| a.facts.restarted_for.is_some()) {
                    w.rolled_out(name);
                }
            }
        }
        let reason = w.decision.as_ref().unwrap().condition.reason;
        let done = w.apps.values().all(|a| a.agent.is_some());
        prop_assert!(done && reason == Reason::UpToDate || w.state() == Some(RestartState::Failed) && reason == Reason::RestartFailed, "{reason:?}");
    }
}
