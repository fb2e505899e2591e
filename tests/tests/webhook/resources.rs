//! Do pods start whatever LimitRanges and quotas their namespace has?

use anyhow::{Context, Result};
use fleetprof_tests::wait_for;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::rig::{SOON, Webhook, injected, namespace, pod, policy, register, server};

/// A namespace with a policy and these LimitRanges and quotas.
async fn ruled(client: &Client, name: &str, rules: &[Value]) -> Result<String> {
    let namespace = namespace(client, name, json!({})).await?;
    policy(client, &namespace).await?;
    for (n, rule) in rules.iter().enumerate() {
        let mut object = rule.clone();
        object["metadata"] = json!({"name": format!("rule-{n}")});
        if object["spec"]["limits"].is_array() {
            let ranges = Api::<LimitRange>::namespaced(client.clone(), &namespace);
            ranges.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            continue;
        }
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
        let quota = quotas.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        // What the quota controller does; nothing is used yet.
        let hard = rule["spec"]["hard"].clone();
        let used: serde_json::Map<_, _> =
            hard.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), json!("0"))).collect();
        let status = json!({"status": {"hard": hard, "used": used}});
        let name = quota.name_any();
        quotas.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(namespace)
}

fn limit_range(kind: &str, rule: Value) -> Value {
    let mut limit = rule;
    limit["type"] = json!(kind);
    json!({"spec": {"limits": [limit]}})
}

/// A pod that may use 100m and 64Mi and requests nearly all of it, with these resources of its own.
fn sized(of_pod: Value) -> Result<Pod> {
    let mut pod = serde_json::to_value(pod(json!({"runAsUser": 1000})))?;
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "90m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}});
    if !of_pod.is_null() {
        pod["spec"]["resources"] = of_pod;
    }
    Ok(serde_json::from_value(pod)?)
}

#[tokio::test]
async fn no_pod_is_refused_because_of_what_the_agent_asks_for() -> Result<()> {
    let client = server().await?;
    let own = namespace(&client, "own", json!({})).await?;
    let (both, none) = (json!({"cpu": "100m", "memory": "64Mi"}), json!(null));
    let container = |rule: Value| vec![limit_range("Container", rule)];
    let quota = |hard: Value| vec![json!({"spec": {"hard": hard}})];
    // (name, rules, resources of the pod, whether it gets an agent)
    let cases = [
        ("min-cpu", container(json!({"min": {"cpu": "50m"}})), none.clone(), true),
        ("max-memory", container(json!({"max": {"memory": "128Mi"}})), none.clone(), true),
        ("ratio", container(json!({"maxLimitRequestRatio": {"memory": "4"}})), none.clone(), true),
        ("default-cpu", container(json!({"default": {"cpu": "20m"}})), none.clone(), true),
        ("small", container(json!({"max": {"cpu": "100m", "memory": "64Mi"}})), none.clone(), true),
        (
            "tiny",
            container(json!({"max": {"memory": "16Mi"}, "default": {"memory": "8Mi"}})),
            none.clone(),
            false,
        ),
        ("of-pods", vec![limit_range("Pod", json!({"max": {"memory": "200Mi"}}))], none.clone(), true),
        ("pod-requests", vec![], json!({"requests": both}), true),
        ("pod-limits", vec![], json!({"limits": {"cpu": "200m", "memory": "128Mi"}}), true),
        (
            "quota-requests",
            quota(json!({"requests.cpu": "100m", "requests.memory": "64Mi"})),
            none.clone(),
            true,
        ),
        ("quota-limits", quota(json!({"limits.memory": "64Mi", "limits.cpu": "100m"})), none.clone(), false),
        ("guaranteed", vec![], none, false),
    ];
    let mut namespaces = Vec::new();
    for (name, rules, ..) in &cases {
        namespaces.push(ruled(&client, name, rules).await?);
    }
    let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let webhook = Webhook::start(&client, &own).await?;
    register(&client, &webhook, &names).await?;
    let plain = || async { injected(&client, names[0], &sized(json!(null))?).await };
    wait_for("the API server sends pods", SOON, plain).await?;
    for ((name, _, of_pod, gets_one), namespace) in cases.iter().zip(&names) {
        let sized = match *name {
            "tiny" => pod(json!({"runAsUser": 1000})),
            "guaranteed" => guaranteed()?,
            _ => sized(of_pod.clone())?,
        };
        let stored =
            injected(&client, namespace, &sized).await.with_context(|| format!("{name}: refused"))?;
        assert_eq!(stored.is_some(), *gets_one, "{name}");
        if *name == "default-cpu" {
            let spec = stored.context("injected")?.spec.context("a spec")?;
            let agent = spec.init_containers.into_iter().flatten().next_back().context("the agent")?;
            let limits = agent.resources.and_then(|r| r.limits).context("limits")?;
            assert_eq!(limits["cpu"].0, "1", "not the default of small apps");
        }
    }
    webhook.remove(&client).await
}

/// A pod that requests all that it may use.
fn guaranteed() -> Result<Pod> {
    let mut pod = serde_json::to_value(pod(json!({"runAsUser": 1000})))?;
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "100m", "memory": "64Mi"}});
    Ok(serde_json::from_value(pod)?)
}

/// A pod as [`sized`], with this in its spec.
fn with(key: &str, value: Value) -> Result<Pod> {
    let mut pod = serde_json::to_value(sized(json!(null))?)?;
    pod["spec"][key] = value;
    Ok(serde_json::from_value(pod)?)
}

/// A quota and pods, in order, each with whether it gets an agent.
type Scoped = (&'static str, Value, Vec<(Pod, bool)>);

/// Of each quota is left what the pods take that are expected to start without an agent.
fn scoped(class: &str) -> Result<Vec<Scoped>> {
    let plain = || sized(json!(null));
    let short = || with("activeDeadlineSeconds", json!(600));
    let urgent = || with("priorityClassName", json!(class));
    let near = |namespaces: Value| {
        let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
        term["namespaces"] = namespaces;
        let anti = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]});
        with("affinity", json!({"podAntiAffinity": anti}))
    };
    let everywhere = || {
        let term = json!({"topologyKey": "zone", "namespaceSelector": {}});
        with("affinity", json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}))
    };
    let bare = || pod(json!({"runAsUser": 1000}));
    let limits = json!({"limits.cpu": "100m", "limits.memory": "64Mi"});
    let of = |scopes: &[&str]| json!({"hard": limits, "scopes": scopes});
    let priority = |operator: &str, values: Value| {
        let mut wanted = json!({"scopeName": "PriorityClass", "operator": operator});
        if !values.is_null() {
            wanted["values"] = values;
        }
        json!({"hard": limits, "scopeSelector": {"matchExpressions": [wanted]}})
    };
    let best_effort = json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]});
    Ok(vec![
        ("best-effort", best_effort, vec![(plain()?, true), (bare(), false)]),
        ("not-best-effort", of(&["NotBestEffort"]), vec![(bare(), false), (plain()?, false)]),
        ("terminating", of(&["Terminating"]), vec![(plain()?, true), (short()?, false)]),
        ("not-terminating", of(&["NotTerminating"]), vec![(short()?, true), (plain()?, false)]),
        ("both", of(&["Terminating", "NotBestEffort"]), vec![(plain()?, true), (short()?, false)]),
        ("priority", of(&["PriorityClass"]), vec![(plain()?, true), (urgent()?, false)]),
        ("priority-in", priority("In", json!([class])), vec![(plain()?, true), (urgent()?, false)]),
        ("priority-not-in", priority("NotIn", json!([class])), vec![(urgent()?, true), (plain()?, false)]),
        ("priority-none", priority("DoesNotExist", json!(null)), vec![(urgent()?, true), (plain()?, false)]),
        (
            "affinity",
            of(&["CrossNamespacePodAffinity"]),
            vec![(plain()?, true), (near(json!([]))?, true), (near(json!(["db"]))?, false)],
        ),
        ("affinity-everywhere", of(&["CrossNamespacePodAffinity"]), vec![(everywhere()?, false)]),
    ])
}

/// A class of pods, which the API server's admission knows.
async fn priority_class(client: &Client, name: &str) -> Result<()> {
    let class = json!({"metadata": {"name": name}, "value": 1000});
    let classes = Api::<PriorityClass>::all(client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    let urgent = serde_json::to_value(with("priorityClassName", json!(name))?)?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pods = Api::<Pod>::default_namespaced(client.clone());
    wait_for("pods may have the class", SOON, || async {
        Ok(pods.create(&dry, &serde_json::from_value(urgent.clone())?).await.ok())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn no_pod_is_refused_or_moved_because_of_the_scopes_of_a_quota() -> Result<()> {
    let client = server().await?;
    let own = namespace(&client, "own", json!({})).await?;
    let class = format!("urgent-{own}");
    priority_class(&client, &class).await?;
    let cases = scoped(&class)?;
    let mut namespaces = Vec::new();
    for (name, quota, _) in &cases {
        namespaces.push(ruled(&client, name, &[json!({"spec": quota})]).await?);
    }
    let free = ruled(&client, "free", &[]).await?;
    let names: Vec<&str> = namespaces.iter().chain([&free]).map(String::as_str).collect();
    let webhook = Webhook::start(&client, &own).await?;
    register(&client, &webhook, &names).await?;
    let plain = || async { injected(&client, &free, &sized(json!(null))?).await };
    wait_for("the API server sends pods", SOON, plain).await?;
    for ((name, _, pods), namespace) in cases.iter().zip(&names) {
        for (at, (pod, gets_one)) in pods.iter().enumerate() {
            let before = webhook.skipped("ResourcesConflict")?;
            let stored = injected(&client, namespace, pod).await;
            let stored = stored.with_context(|| format!("{name} {at}: refused"))?;
            assert_eq!(stored.is_some(), *gets_one, "{name} {at}");
            let left_out = webhook.skipped("ResourcesConflict")? - before;
            assert_eq!(left_out, u64::from(!gets_one), "{name} {at}: the reason");
        }
    }
    Api::<PriorityClass>::all(client.clone()).delete(&class, &DeleteParams::default()).await?;
    webhook.remove(&client).await
}
