//! Do workloads start whatever their cluster thinks of the agent? On the full cluster with the shop of the demo.
//! Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::object;
use fleetprof_tests::shop::Shop;
use fleetprof_tests::wait_for;
use serde_json::{Value, json};

const NAMESPACE: &str = "strict";

/// No containers with a restart policy of their own.
const NO_SIDECARS: (&str, &str) =
    ("object.spec.?initContainers.orValue([]).all(c, !has(c.restartPolicy))", "this team allows no sidecars");
/// Nothing of fleetprof on the pod itself.
const NO_NOTES: (&str, &str) = (
    "object.metadata.?annotations.orValue({}).all(key, !key.startsWith('fleetprof.dev/'))",
    "this team allows its own annotations alone",
);

/// A rule of the cluster that no part of fleetprof knows of.
fn rule((expression, message): (&str, &str)) -> [Value; 2] {
    let kind = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "no-sidecars"},
            "spec": spec,
        })
    };
    let pods =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}});
    [
        kind(
            "ValidatingAdmissionPolicy",
            json!({
                "matchConstraints": {"resourceRules": pods},
                "validations": [{"expression": expression, "message": message}],
            }),
        ),
        kind(
            "ValidatingAdmissionPolicyBinding",
            json!({"policyName": "no-sidecars", "validationActions": ["Deny"], "matchResources": here}),
        ),
    ]
}

fn workload(kind: &str, name: &str, color: &str) -> Value {
    let container = json!({
        "name": "app", "image": "docker.io/library/fleetprof-worker:demo", "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "10m"}},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
    });
    let labels = json!({"app": name});
    let template = json!({
        "metadata": {"labels": labels, "annotations": {"color": color}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    });
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    })
}

/// The pods of a workload that run: whether they have an agent, and what they say of refusals.
fn running(shop: &Shop, app: &str) -> Result<Vec<(bool, String)>> {
    let listed = ["-n", NAMESPACE, "get", "pods", "-l", &format!("app={app}"), "-o", "json"];
    let pods: Value = serde_json::from_str(&shop.kubectl(&listed)?)?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let runs = |pod: &&Value| {
        pod["status"]["phase"] == "Running" && pod["metadata"].get("deletionTimestamp").is_none()
    };
    let facts = |pod: &Value| {
        let words = &pod["metadata"]["annotations"]["fleetprof.dev/injection-refused"];
        (pod["spec"].get("initContainers").is_some(), words.as_str().unwrap_or_default().to_owned())
    };
    Ok(pods.iter().filter(runs).map(facts).collect())
}

/// Refusals end the injection for their workload within this.
const SOON: Duration = Duration::from_secs(30);

/// Waits until exactly one pod of the workload runs, with an agent or without: soon.
async fn one_runs(shop: &Shop, app: &str, with_agent: bool) -> Result<(Duration, String)> {
    let began = Instant::now();
    let words = wait_for("one pod of the workload runs", Duration::from_secs(30), || async {
        let pods = running(shop, app)?;
        Ok((pods.len() == 1 && pods[0].0 == with_agent).then(|| pods[0].1.clone()))
    })
    .await
    .with_context(|| format!("{app}: {:?}", running(shop, app)))?;
    let took = began.elapsed();
    ensure!(took < SOON, "{app} took {took:?}");
    Ok((took, words))
}

fn app(shop: &Shop, workload: &str) -> Result<Value> {
    let policy: Value =
        serde_json::from_str(&shop.kubectl(&["-n", NAMESPACE, "get", "ppol", "all", "-o", "json"])?)?;
    let apps = policy["status"]["linkedApps"].as_array().cloned().unwrap_or_default();
    let of = |a: &Value| Some(format!("{}/{}", a["kind"].as_str()?, a["name"].as_str()?));
    Ok(apps.into_iter().find(|a| of(a).as_deref() == Some(workload)).unwrap_or_default())
}

#[tokio::test]
async fn pods_that_are_refused_with_an_agent_start_without() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = refused(&shop).await;
    clean(&shop)?;
    outcome
}

#[tokio::test]
async fn pods_that_are_refused_for_the_annotation_start_unchanged() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = unchanged(&shop).await;
    clean(&shop)?;
    outcome
}

fn clean(shop: &Shop) -> Result<()> {
    let rule = ["validatingadmissionpolicybinding/no-sidecars", "validatingadmissionpolicy/no-sidecars"];
    for object in [&rule[..], &["ns/strict"]].concat() {
        shop.kubectl(&["delete", object, "--ignore-not-found"])?;
    }
    Ok(())
}

/// A namespace with the rule, and then with a policy.
async fn strict(shop: &Shop, of: (&str, &str), refused: &str) -> Result<()> {
    shop.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))?;
    for object in rule(of) {
        shop.apply(&object)?;
    }
    let tries = [&PROBE[..], &[refused]].concat();
    wait_for("the API server knows the rule", Duration::from_secs(30), || async {
        Ok(shop.kubectl(&tries).err().filter(|e| e.to_string().contains(of.1)))
    })
    .await?;
    let hourly = json!({"selector": {}, "schedule": {"every": "168h"}});
    shop.apply(&object("ProfilingPolicy", NAMESPACE, "all", &hourly))?;
    shop.registered(NAMESPACE).await
}

/// Creates a pod on trial.
const PROBE: [&str; 6] = ["-n", NAMESPACE, "run", "probe", "--dry-run=server", "--image=a"];

async fn unchanged(shop: &Shop) -> Result<()> {
    strict(shop, NO_NOTES, "--annotations=fleetprof.dev/a=b").await?;
    for (kind, name) in [("Deployment", "web"), ("StatefulSet", "db")] {
        shop.apply(&workload(kind, name, "red"))?;
        let (time, words) = one_runs(shop, name, false).await?;
        println!("{kind}/{name} runs unchanged after {time:?}");
        ensure!(words.is_empty(), "{words}");
    }
    Ok(())
}

async fn refused(shop: &Shop) -> Result<()> {
    let sidecar =
        json!({"spec": {"initContainers": [{"name": "s", "image": "a", "restartPolicy": "Always"}]}});
    let refused = format!("--overrides={sidecar}");
    strict(shop, NO_SIDECARS, &refused).await?;
    for (kind, name) in [("Deployment", "web"), ("StatefulSet", "db"), ("DaemonSet", "log")] {
        shop.apply(&workload(kind, name, "red"))?;
        let (time, words) = one_runs(shop, name, false).await?;
        println!("{kind}/{name} runs without an agent after {time:?}: {words}");
        ensure!(words.contains("this team allows no sidecars"), "{words}");
        let workload = format!("{kind}/{name}");
        let shown = wait_for("the policy says so", Duration::from_secs(30), || async {
            let shown = app(shop, &workload)?;
            Ok((shown["reason"] == "InjectionRefused").then_some(shown))
        });
        let shown = shown.await.with_context(|| format!("{:#}", app(shop, &workload).unwrap_or_default()))?;
        let message = shown["message"].as_str().unwrap_or_default();
        ensure!(message.contains("this team allows no sidecars"), "{shown:#}");
    }
    // The rule goes; the sidecar stays out until the workload changes.
    shop.kubectl(&["delete", "validatingadmissionpolicybinding/no-sidecars"])?;
    wait_for("the API server forgets the rule", Duration::from_secs(30), || async {
        Ok(shop.kubectl(&[&PROBE[..], &[&refused]].concat()).ok())
    })
    .await?;
    shop.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", "app=web", "--grace-period=1"])?;
    one_runs(shop, "web", false).await?;
    for (kind, name) in [("Deployment", "web"), ("StatefulSet", "db")] {
        shop.apply(&workload(kind, name, "green"))?;
        let (time, words) = one_runs(shop, name, true).await?;
        println!("{kind}/{name} runs with an agent {time:?} after it changed");
        ensure!(words.is_empty(), "{words}");
    }
    let changed = json!({"spec": {"containers": {"exclude": ["nothing"]}}}).to_string();
    shop.kubectl(&["-n", NAMESPACE, "patch", "ppol", "all", "--type=merge", "-p", &changed])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    shop.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", "app=log", "--grace-period=1"])?;
    one_runs(shop, "log", true).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_cannot_be_pulled_or_started_stops_one_pod_and_no_more() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = without_agent(&shop).await;
    shop.kubectl(&["delete", "ns/strict", "--ignore-not-found"])?;
    shop.helm(&[])?;
    outcome
}

async fn without_agent(shop: &Shop) -> Result<()> {
    shop.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))?;
    let hourly = json!({"selector": {}, "schedule": {"every": "168h"}});
    shop.apply(&object("ProfilingPolicy", NAMESPACE, "all", &hourly))?;
    stops_one_pod(shop, "nowhere", false, "nowhere").await?;
    load_image_without_program()?;
    // What does not start in one workload may start in another, so only its own pods go without.
    stops_one_pod(shop, EMPTY, true, "exec: \"/fleetprof-agent\"").await
}

/// The tag of an agent's image whose program is missing.
const EMPTY: &str = "empty";

fn load_image_without_program() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tar = folder.path().join("empty.tar");
    let tar = tar.to_string_lossy();
    let name = format!("fleetprof-agent:{EMPTY}");
    let entrypoint = json!(["/fleetprof-agent"]).to_string();
    let layer = ["--layer", "/etc/hostname=/nothing"];
    let image = [&["image", &name], &layer[..], &["--entrypoint", &entrypoint, "-o", &tar]].concat();
    fleetprof_tests::run("tests/cluster/cluster", &image)?;
    fleetprof_tests::run("tests/cluster/cluster", &["load", &tar])?;
    Ok(())
}

/// With an image of the agent that no kubelet can start, the first pod of a workload waits, and the policy says
/// so; the next pod, of the same or another workload, starts without an agent and says why in the kubelet's words.
async fn stops_one_pod(shop: &Shop, tag: &str, same: bool, words: &str) -> Result<()> {
    shop.helm(&["--set", &format!("image.agent.tag={tag}")])?;
    shop.registered(NAMESPACE).await?;
    // Webhooks of before the upgrade answer until they have ended.
    tokio::time::sleep(Duration::from_secs(10)).await;
    shop.apply(&workload("Deployment", tag, "red"))?;
    let first = format!("Deployment/{tag}");
    let shown =
        wait_for("the policy says that the first pod does not start", Duration::from_secs(60), || async {
            let shown = app(shop, &first)?;
            Ok((shown["reason"] == "AgentImageFailed").then_some(shown))
        })
        .await
        .with_context(|| format!("{:#}", app(shop, &first).unwrap_or_default()))?;
    ensure!(shown["message"].as_str().is_some_and(|m| m.contains("does not start")), "{shown:#}");
    let next = if same { tag } else { "another" };
    if same {
        shop.kubectl(&["-n", NAMESPACE, "scale", &first, "--replicas=2"])?;
    } else {
        shop.apply(&workload("Deployment", next, "red"))?;
    }
    let (time, said) = one_runs(shop, next, false).await?;
    println!("{tag}: the next pod runs without an agent after {time:?}: {said}");
    ensure!(said.contains(words), "{said}");
    Ok(())
}
