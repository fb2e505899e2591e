//! Who is injected, and why the others are not.

use super::*;
use fleetprof_crds::Reason::{self, *};

const RESTRICTED: &[(&str, &str)] = &[("pod-security.kubernetes.io/enforce", "restricted")];
const BASELINE: &[(&str, &str)] = &[("pod-security.kubernetes.io/enforce", "baseline")];
const DISABLED: &[(&str, &str)] = &[("fleetprof.dev/profiling", "disabled")];
const OPT: &str = "/metadata/labels/fleetprof.dev~1profiling";
const USER: &str = "/spec/containers/0/securityContext";

/// A pod, its namespace's labels, and the reason of the "no"; none where it is injected.
type Case = (&'static str, Value, &'static [(&'static str, &'static str)], Option<Reason>);

fn opting_out() -> Vec<Case> {
    vec![
        ("a plain pod is injected", pod(), &[], None),
        ("its label keeps the agent out", pod_with(OPT, json!("disabled")), &[], Some(OptedOut)),
        ("its namespace's label too", pod(), DISABLED, Some(OptedOut)),
        ("the pod's `enabled` wins over its namespace", pod_with(OPT, json!("enabled")), DISABLED, None),
        (
            "the pod's `disabled` holds in an enabled namespace",
            pod_with(OPT, json!("disabled")),
            &[("fleetprof.dev/profiling", "enabled")],
            Some(OptedOut),
        ),
        ("another value leaves it to the namespace", pod_with(OPT, json!("maybe")), DISABLED, Some(OptedOut)),
        ("another value alone means nothing", pod_with(OPT, json!("maybe")), &[], None),
    ]
}

fn platform() -> Vec<Case> {
    vec![
        ("hostPID", pod_with("/spec/hostPID", json!(true)), &[], Some(HostPid)),
        ("hostPID: false is nothing", pod_with("/spec/hostPID", json!(false)), &[], None),
        (
            "shareProcessNamespace: false",
            pod_with("/spec/shareProcessNamespace", json!(false)),
            &[],
            Some(ProcessNamespaceConflict),
        ),
        (
            "shareProcessNamespace: true is welcome",
            pod_with("/spec/shareProcessNamespace", json!(true)),
            &[],
            None,
        ),
        (
            "shareProcessNamespace: null is unset",
            pod_with("/spec/shareProcessNamespace", json!(null)),
            &[],
            None,
        ),
        ("os Windows", pod_with("/spec/os", json!({"name": "windows"})), &[], Some(WindowsNode)),
        ("os Linux", pod_with("/spec/os", json!({"name": "linux"})), &[], None),
        (
            "a node selector for Windows",
            pod_with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
            &[],
            Some(WindowsNode),
        ),
        (
            "the old node selector for Windows",
            pod_with("/spec/nodeSelector", json!({"beta.kubernetes.io/os": "windows"})),
            &[],
            Some(WindowsNode),
        ),
        (
            "a node selector for Linux",
            pod_with("/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
            &[],
            None,
        ),
        (
            "a mirror pod",
            pod_with("/metadata/annotations", json!({"kubernetes.io/config.mirror": "abc"})),
            &[],
            Some(StaticPod),
        ),
        (
            "a pod of a node",
            pod_with("/metadata/ownerReferences", json!([{"kind": "Node", "name": "n"}])),
            &[],
            Some(StaticPod),
        ),
        ("the host's network", pod_with("/spec/hostNetwork", json!(true)), &[], None),
        ("the host's IPC", pod_with("/spec/hostIPC", json!(true)), &[], None),
        ("its own user namespace", pod_with("/spec/hostUsers", json!(false)), &[], None),
        ("no mounted token", pod_with("/spec/automountServiceAccountToken", json!(false)), &[], None),
        (
            "a group for volumes",
            pod_with("/spec/securityContext", json!({"fsGroup": 3000})),
            RESTRICTED,
            None,
        ),
    ]
}

fn nodes() -> Vec<Case> {
    let placed = |terms: Value| {
        pod_with(
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}),
        )
    };
    let os = |operator: &str, values: Value| json!({"key": "kubernetes.io/os", "operator": operator, "values": values});
    let zone = || json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]});
    let term = |expressions: Value| json!({"matchExpressions": expressions});
    let windows = || os("In", json!(["windows"]));
    let old = json!({"key": "beta.kubernetes.io/os", "operator": "In", "values": ["windows"]});
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term(json!([windows()]))}]}});
    vec![
        ("nodes of Windows", placed(json!([term(json!([windows()]))])), &[], Some(WindowsNode)),
        ("nodes of Windows by the old label", placed(json!([term(json!([old]))])), &[], Some(WindowsNode)),
        (
            "no node of Linux",
            placed(json!([term(json!([os("NotIn", json!(["linux"]))]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows in one zone",
            placed(json!([term(json!([zone(), windows()]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows, whatever the zone",
            placed(json!([term(json!([zone(), windows()])), term(json!([windows()]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "beside a term that takes no node",
            placed(json!([term(json!([windows()])), {}])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows, or of one zone",
            placed(json!([term(json!([windows()])), term(json!([zone()]))])),
            &[],
            None,
        ),
        (
            "nodes of Windows, or one by name",
            placed(
                json!([term(json!([windows()])), {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
            ),
            &[],
            None,
        ),
        ("nodes of both", placed(json!([term(json!([os("In", json!(["windows", "linux"]))]))])), &[], None),
        ("nodes of Linux", placed(json!([term(json!([os("In", json!(["linux"]))]))])), &[], None),
        ("no node of Windows", placed(json!([term(json!([os("NotIn", json!(["windows"]))]))])), &[], None),
        ("nodes that say their system", placed(json!([term(json!([os("Exists", json!(null))]))])), &[], None),
        ("a preference for Windows is not a requirement", pod_with("/spec/affinity", preferred), &[], None),
        ("no terms", placed(json!([])), &[], None),
    ]
}

fn names_taken() -> Vec<Case> {
    let named = |name: &str| json!([{"name": name}]);
    vec![
        (
            "a container with our name",
            pod_with("/spec/containers", named("fleetprof-agent")),
            &[],
            Some(NameConflict),
        ),
        (
            "an init container with our name",
            pod_with("/spec/initContainers", named("fleetprof-agent")),
            &[],
            Some(NameConflict),
        ),
        (
            "a volume named as the token's",
            pod_with("/spec/volumes", named("fleetprof-token")),
            &[],
            Some(NameConflict),
        ),
        (
            "an annotation that was copied without the sidecar",
            pod_with("/metadata/annotations", json!({"fleetprof.dev/injected": "{}"})),
            &[],
            None,
        ),
        (
            "others in all lists",
            edit(pod_with("/spec/volumes", named("data")), "/spec/initContainers", named("migrate")),
            &[],
            None,
        ),
    ]
}

fn users() -> Vec<Case> {
    let user = |context: Value| pod_with(USER, context);
    let of_pod = |context: Value| edit(pod_with(USER, json!(null)), "/spec/securityContext", context);
    vec![
        ("a known user under restricted", pod(), RESTRICTED, None),
        ("a known user of the pod under restricted", of_pod(json!({"runAsUser": 7})), RESTRICTED, None),
        (
            "an unknown user under restricted",
            user(json!({"runAsNonRoot": true})),
            RESTRICTED,
            Some(UnknownUser),
        ),
        (
            "an unknown user under an invalid level",
            user(json!({})),
            &[("pod-security.kubernetes.io/enforce", "strict")],
            Some(UnknownUser),
        ),
        ("root under restricted", user(json!({"runAsUser": 0})), RESTRICTED, Some(UnknownUser)),
        ("an unknown user under baseline", user(json!({})), BASELINE, None),
        (
            "an unknown user that must not be root",
            user(json!({"runAsNonRoot": true})),
            &[],
            Some(UnknownUser),
        ),
        (
            "an unknown user of a pod that must not be root",
            of_pod(json!({"runAsNonRoot": true})),
            BASELINE,
            Some(UnknownUser),
        ),
        (
            "an unknown user that may be root although the pod says no",
            edit(
                user(json!({"runAsNonRoot": false})),
                "/spec/securityContext",
                json!({"runAsNonRoot": true}),
            ),
            &[],
            None,
        ),
        ("no security context at all", user(json!(null)), &[], None),
        (
            "warnings about restricted forbid nothing",
            user(json!(null)),
            &[("pod-security.kubernetes.io/warn", "restricted")],
            None,
        ),
    ]
}

fn malformed() -> Vec<Case> {
    vec![
        ("no object", json!([]), &[], Some(MalformedPod)),
        ("null", json!(null), &[], Some(MalformedPod)),
        ("no metadata", json!({"spec": {"containers": []}}), &[], Some(MalformedPod)),
        ("no spec", json!({"metadata": {}}), &[], Some(MalformedPod)),
        ("metadata of a wrong type", pod_with("/metadata", json!("x")), &[], Some(MalformedPod)),
        (
            "annotations of a wrong type",
            pod_with("/metadata/annotations", json!([])),
            &[],
            Some(MalformedPod),
        ),
        (
            "init containers of a wrong type",
            pod_with("/spec/initContainers", json!({})),
            &[],
            Some(MalformedPod),
        ),
        ("volumes of a wrong type", pod_with("/spec/volumes", json!("v")), &[], Some(MalformedPod)),
        (
            "containers of a wrong type",
            pod_with("/spec/containers", json!({"a": 1})),
            &[],
            Some(MalformedPod),
        ),
        (
            "a container without a name",
            pod_with("/spec/containers", json!([{"image": "x"}])),
            &[],
            Some(MalformedPod),
        ),
        (
            "a user that is not a number",
            pod_with(USER, json!({"runAsUser": "root"})),
            &[],
            Some(MalformedPod),
        ),
        ("a user that cannot be", pod_with(USER, json!({"runAsUser": -1})), &[], Some(MalformedPod)),
        (
            "a user beyond all users",
            pod_with(USER, json!({"runAsUser": 4_294_967_296_i64})),
            &[],
            Some(MalformedPod),
        ),
        ("hostPID of a wrong type", pod_with("/spec/hostPID", json!("yes")), &[], Some(MalformedPod)),
        (
            "terms that are no list",
            pod_with(
                "/spec/affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": "x"}}}),
            ),
            &[],
            Some(MalformedPod),
        ),
        ("no containers", pod_with("/spec/containers", json!([])), &[], Some(NoSelectedContainer)),
        (
            "null lists are missing lists",
            edit(pod_with("/spec/volumes", json!(null)), "/spec/initContainers", json!(null)),
            &[],
            None,
        ),
    ]
}

#[test]
fn every_pod_gets_an_agent_or_a_reason() {
    let cases = [opting_out(), platform(), nodes(), names_taken(), users(), malformed()].concat();
    assert!(cases.len() > 50);
    for (sentence, pod, namespace_labels, expected) in cases {
        match (outcome(&pod, namespace_labels, &[all()]), expected) {
            (Outcome::Injected { policy, container, patch }, None) => {
                assert_eq!((policy.as_str(), container.as_str()), ("all", "orders"), "{sentence}");
                assert!(!patch.is_empty(), "{sentence}");
            }
            (Outcome::Skipped { reason, message }, Some(expected)) => {
                assert_eq!(reason, expected, "{sentence}: {message}");
                assert!(message.len() > 30 && message.contains(reason.advice()), "{sentence}: {message}");
            }
            (other, expected) => panic!("{sentence}: {other:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn no_reason_goes_untested() {
    let cases = [opting_out(), platform(), nodes(), names_taken(), users(), malformed()].concat();
    let met: std::collections::BTreeSet<Reason> = cases.iter().filter_map(|c| c.3).collect();
    let known = [
        OptedOut,
        HostPid,
        ProcessNamespaceConflict,
        UnknownUser,
        WindowsNode,
        NoSelectedContainer,
        StaticPod,
        NameConflict,
        MalformedPod,
    ];
    assert_eq!(met, known.into_iter().collect());
}

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
    let agent = Agent { user: AgentUser::Root, image: "fleetprof-agent:0.1.0", resources };
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

#[test]
fn a_policy_sets_image_and_resources_of_its_agents_within_what_an_admin_allows() {
    let agent = json!({"image": "mirror.example/fleetprof-agent:7", "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}});
    let Outcome::Injected { patch, .. } =
        outcome(&pod(), &[], &[Policy::new("p", "2026-01-01T00:00:00Z", json!({"agent": agent}))])
    else {
        panic!("not injected")
    };
    let container = &patch.last().unwrap().value()[0];
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}});
    assert_eq!((&container["image"], &container["resources"]), (&agent["image"], &resources));

    let other = json!({"agent": {"image": "evil.example/fleetprof-agent:7"}});
    let outcome = outcome(&pod(), &[], &[Policy::new("p", "2026-01-01T00:00:00Z", other)]);
    let Outcome::Skipped { reason: ImageNotAllowed, message } = &outcome else { panic!("{outcome:?}") };
    assert!(message.contains("image \"evil.example/fleetprof-agent:7\" is not allowed"), "{message}");
}

fn served_by(pod: &Value, policies: &[Policy]) -> Option<String> {
    match outcome(pod, &[], policies) {
        Outcome::Injected { policy, .. } => Some(policy),
        _ => None,
    }
}

#[test]
fn the_oldest_policy_that_selects_the_pod_serves_it() {
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let only = |app: &str| json!({"selector": {"matchLabels": {"app": app}}});
    let pod = pod();
    assert_eq!(served_by(&pod, &[]), None);
    assert_eq!(outcome(&pod, &[], &[Policy::new("other", old, only("cart"))]), Outcome::NotSelected);
    assert_eq!(
        served_by(&pod, &[Policy::new("b", new, json!({})), Policy::new("a", old, json!({}))]).as_deref(),
        Some("a")
    );
    assert_eq!(
        served_by(&pod, &[Policy::new("b", old, json!({})), Policy::new("a", old, json!({}))]).as_deref(),
        Some("a"),
        "of the same age the first by name"
    );
    assert_eq!(
        served_by(&pod, &[Policy::new("b", new, only("orders")), Policy::new("a", old, only("cart"))])
            .as_deref(),
        Some("b")
    );
    assert_eq!(
        served_by(&pod, &[Policy::new("a", old, json!({"suspend": true}))]).as_deref(),
        Some("a"),
        "suspend stops sessions, not agents"
    );
}

#[test]
fn a_policy_of_the_cluster_serves_where_none_of_the_namespace_does() {
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let everywhere = |name, created| Policy::new(name, created, json!({})).of_cluster(json!({}));
    let in_team = || Policy::new("team", old, json!({})).of_cluster(json!({"matchLabels": {"team": "a"}}));
    let pod = pod();
    assert_eq!(served_by(&pod, &[everywhere("all", old)]).as_deref(), Some("all"));
    assert_eq!(
        served_by(&pod, &[everywhere("all", old), Policy::new("own", new, json!({}))]).as_deref(),
        Some("own"),
        "whatever the age"
    );
    assert_eq!(
        served_by(&pod, &[everywhere("b", new), everywhere("a", old)]).as_deref(),
        Some("a"),
        "of two the older"
    );
    assert_eq!(
        outcome(&pod, &[("team", "b")], &[in_team()]),
        Outcome::NotSelected,
        "the namespace is not selected"
    );
    assert!(matches!(outcome(&pod, &[("team", "a")], &[in_team()]), Outcome::Injected { .. }));
    let skipped = outcome(&pod, &[("team", "a"), DISABLED[0]], &[in_team()]);
    assert!(matches!(skipped, Outcome::Skipped { reason: OptedOut, .. }), "its people opt out by a label");
    let excluded = outcome_in("kube-system", &pod, &[], &[everywhere("all", old)]);
    assert!(matches!(excluded, Outcome::Skipped { reason: NamespaceExcluded, .. }));
}

#[test]
fn a_policy_that_attaches_on_demand_keeps_the_sidecar_out() {
    let ephemeral = || Policy::new("old", "2026-01-01T00:00:00Z", json!({"agent": {"mode": "Ephemeral"}}));
    let sidecar = Policy::new("new", "2026-02-01T00:00:00Z", json!({}));
    assert!(matches!(
        outcome(&pod(), &[], &[ephemeral()]),
        Outcome::Skipped { reason: AttachedOnDemand, .. }
    ));
    assert!(
        matches!(
            outcome(&pod(), &[], &[sidecar, ephemeral()]),
            Outcome::Skipped { reason: AttachedOnDemand, .. }
        ),
        "the older one serves it"
    );
}

#[test]
fn a_pod_that_no_policy_selects_is_none_of_our_business() {
    let other = || {
        [Policy::new("other", "2026-01-01T00:00:00Z", json!({"selector": {"matchLabels": {"app": "cart"}}}))]
    };
    for pod in [pod_with(OPT, json!("disabled")), pod_with("/spec/hostPID", json!(true)), pod()] {
        assert_eq!(outcome(&pod, &[], &other()), Outcome::NotSelected);
    }
}

#[test]
fn the_container_is_the_one_that_the_policy_picks() {
    let mesh =
        pod_with("/spec/containers", json!([{"name": "istio-proxy"}, {"name": "orders"}, {"name": "cron"}]));
    let pick = |pod: &Value, containers: Value| match outcome(
        pod,
        &[],
        &[Policy::new("p", "2026-01-01T00:00:00Z", json!({"containers": containers}))],
    ) {
        Outcome::Injected { container, .. } => container,
        other => format!("{other:?}"),
    };
    assert_eq!(pick(&mesh, json!({})), "orders");
    assert_eq!(pick(&mesh, json!({"include": ["c*"]})), "cron");
    let annotated = edit(
        mesh.clone(),
        "/metadata/annotations",
        json!({"kubectl.kubernetes.io/default-container": "cron"}),
    );
    assert_eq!(pick(&annotated, json!({})), "cron");
    assert!(matches!(
        outcome(&mesh, &[], &[Policy::new("p", "", json!({"containers": {"include": ["db"]}}))]),
        Outcome::Skipped { reason: NoSelectedContainer, .. }
    ));
}
