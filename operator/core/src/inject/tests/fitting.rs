//! What the agent asks for under LimitRanges, quotas and `spec.resources`, and that no pod is refused for it.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::resources::{PodResources, Resources, Side};
use super::*;

/// The rules of a namespace.
fn rules(limits: Value, quotas: Value) -> ResourceRules {
    let range = json!({"metadata": {"name": "small"}, "spec": {"limits": limits}});
    let quotas = quotas.as_array().unwrap().iter().map(|quota| {
        let object = json!({"metadata": {"name": "team"}, "status": quota});
        Arc::new(serde_json::from_value(object).unwrap())
    });
    ResourceRules {
        limit_ranges: vec![Arc::new(serde_json::from_value(range).unwrap())],
        quotas: quotas.collect(),
    }
}

/// A pod whose one container has these `resources`, with `spec.resources`.
fn asking(resources: Value, of_pod: Value) -> Value {
    edit(pod_with("/spec/containers/0/resources", resources), "/spec/resources", of_pod)
}

/// 100m and 64Mi, as requests and limits.
fn app() -> Value {
    asking(json!({"requests": both("100m", "64Mi"), "limits": both("100m", "64Mi")}), json!(null))
}

fn both(cpu: &str, memory: &str) -> Value {
    json!({"cpu": cpu, "memory": memory})
}

/// The `resources` of the agent in `pod`, or what is in the way.
fn fitted(pod: &Value, rules: &ResourceRules, policy: Value) -> Result<Value, String> {
    let wanted = Wanted::new(default_resources(), &Value::Null, Some(policy));
    let fitted = |pod: &Value| {
        let raw = RawPod::read(pod).unwrap();
        let fitted = Bounds::of(rules, &raw).and_then(|bounds| fit(&wanted, &raw, &bounds));
        fitted.map_err(|skip| {
            assert_eq!(skip.reason, Reason::ResourcesConflict);
            skip.cause
        })
    };
    // What the webhook does not read is not there.
    let answer = fitted(&read(&pod.to_string()).unwrap());
    if let Some(kept) = kept(pod) {
        assert_eq!(fitted(&kept), answer, "the leader explains what the webhook does: {pod} {kept}");
    }
    answer
}

/// What the leader keeps of a pod that runs.
fn kept(pod: &Value) -> Option<Value> {
    let mut pod = pod.clone();
    for (key, value) in [("namespace", "shop"), ("name", "orders-1"), ("uid", "u")] {
        pod["metadata"][key] = json!(value);
    }
    let facts = PodFacts::of(&serde_json::from_value(pod).ok()?)?;
    serde_json::from_str(facts.uninjected.as_deref()?).ok()
}

#[test]
fn limit_ranges_are_kept() {
    let container = |rule: Value| {
        let mut item = json!({"type": "Container"});
        item.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        json!([item])
    };
    let asks = |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    let small = || both("5m", "16Mi");
    for (rule, expected) in [
        (json!({}), default_resources()),
        (json!({"min": {"cpu": "50m"}}), asks(both("50m", "16Mi"), json!({"memory": "256Mi"}))),
        (json!({"max": {"memory": "128Mi"}}), asks(small(), json!({"memory": "128Mi"}))),
        (json!({"max": {"memory": "200Mi"}}), asks(small(), json!({"memory": "200Mi"}))),
        (json!({"max": {"cpu": "1"}}), asks(small(), both("1000m", "256Mi"))),
        (json!({"max": {"cpu": "500m"}}), asks(small(), both("500m", "256Mi"))),
        (
            json!({"maxLimitRequestRatio": {"memory": "4"}}),
            asks(both("5m", "32Mi"), json!({"memory": "128Mi"})),
        ),
        (json!({"maxLimitRequestRatio": {"cpu": "4"}}), asks(both("50m", "16Mi"), both("200m", "256Mi"))),
        (json!({"maxLimitRequestRatio": {"memory": "20"}}), default_resources()),
        // Without a limit of its own the agent would get this one, and wait for CPU while a target waits for it.
        (json!({"default": {"cpu": "20m"}}), asks(small(), both("1000m", "256Mi"))),
        (json!({"default": {"memory": "20Mi"}}), default_resources()),
        (json!({"defaultRequest": {"cpu": "2"}}), default_resources()),
        (
            json!({"default": {"nvidia.com/gpu": "1"}}),
            asks(
                json!({"cpu": "5m", "memory": "16Mi", "nvidia.com/gpu": "0"}),
                json!({"memory": "256Mi", "nvidia.com/gpu": "0"}),
            ),
        ),
    ] {
        assert_eq!(
            fitted(&app(), &rules(container(rule.clone()), json!([])), json!({})),
            Ok(expected),
            "{rule}"
        );
    }
    for (rule, named) in [
        (json!({"max": {"cpu": "20m"}}), "the LimitRange small (max cpu 20m per Container)"),
        (json!({"max": {"memory": "16Mi"}}), "the LimitRange small (max memory 16Mi per Container)"),
        (json!({"min": {"memory": "1Gi"}}), "the LimitRange small (min memory 1Gi per Container)"),
        (
            json!({"min": {"nvidia.com/gpu": "1"}}),
            "the LimitRange small (min nvidia.com/gpu 1 per Container)",
        ),
    ] {
        let cause = fitted(&app(), &rules(container(rule), json!([])), json!({})).unwrap_err();
        assert!(cause.starts_with(named) && cause.contains("leaves no room for the agent"), "{cause}");
    }
}

#[test]
fn limit_ranges_for_pods_count_the_other_containers() {
    let pods = |rule: &str, amount: Value| rules(json!([{"type": "Pod", rule: amount}]), json!([]));
    let limit = |answer: Result<Value, String>| answer.map(|r| r["limits"]["memory"].clone());
    assert_eq!(limit(fitted(&app(), &pods("max", json!({"memory": "1Gi"})), json!({}))), Ok(json!("256Mi")));
    assert_eq!(
        limit(fitted(&app(), &pods("max", json!({"memory": "164Mi"})), json!({}))),
        Ok(json!("100Mi")),
        "64 of them are the app's"
    );
    let cause = fitted(&app(), &pods("max", json!({"memory": "80Mi"})), json!({})).unwrap_err();
    assert!(cause.starts_with("the LimitRange small (max memory 80Mi per Pod)"), "{cause}");
    assert_eq!(
        limit(fitted(&app(), &pods("maxLimitRequestRatio", json!({"memory": "2"})), json!({}))),
        Ok(json!("128Mi")),
        "192Mi to 96Mi"
    );
    let sidecar = json!([{"name": "mesh", "restartPolicy": "Always", "resources": {"limits": both("100m", "100Mi")}},
        {"name": "migrate", "resources": {"limits": both("100m", "10Mi")}}]);
    let meshed = edit(app(), "/spec/initContainers", sidecar);
    assert_eq!(
        limit(fitted(&meshed, &pods("max", json!({"memory": "264Mi"})), json!({}))),
        Ok(json!("100Mi")),
        "a sidecar counts, an init container that ends does not"
    );
}

#[test]
fn nothing_is_requested_where_the_pod_names_what_it_needs() {
    let nothing = json!({"requests": both("0m", "0"), "limits": {"memory": "128Mi"}});
    let requests = json!({"requests": both("100m", "64Mi")});
    let limits = json!({"limits": both("200m", "128Mi")});
    let full = asking(requests.clone(), requests.clone());
    let rest = |cpu, memory, limit| json!({"requests": both(cpu, memory), "limits": {"memory": limit}});
    assert_eq!(fitted(&full, &ResourceRules::default(), json!({})), Ok(rest("0m", "0", "256Mi")));
    let limited = asking(requests.clone(), limits.clone());
    assert_eq!(fitted(&limited, &ResourceRules::default(), json!({})), Ok(nothing.clone()));
    assert_eq!(
        fitted(&limited, &ResourceRules::default(), json!({"requests": both("50m", "32Mi")})),
        Ok(nothing),
        "whatever the policy says"
    );
    let cpu = asking(requests.clone(), json!({"requests": {"cpu": "100m"}}));
    assert_eq!(fitted(&cpu, &ResourceRules::default(), json!({})), Ok(rest("0m", "16Mi", "256Mi")));
    let min = rules(json!([{"type": "Container", "min": {"cpu": "50m"}}]), json!([]));
    let cause = fitted(&full, &min, json!({})).unwrap_err();
    assert!(cause.starts_with("spec.resources.requests.cpu of the pod leaves no room"), "{cause}");
    let roomy = asking(requests, json!({"requests": both("150m", "64Mi")}));
    assert_eq!(fitted(&roomy, &min, json!({})), Ok(rest("50m", "0", "256Mi")));
}

#[test]
fn a_quota_is_left_to_the_app_unless_the_policy_says_otherwise() {
    let quota = |key: &str, hard: &str, used: &str| {
        rules(json!([]), json!([{"hard": {key: hard, "pods": "9"}, "used": {key: used}}]))
    };
    for key in ["requests.cpu", "cpu"] {
        assert_eq!(
            fitted(&app(), &quota(key, "1", "900m"), json!({})),
            Ok(json!({"requests": both("0m", "16Mi"), "limits": {"memory": "256Mi"}})),
            "the last replica still starts: {key}"
        );
    }
    let limits = quota("limits.memory", "1Gi", "512Mi");
    let cause = fitted(&app(), &limits, json!({})).unwrap_err();
    assert!(cause.starts_with("the ResourceQuota team (limits.memory) would count"), "{cause}");
    let chosen = json!({"limits": {"memory": "64Mi"}});
    assert_eq!(
        fitted(&app(), &limits, chosen.clone()),
        Ok(json!({"requests": both("5m", "16Mi"), "limits": {"memory": "64Mi"}}))
    );
    let cause = fitted(&app(), &quota("limits.memory", "1Gi", "900Mi"), chosen).unwrap_err();
    assert!(cause.starts_with("the ResourceQuota team (limits.memory) leaves no room"), "{cause}");
    let cause = fitted(&app(), &quota("limits.cpu", "9", "1"), json!({})).unwrap_err();
    assert!(cause.contains("agent.resources.limits.cpu uses the quota"), "{cause}");
    assert_eq!(
        fitted(&app(), &quota("requests.nvidia.com/gpu", "0", "0"), json!({})),
        Ok(default_resources())
    );
}

/// (scopes, scopeSelector, the pod, whether the quota counts it once it has an agent)
#[test]
fn a_quota_counts_pods_that_match_its_scopes() {
    let of_class = |operator: &str, values: Value| json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]});
    let with = |key: &str, value: Value| edit(app(), &format!("/spec/{key}"), value);
    let (short, high) = (with("activeDeadlineSeconds", json!(60)), with("priorityClassName", json!("high")));
    let near = |kind: &str, terms: Value| with("affinity", json!({kind: terms}));
    let required = |term: Value| json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    let preferred = |term: Value| json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]});
    let across = json!(["CrossNamespacePodAffinity"]);
    let no = Value::Null;
    let cases = [
        (json!(["Terminating"]), no.clone(), app(), false),
        (json!(["Terminating"]), no.clone(), short.clone(), true),
        (json!(["NotTerminating"]), no.clone(), app(), true),
        (json!(["NotTerminating"]), no.clone(), short.clone(), false),
        (json!(["NotBestEffort"]), no.clone(), app(), true),
        (json!(["BestEffort"]), no.clone(), app(), false),
        (json!(["NotBestEffort", "Terminating"]), no.clone(), app(), false),
        (json!(["PriorityClass"]), no.clone(), app(), false),
        (no.clone(), of_class("Exists", no.clone()), high.clone(), true),
        (no.clone(), of_class("DoesNotExist", no.clone()), high.clone(), false),
        (no.clone(), of_class("DoesNotExist", no.clone()), app(), true),
        (no.clone(), of_class("In", json!(["low", "high"])), high.clone(), true),
        (no.clone(), of_class("In", json!(["low"])), high.clone(), false),
        (no.clone(), of_class("In", json!(["low"])), app(), false),
        (no.clone(), of_class("NotIn", json!(["high"])), high.clone(), false),
        (no.clone(), of_class("NotIn", json!(["high"])), app(), true),
        (json!(["Terminating"]), of_class("In", json!(["high"])), high, false),
        (across.clone(), no.clone(), app(), false),
        (across.clone(), no.clone(), near("podAffinity", required(json!({"topologyKey": "z"}))), false),
        (across.clone(), no.clone(), near("podAffinity", required(json!({"namespaces": []}))), false),
        (
            across.clone(),
            no.clone(),
            near("podAffinity", required(json!({"namespaceSelector": null}))),
            false,
        ),
        (across.clone(), no.clone(), near("podAffinity", required(json!({"namespaces": ["a"]}))), true),
        (across.clone(), no.clone(), near("podAffinity", preferred(json!({"namespaceSelector": {}}))), true),
        (across, no.clone(), near("podAntiAffinity", preferred(json!({"namespaces": ["a"]}))), true),
        (json!(["FromTheFuture"]), no.clone(), app(), true),
    ];
    for (scopes, selector, pod, counted) in cases {
        let rules = scoped(&scopes, &selector);
        assert_eq!(fitted(&pod, &rules, json!({})).is_err(), counted, "{scopes} {selector} {pod}");
    }
}

/// A quota on memory limits, of which nothing is left, with these scopes.
fn scoped(scopes: &Value, selector: &Value) -> ResourceRules {
    let mut rules =
        rules(json!([]), json!([{"hard": {"limits.memory": "1"}, "used": {"limits.memory": "1"}}]));
    let mut quota = (*rules.quotas[0]).clone();
    quota.spec = Some(serde_json::from_value(json!({"scopes": scopes, "scopeSelector": selector})).unwrap());
    rules.quotas = vec![Arc::new(quota)];
    rules
}

/// The agent's resources would make it `Burstable`: out of a quota that bounds such pods, or into one in
/// which every container has to name what it requests.
#[test]
fn no_pod_is_moved_from_one_quota_to_another() {
    let bare = asking(json!({}), json!(null));
    let zero = asking(json!({"requests": both("0", "0")}), json!(null));
    let (no, chosen) = (Value::Null, json!({"limits": {"memory": "64Mi"}}));
    for (pod, policy) in [(&bare, json!({})), (&bare, chosen), (&zero, json!({}))] {
        for scope in ["BestEffort", "NotBestEffort"] {
            let cause = fitted(pod, &scoped(&json!([scope]), &no), policy.clone()).unwrap_err();
            let words = format!("the ResourceQuota team (scope {scope}) tells BestEffort pods from others");
            assert!(cause.starts_with(&words), "{cause}");
        }
    }
    let other = scoped(&json!(["NotBestEffort", "Terminating"]), &no);
    assert_eq!(fitted(&bare, &other, json!({})), Ok(default_resources()), "a quota of other pods");
    let by_pod = asking(json!({}), json!({"requests": both("100m", "64Mi")}));
    let quota = scoped(&json!(["BestEffort"]), &no);
    assert!(fitted(&by_pod, &quota, json!({})).is_ok(), "spec.resources make it Burstable already");
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let of = |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    let all = || of(both("1", "64Mi"), both("1", "64Mi"));
    let equal = || of(both("100m", "64Mi"), both("100m", "64Mi"));
    let none = || json!({});
    // (what the app asks for, a container beside it, the pod itself, the policy's agent.resources, injected)
    let cases = [
        (all(), all(), json!(null), none(), false),
        (json!({"limits": both("1", "64Mi")}), all(), json!(null), none(), false),
        (of(both("1.0", "64Mi"), both("1000m", "65536Ki")), all(), json!(null), none(), false),
        (all(), all(), json!(null), equal(), true),
        (all(), all(), json!(null), json!({"limits": both("100m", "64Mi")}), false),
        (all(), none(), json!(null), none(), true),
        (of(both("500m", "64Mi"), both("1", "64Mi")), all(), json!(null), none(), true),
        (json!({"limits": {"memory": "64Mi"}}), all(), json!(null), none(), true),
        (all(), all(), all(), none(), true),
    ];
    for (app, beside, of_pod, agent, injected) in cases {
        for list in ["/spec/containers", "/spec/initContainers"] {
            let mut pod = asking(app.clone(), of_pod.clone());
            let container = json!({"name": "beside", "image": "i", "resources": beside});
            match pod.pointer_mut(list).and_then(Value::as_array_mut) {
                Some(containers) => containers.push(container),
                None => pod["spec"]["initContainers"] = json!([container]),
            }
            let wanted = Wanted::new(default_resources(), &Value::Null, Some(agent.clone()));
            let raw = RawPod::read(&pod).unwrap();
            let rules = ResourceRules::default();
            let resources = fit(&wanted, &raw, &Bounds::of(&rules, &raw).unwrap()).unwrap();
            let kept = keep_class(&raw, &resources);
            assert_eq!(kept.is_ok(), injected, "{app} {beside} {of_pod} {agent}: {kept:?}");
        }
    }
}

#[test]
fn what_a_policy_leaves_open_is_the_charts() {
    let none = ResourceRules::default();
    let limits = json!({"limits": {"memory": "64Mi"}});
    assert_eq!(
        fitted(&app(), &none, limits),
        Ok(json!({"requests": both("5m", "16Mi"), "limits": {"memory": "64Mi"}})),
        "an autoscaler that finds no CPU request stops scaling"
    );
    let more = json!({"requests": {"memory": "512Mi"}});
    assert_eq!(
        fitted(&app(), &none, more),
        Ok(json!({"requests": both("5m", "512Mi"), "limits": {"memory": "512Mi"}}))
    );
    let less = json!({"limits": {"cpu": "2m"}});
    assert_eq!(
        fitted(&app(), &none, less),
        Ok(json!({"requests": both("2m", "16Mi"), "limits": {"cpu": "2m", "memory": "256Mi"}}))
    );
    let wanted = Wanted::new(default_resources(), &json!({"requests": {"cpu": "7m"}, "limits": null}), None);
    assert_eq!(
        wanted.all,
        json!({"requests": {"cpu": "7m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}})
    );
}

/// Of the CPU that the containers of a pod request, the agent's is at most a twentieth.
#[test]
fn an_autoscaler_that_counts_the_agent_acts_as_without_it() {
    let none = ResourceRules::default();
    let cpu = |answer: Result<Value, String>| answer.map(|r| r["requests"]["cpu"].clone());
    let requests = |cpu: &str| asking(json!({"requests": both(cpu, "64Mi")}), json!(null));
    for (app, agent) in
        [("1", "5m"), ("100m", "5m"), ("99m", "4m"), ("20m", "1m"), ("19m", "0m"), ("10m", "0m")]
    {
        assert_eq!(cpu(fitted(&requests(app), &none, json!({}))), Ok(json!(agent)), "{app}");
        let chosen = json!({"requests": {"cpu": "7m"}});
        assert_eq!(
            cpu(fitted(&requests(app), &none, chosen.clone())),
            Ok(json!("7m")),
            "the policy says so: {app}"
        );
        let wanted = Wanted::new(default_resources(), &chosen, None);
        let pod = requests(app);
        let raw = RawPod::read(&pod).unwrap();
        let by_chart = fit(&wanted, &raw, &Bounds::of(&none, &raw).unwrap()).unwrap();
        assert_eq!(by_chart["requests"]["cpu"], "7m", "the chart says so: {app}");
    }
    let limited = asking(json!({"limits": both("40m", "64Mi")}), json!(null));
    assert_eq!(cpu(fitted(&limited, &none, json!({}))), Ok(json!("2m")), "a limit is requested");
    let mesh = json!([{"name": "mesh", "restartPolicy": "Always", "resources": {"requests": {"cpu": "60m"}}},
        {"name": "migrate", "resources": {"requests": {"cpu": "2"}}}]);
    let meshed = edit(requests("20m"), "/spec/initContainers", mesh);
    assert_eq!(cpu(fitted(&meshed, &none, json!({}))), Ok(json!("4m")), "of all that run beside it");
    let nothing = asking(json!({}), json!(null));
    assert_eq!(cpu(fitted(&nothing, &none, json!({}))), Ok(json!("5m")), "no autoscaler works there");
    let min = rules(json!([{"type": "Container", "min": {"cpu": "10m"}}]), json!([]));
    assert_eq!(cpu(fitted(&requests("20m"), &min, json!({}))), Ok(json!("10m")), "a rule comes first");
}

const CPU: &[&str] = &["0", "1m", "5m", "20m", "50m", "100m", "250m", "1", "3"];
const MEMORY: &[&str] = &["0", "1", "16Mi", "32Mi", "50M", "64Mi", "128Mi", "200Mi", "256Mi", "1Gi"];

fn some_amounts() -> impl Strategy<Value = Value> {
    let one = |of: &'static [&'static str]| prop::option::of(prop::sample::select(of));
    (one(CPU), one(MEMORY)).prop_map(|(cpu, memory)| {
        let named = [("cpu", cpu), ("memory", memory)];
        Value::Object(named.into_iter().filter_map(|(k, v)| Some((k.to_owned(), json!(v?)))).collect())
    })
}

fn some_rules() -> impl Strategy<Value = Value> {
    let ratio = prop::option::of(prop::sample::select(&["1", "1.1", "1.5", "2", "3", "4", "10", "7.3"][..]));
    let kind = prop::sample::select(&["Container", "Pod"][..]);
    let item = (kind, some_amounts(), some_amounts(), ratio.clone(), ratio);
    let item = item.prop_map(|(kind, min, max, cpu, memory)| {
        let ratios = json!({"cpu": cpu.unwrap_or("1000000"), "memory": memory.unwrap_or("1000000")});
        json!({"type": kind, "min": min, "max": max, "maxLimitRequestRatio": ratios})
    });
    prop::collection::vec(item, 0..3).prop_map(Value::from)
}

/// As `PodValidateLimitFunc` of the LimitRanger plugin, by floating-point numbers.
fn limit_ranger(
    rules: &Value,
    requests: &dyn Fn(&str, &str) -> Option<f64>,
    limits: &dyn Fn(&str, &str) -> Option<f64>,
) -> bool {
    let number = |name: &str, text: &Value| amount(name, text.as_str().unwrap());
    rules.as_array().unwrap().iter().all(|item| {
        let per = item["type"].as_str().unwrap();
        let all = |kind: &str, holds: &dyn Fn(f64, Option<f64>, Option<f64>) -> bool| {
            item[kind].as_object().unwrap().iter().all(|(name, text)| {
                holds(
                    number(if kind == "maxLimitRequestRatio" { "cpu" } else { name }, text),
                    requests(per, name),
                    limits(per, name),
                )
            })
        };
        all("min", &|m, r, l| r.is_some_and(|r| r >= m) && l.is_none_or(|l| l >= m))
            && all("max", &|m, r, l| l.is_some_and(|l| l <= m) && r.is_none_or(|r| r <= m))
            && all("maxLimitRequestRatio", &|m, r, l| {
                r.is_some_and(|r| r > 0.0) && l.is_some_and(|l| l > 0.0 && l / r.unwrap() * 1000.0 <= m)
            })
    })
}

/// Thousandths, as the plugin compares them.
fn amount(name: &str, text: &str) -> f64 {
    match name {
        "cpu" => fleetprof_crds::quantity::millicores(text).unwrap() as f64,
        _ => fleetprof_crds::quantity::bytes(text).unwrap() as f64 * 1000.0,
    }
}

proptest! {
    /// Where a pod passes the LimitRanges without the agent as far as containers go, it passes with it.
    #[test]
    fn whatever_the_rules_the_pod_with_the_agent_passes_them(rules_of in some_rules(), limits in some_amounts(), requests in some_amounts()) {
        let pod = asking(json!({"requests": requests, "limits": limits}), json!(null));
        let rules = rules(rules_of.clone(), json!([]));
        if let Ok(agent) = fitted(&pod, &rules, json!({})) {
            let agent = Resources::of(Some(&agent));
            let text = |side, name: &str| {
                let nanos = agent.get(side, name)?.nanos();
                Some(nanos as f64 / 1e6)
            };
            let all = PodResources::of(&RawPod::read(&pod).unwrap()).unwrap();
            let sum = |side, name: &str| {
                let nanos = all.with(side, name, agent.get(side, name))?.nanos();
                Some(nanos as f64 / 1e6)
            };
            let of = |side| move |per: &str, name: &str| if per == "Pod" { sum(side, name) } else { text(side, name) };
            prop_assert!(limit_ranger(&rules_of, &of(Side::Requests), &of(Side::Limits)), "{agent:?}");
            for (name, limit) in &agent.limits {
                prop_assert!(agent.requests[name] <= *limit, "{agent:?}");
            }
        }
    }
}
