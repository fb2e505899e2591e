//! Who is captured, and why nobody is.

use std::sync::Arc;

use crate::world::*;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::session::PolicyFacts;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::{Reason, names};
use serde_json::json;

#[test]
fn fails_with_a_reason_when_there_is_nothing_to_profile() {
    let cases = [
        (World::new(json!({"target": {"pods": ["gone"]}})), Reason::TargetNotFound),
        (
            World::new(json!({"target": {"workload": {"kind": "Deployment", "name": "gone"}}})),
            Reason::TargetNotFound,
        ),
        (
            World::new(json!({"target": {"podSelector": {"matchLabels": {"app": "x"}}}})).with_pod(pod("a")),
            Reason::NoMatchingPods,
        ),
        (
            World::new(json!({"policyRef": {"name": "p"}}))
                .with_policy(json!({"selector": {}, "suspend": true})),
            Reason::PolicySuspended,
        ),
        (
            World::new(json!({"policyRef": {"name": "p"}, "target": {"podSelector": {}}}))
                .with_policy(json!({"selector": {"matchLabels": {"app": "x"}}}))
                .with_pod(pod("a")),
            Reason::NotSelected,
        ),
    ];
    for (mut world, reason) in cases {
        world.step().is(Phase::Failed, reason);
    }
    let mut missing = World::new(json!({"policyRef": {"name": "p"}}));
    missing.observed.policy = PolicyFacts::Missing;
    missing.step().is(Phase::Failed, Reason::PolicyNotFound);
}

#[test]
fn refuses_more_than_the_policy_or_the_administrator_allows_to_users() {
    let limits = json!({"selector": {}, "session": {"limits": {"duration": "1m", "frequencyHz": 200}}});
    let no_limits = json!({"selector": {}});
    // (what is asked for, the policy, words of the refusal)
    let cases = [
        (json!({"duration": "1m", "frequencyHz": 200}), &limits, None),
        (
            json!({}),
            &limits,
            Some("spec.duration is 2m, at most 1m is allowed by session.limits.duration of the policy"),
        ),
        (
            json!({"duration": "30s", "frequencyHz": 201}),
            &limits,
            Some(
                "spec.frequencyHz is 201, at most 200 is allowed by session.limits.frequencyHz of the policy",
            ),
        ),
        (json!({"duration": "3m", "frequencyHz": 500}), &no_limits, None),
        (
            json!({"duration": "4m"}),
            &no_limits,
            Some("at most 3m is allowed by the administrator (chart value budgets.onDemandDuration)"),
        ),
        (
            json!({"frequencyHz": 501}),
            &no_limits,
            Some("at most 500 is allowed by the administrator (chart value budgets.onDemandFrequencyHz)"),
        ),
        (
            json!({"duration": "30s", "frequencyHz": 150}),
            &json!({"selector": {}, "session": {"limits": {"frequencyHz": 1000}}}),
            None,
        ),
    ];
    for (asked, policy, words) in cases {
        let mut spec = asked.clone();
        spec["policyRef"] = json!({"name": "p"});
        let mut w = World::new(spec).with_policy(policy.clone()).with_pod(pod("a"));
        w.settings.on_demand_limits = (fleetprof_crds::Duration::from_secs(180), 500);
        w.step();
        let refused = w.status().reason == Some(Reason::LimitExceeded);
        assert_eq!(refused, words.is_some(), "{asked}: {:?}", w.status());
        assert!(words.is_none_or(|words| w.status().message.contains(words)), "{}", w.status().message);
    }
}

#[test]
fn a_comparison_takes_one_target_of_each_revision_after_the_other() {
    let mut w = World::new(json!({"target": {"podSelector": {}}, "compare": {"revision": "new"}}));
    for (name, revision) in [("a", "new"), ("b", "new"), ("c", "new"), ("d", "old"), ("e", "old")] {
        let mut pod = pod(name);
        Arc::make_mut(&mut pod.labels).insert("controller-revision-hash".into(), revision.into());
        w = w.with_pod(pod);
    }
    w.step();
    let order: Vec<&str> = w.status().targets.iter().map(|target| target.pod.as_str()).collect();
    assert_eq!(order, ["a", "d", "b", "e", "c"]);
}

#[test]
fn does_not_limit_what_the_policy_itself_starts() {
    let limits = json!({"selector": {}, "session": {"limits": {"duration": "10s", "frequencyHz": 1}}});
    let mut w = World::new(json!({"policyRef": {"name": "p"}, "trigger": "Schedule"}))
        .with_policy(limits)
        .with_pod(pod("a"));
    w.step();
    assert_ne!(w.status().reason, Some(Reason::LimitExceeded), "{:?}", w.status());
}

#[test]
fn says_whose_label_opts_the_pods_out() {
    let labelled = |name: &str, value: &str| {
        let mut pod = pod(name);
        Arc::make_mut(&mut pod.labels).insert("fleetprof.dev/profiling".into(), value.into());
        pod
    };
    let waiting = |mut pod: PodFacts| {
        (pod.running, pod.ready) = (false, false);
        pod
    };
    let disabled = || labelled("a", "disabled");
    let none_runs = "None of the 1 selected pods is running and can be profiled; check kubectl get pods.";
    let of_pod = " the label fleetprof.dev/profiling=disabled on the pods; remove the label";
    let of_namespace = " the label fleetprof.dev/profiling=disabled on the namespace; remove the label";
    let of_both =
        " the label fleetprof.dev/profiling=disabled on the pods (1) and the namespace (1); remove the label";
    let oversized = "count as opted out: the namespace has more than 16 KiB of labels, so it is not known which \
                     policies select it; remove labels of the namespace until it has less than 16 KiB.";
    let partly =
        "1 by the label fleetprof.dev/profiling=disabled, and 1 because the namespace has more than 16 KiB";
    // (pods, the namespace's label, reason, words)
    let cases = [
        (vec![pod("a"), pod("b")], names::OPT_OVERSIZED, Reason::OptedOut, oversized),
        (vec![disabled(), pod("b")], names::OPT_OVERSIZED, Reason::OptedOut, partly),
        (vec![disabled()], "", Reason::OptedOut, of_pod),
        (vec![disabled(), waiting(pod("b"))], "", Reason::OptedOut, of_pod),
        (vec![pod("a"), pod("b")], "disabled", Reason::OptedOut, of_namespace),
        (vec![disabled(), pod("b")], "disabled", Reason::OptedOut, of_both),
        (vec![waiting(disabled())], "", Reason::NoMatchingPods, none_runs),
        (
            vec![labelled("a", "enabled"), waiting(pod("b"))],
            "disabled",
            Reason::WaitingForAgent,
            "Waiting for the agent",
        ),
    ];
    for (pods, label, reason, words) in cases {
        for spec in [
            json!({"target": {"workload": {"kind": "Deployment", "name": "orders"}}}),
            json!({"target": {"podSelector": {}}}),
        ] {
            let mut w = World::new(spec);
            w.observed.pods = pods.iter().cloned().map(Arc::new).collect();
            w.observed.namespace_labels.insert("fleetprof.dev/profiling".into(), label.into());
            w.step();
            assert_eq!(w.status().reason, Some(reason), "{words}");
            assert!(w.status().message.contains(words), "{}", w.status().message);
        }
    }
}

#[test]
fn a_round_goes_on_without_pods_that_went_since_it_picked_them() {
    let spec = json!({"policyRef": {"kind": "ClusterProfilingPolicy", "name": "p"}, "target": {"pods": ["a", "gone", "theirs"]}, "trigger": "Schedule"});
    let mut w = World::new(spec)
        .with_policy(json!({"selector": {}}))
        .with_pod(pod("a"))
        .with_pod(pod("theirs"))
        .with_agent("a");
    if let PolicyFacts::Found { yielded, .. } = &mut w.observed.policy {
        yielded.insert("uid-theirs".into(), Reason::Overridden);
    }
    w.step();
    let targets: Vec<_> = w.status().targets.iter().map(|t| (t.pod.as_str(), t.phase, t.reason)).collect();
    assert_eq!(targets[0].0, "a");
    assert!(!targets[0].1.is_terminal());
    assert_eq!(targets[1], ("gone", TargetPhase::Skipped, Some(Reason::PodGone)));
    assert_eq!(targets[2], ("theirs", TargetPhase::Skipped, Some(Reason::Overridden)));
}

#[test]
fn a_session_whose_policy_does_not_reach_the_namespace_says_so() {
    let mut w =
        World::new(json!({"policyRef": {"kind": "ClusterProfilingPolicy", "name": "p"}})).with_pod(pod("a"));
    w.observed.policy = PolicyFacts::Elsewhere;
    w.step().is(Phase::Failed, Reason::NotSelected);
    assert!(w.status().message.contains("spec.namespaceSelector"), "{}", w.status().message);
}

#[test]
fn a_policy_keeps_its_rules_on_containers_when_one_is_asked_for() {
    let barred = "must not be profiled: it matches \"app\" in containers.exclude of the policy; set \
                  spec.container to another one, or leave it empty.";
    // (spec.container, the policy's containers, why not)
    let cases = [
        ("app", json!({}), None),
        ("app", json!({"include": ["a*"]}), None),
        ("app", json!({"exclude": ["app"]}), Some(barred)),
        (
            "app",
            json!({"include": ["web"]}),
            Some("must not be profiled: it does not match containers.include of the policy (web);"),
        ),
        (
            "db",
            json!({}),
            Some("The pod has no container db; set spec.container to one of app, or leave it empty."),
        ),
        (
            "",
            json!({"exclude": ["*"]}),
            Some("check containers.include and containers.exclude of the policy"),
        ),
    ];
    for (container, rules, why) in cases {
        let spec = json!({"policyRef": {"name": "p"}, "target": {"pods": ["a"]}, "container": container});
        let mut w = World::new(spec)
            .with_policy(json!({"selector": {}, "containers": rules}))
            .with_pod(pod("a"))
            .with_agent("a");
        w.step();
        let Some(words) = why else {
            assert_eq!(w.target("a").phase, TargetPhase::Ordered, "{container} {rules}");
            continue;
        };
        w.is(Phase::Failed, Reason::NoSelectedContainer);
        assert!(w.target("a").message.contains(words), "{}", w.target("a").message);
    }
    let mut unnamed =
        World::new(json!({"target": {"pods": ["a"]}, "container": "app"})).with_pod(pod("a")).with_agent("a");
    unnamed.step().is(Phase::Starting, Reason::WaitingForAgent);
}

#[test]
fn under_a_policy_one_pod_of_each_workload_is_picked() {
    let mut w = World::new(json!({"policyRef": {"name": "p"}})).with_policy(json!({"selector": {}}));
    for name in ["a", "b", "c"] {
        w = w.with_pod(pod(name)).with_agent(name);
    }
    assert_eq!(w.step().status().targets.len(), 1);
}

#[test]
fn a_round_goes_to_a_pod_that_has_an_agent_but_each_eighth_to_the_next_one() {
    let names: Vec<String> = (0..5).map(|n| format!("p{n}")).collect();
    let picked = |round: u64| {
        let spec = json!({"policyRef": {"name": "p"}, "trigger": "Schedule"});
        let mut w = World::new(spec).with_policy(json!({"selector": {}})).with_agent("p3");
        w.session.metadata.annotations = Some([("fleetprof.dev/round".to_owned(), round.to_string())].into());
        for name in &names {
            w.observed.pods.push(Arc::new(PodFacts { sidecar: None, ..pod(name) }));
        }
        w.step();
        let [target] = &w.status().targets[..] else { panic!("{:?}", w.status().targets) };
        target.pod.clone()
    };
    let rounds: Vec<String> = (0..5 * 8).map(picked).collect();
    let (eighth, others): (Vec<_>, Vec<_>) = rounds.iter().enumerate().partition(|(n, _)| n % 8 == 0);
    assert!(others.iter().all(|(_, pod)| *pod == "p3"), "{rounds:?}");
    let mut had_a_turn: Vec<&String> = eighth.into_iter().map(|(_, pod)| pod).collect();
    had_a_turn.sort();
    assert_eq!(had_a_turn, names.iter().collect::<Vec<_>>());
}
