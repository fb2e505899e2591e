//! What do namespaces, the cluster and administrators allow to be injected?

use fleetprof_crds::Reason::*;

use super::verdicts::{BASELINE, OPT, USER};
use super::*;

#[test]
fn nothing_is_injected_in_our_own_namespaces() {
    for namespace in ["kube-system", "fleetprof"] {
        let outcome = outcome_in(namespace, &pod(), &[], &[all()]);
        assert!(
            matches!(outcome, Outcome::Skipped { reason: NamespaceExcluded, .. }),
            "{namespace}: {outcome:?}"
        );
        let mirror = pod_with("/metadata/annotations", json!({"kubernetes.io/config.mirror": "abc"}));
        let outcome = outcome_in(namespace, &mirror, &[], &[all()]);
        assert!(
            matches!(outcome, Outcome::Skipped { reason: StaticPod, .. }),
            "what keeps every agent out is said first: {outcome:?}"
        );
    }
}

#[test]
fn the_level_of_the_cluster_holds_where_a_namespace_names_none() {
    let (pod, none, baseline) = (pod_with(USER, json!(null)), labels(&[]), labels(BASELINE));
    let cluster = ClusterRules { default_pod_security: PodSecurity::Restricted, ..cluster() };
    let (policy, rules) = (all(), ResourceRules::default());
    let verdict = |namespace_labels| {
        judge(
            &pod,
            &AdmissionFacts {
                namespace: "shop",
                namespace_labels: Some(namespace_labels),
                resources: &rules,
                cluster: &cluster,
            },
            [policy.view("shop")],
        )
    };
    assert!(matches!(verdict(&none), Verdict::Skip(Skip { reason: UnknownUser, .. })));
    let resources = default_resources();
    let agent = Agent { user: AgentUser::Root, image: "fleetprof-agent:0.1.0", resources, spool_limit: None };
    let Verdict::Inject { policy, container, agent: found } = verdict(&baseline) else { panic!("left out") };
    assert_eq!((policy.name, container, found), ("all", "orders", agent));
}

#[test]
fn no_agent_is_injected_as_root_unless_an_admin_allows_it() {
    let by_default = ClusterRules { allow_root: false, ..cluster() };
    let (none, policy) = (labels(&[]), all());
    for (sentence, context, wanted) in [
        ("no user", json!(null), None),
        ("root by name", json!({"runAsUser": 0}), None),
        ("root that may be", json!({"runAsNonRoot": false}), None),
        ("a known user", json!({"runAsUser": 7}), Some(AgentUser::Target { uid: 7, gid: None })),
    ] {
        let pod = pod_with(USER, context);
        let facts = AdmissionFacts {
            namespace: "shop",
            namespace_labels: Some(&none),
            resources: &ResourceRules::default(),
            cluster: &by_default,
        };
        match (judge(&pod, &facts, [policy.view("shop")]), wanted) {
            (Verdict::Skip(skip), None) => {
                assert_eq!(skip.reason, UnknownUser, "{sentence}");
                assert!(skip.cause.contains("agent.allowRoot"), "{sentence}: {}", skip.cause);
            }
            (Verdict::Inject { agent, .. }, Some(user)) => assert_eq!(agent.user, user, "{sentence}"),
            (verdict, _) => panic!("{sentence}: {verdict:?}"),
        }
    }
    assert!(!ClusterRules::default().allow_root, "what is not set is not allowed");
}

#[test]
fn of_an_unknown_namespace_nothing_is_assumed() {
    let (cluster, everywhere) =
        (cluster(), || Policy::new("all", "2026-01-01T00:00:00Z", json!({})).of_cluster(json!({})));
    let resources = ResourceRules::default();
    let facts =
        AdmissionFacts { namespace: "new", namespace_labels: None, resources: &resources, cluster: &cluster };
    let enabled = |context| edit(pod_with(USER, context), OPT, json!("enabled"));
    let known = json!({"runAsUser": 7});
    for (sentence, pod, policy, expected) in [
        ("it may have opted out", pod(), all(), Some(NamespaceUnknown)),
        ("the same for a policy of the cluster", pod(), everywhere(), Some(NamespaceUnknown)),
        ("a pod may opt out by itself", pod_with(OPT, json!("disabled")), all(), Some(OptedOut)),
        ("a pod that opted in wins over any namespace", enabled(known), all(), None),
        ("it may be restricted, whatever an admin allows", enabled(json!({})), all(), Some(UnknownUser)),
    ] {
        match (judge(&pod, &facts, [policy.view("new")]), expected) {
            (Verdict::Skip(skip), Some(reason)) => assert_eq!(skip.reason, reason, "{sentence}"),
            (Verdict::Inject { agent, .. }, None) => assert_ne!(agent.user, AgentUser::Root, "{sentence}"),
            (verdict, _) => panic!("{sentence}: {verdict:?}"),
        }
    }
    let of_a_team = all().of_cluster(json!({"matchLabels": {"team": "a"}}));
    assert_eq!(judge(&pod(), &facts, [of_a_team.view("new")]), Verdict::NotSelected);
}
