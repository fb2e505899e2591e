//! Which policy serves a pod, and what of it shows in the agent?

use fleetprof_crds::Reason::*;

use super::verdicts::{DISABLED, OPT};
use super::*;

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
