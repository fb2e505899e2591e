//! Whom do labels mean, in the dialects of the exporters that people run?

use fleetprof_core::trigger::reach::{self, Reach};

use super::*;

/// Two apps, a CronJob and an Argo Rollout in `shop`, and the exporter that reports all pods, in `monitoring`
/// and once more in `shop`.
fn cluster() -> Vec<PodLink> {
    let of = |namespace: &str, pod: &str, kind: &str, name: &str, owner: (&str, &str)| {
        let mut link = link(pod, name);
        let facts = Arc::get_mut(&mut link.pod).unwrap();
        facts.namespace = namespace.into();
        facts.labels = Arc::default();
        facts.workload = Arc::new(Workload { kind: kind.into(), name: name.into() });
        let (kind, name) = owner;
        let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        facts.owner = Some(Arc::new(Owner {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: name.into(),
        }));
        link
    };
    vec![
        of("shop", "web-5d8f-x", "Deployment", "web", ("ReplicaSet", "web-5d8f")),
        of("shop", "db-0", "StatefulSet", "db", ("StatefulSet", "db")),
        of("shop", "tick-29930476-x", "CronJob", "tick", ("Job", "tick-29930476")),
        of("shop", "pay-66-x", "Rollout", "pay", ("ReplicaSet", "pay-66")),
        of("shop", "ksm-0", "StatefulSet", "ksm", ("StatefulSet", "ksm")),
        of("monitoring", "ksm-0", "StatefulSet", "ksm", ("StatefulSet", "ksm")),
    ]
}

fn labels(text: &str) -> place::Labels {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn found(text: &str) -> String {
    let (links, labels) = (cluster(), labels(text));
    let places = places(|name| labels.get(name).map(String::as_str), None, &links);
    let shown = places.iter().map(|p| format!("{}/{}:{}", p.namespace, p.workload, p.pods.join(",")));
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn labels_mean_whom_their_exporter_speaks_of() {
    let web_pod = "shop/Deployment/web:web-5d8f-x";
    let web = "shop/Deployment/web:";
    let tick = "shop/CronJob/tick:";
    let ksm = "namespace=monitoring pod=ksm-0 container=ksm service=ksm job=ksm";
    let in_shop = "namespace=shop pod=ksm-0 container=ksm service=ksm job=ksm";
    let cases: &[(&str, &str)] = &[
        // kube-state-metrics, with and without honor_labels
        ("namespace=shop pod=web-5d8f-x", web_pod),
        (&format!("{ksm} exported_namespace=shop exported_pod=web-5d8f-x exported_container=app"), web_pod),
        (&format!("{ksm} exported_namespace=shop deployment=web"), web),
        (&format!("{in_shop} exported_namespace=shop deployment=web"), web),
        (&format!("{in_shop} exported_namespace=shop"), ""),
        (&format!("{in_shop} exported_namespace=shop exported_service=web"), web),
        (ksm, "monitoring/StatefulSet/ksm:ksm-0"),
        ("exported_namespace= namespace=shop pod=db-0", "shop/StatefulSet/db:db-0"),
        // Jobs and what is above them
        ("namespace=shop job_name=tick-29930476", tick),
        ("namespace=shop cronjob=tick", tick),
        ("namespace=shop replicaset=web-5d8f", web),
        ("namespace=shop rollout=pay", "shop/Rollout/pay:"),
        // mixins and owners
        ("namespace=shop workload=web workload_type=deployment", web),
        ("namespace=shop workload=web workload_type=statefulset", ""),
        ("namespace=shop workload=web", web),
        ("namespace=shop owner_kind=ReplicaSet owner_name=pay-66", "shop/Rollout/pay:"),
        ("namespace=shop created_by_kind=Job created_by_name=tick-29930476", tick),
        ("namespace=shop scaletargetref_kind=Deployment scaletargetref_name=web", web),
        // OpenTelemetry
        ("k8s_namespace_name=shop k8s_pod_name=web-5d8f-x", web_pod),
        ("k8s.namespace.name=shop k8s.pod.name=web-5d8f-x", web_pod),
        ("k8s_namespace_name=shop k8s_deployment_name=web", web),
        ("k8s.namespace.name=shop k8s.cronjob.name=tick", tick),
        // older cAdvisor, relabelled by hand, Datadog, Istio
        ("namespace=shop pod_name=db-0 container_name=db", "shop/StatefulSet/db:db-0"),
        ("kubernetes_namespace=shop kubernetes_pod_name=db-0", "shop/StatefulSet/db:db-0"),
        ("kube_namespace=shop kube_stateful_set=db", "shop/StatefulSet/db:"),
        ("destination_workload_namespace=shop destination_workload=web", web),
        ("pod=web-5d8f-x", ""),
    ];
    for (labels, wanted) in cases {
        assert_eq!(found(labels), *wanted, "{labels}");
    }
}

#[test]
fn the_series_of_a_query_keep_every_label_that_names_somebody() {
    let all = labels(
        "namespace=monitoring pod=ksm-0 exported_namespace=shop exported_pod=db-0 secret=s k8s.pod.name=x",
    );
    let (series, links) = (promql::Series::of(&all), cluster());
    let places = places(|name| series.label(name), Some("monitoring"), &links);
    assert_eq!(places.into_iter().map(|p| p.pods.join(",")).collect::<Vec<_>>(), ["db-0"]);
    assert_eq!(series.label("secret"), None);
}

#[test]
fn an_alert_that_leads_nowhere_says_what_is_missing() {
    let policy = |spec: Value| {
        let mut policy = policy(spec);
        policy.metadata.namespace = Some("shop".into());
        policy
    };
    let asks = policy(json!({"alerts": [{"matchers": ["alertname=Slow"]}]}));
    let mut suspended = asks.clone();
    suspended.spec.suspend = true;
    let none = policy(json!({}));
    let cases = [
        (&asks, "Slow", "pod=db-0", Reach::NoNamespace),
        (&none, "Slow", "namespace=shop pod=db-0", Reach::NoPolicy),
        (&suspended, "Slow", "namespace=shop pod=db-0", Reach::NoPolicy),
        (&asks, "Slow", "namespace=other pod=db-0", Reach::NoPolicy),
        (&asks, "Fast", "namespace=shop pod=db-0", Reach::NoMatcher),
        (&asks, "Slow", "namespace=shop pod=gone", Reach::NoPod),
        (&asks, "Slow", "namespace=shop pod=db-0", Reach::Matched),
    ];
    let links = cluster();
    for (policy, name, text, wanted) in cases {
        let alert = Alert {
            labels: labels(&format!("alertname={name} {text}")),
            fingerprint: "0".into(),
            starts_at: at(0),
        };
        let reached = reach::with_policy(&policy.into(), &links, std::slice::from_ref(&alert));
        assert_eq!(reached, [wanted], "{name} {text}");
        assert!(reach::before_policies(&alert) <= wanted, "policies only add");
    }
    assert_eq!(
        reach::summary(&[Reach::NoPod, Reach::Matched, Reach::NoNamespace, Reach::NoNamespace]),
        "1 alert matched; 1 alert matches an alert trigger, but its labels name no linked pod or workload; 2 \
         alerts have no label for a namespace"
    );
    assert_eq!(reach::summary(&[]), "no alert is firing");
}
