//! Is each container of a pod captured, one after another and at the same time? Copies of the shop's worker
//! with two containers, on the full cluster of the demo. Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::resource;
use fleetprof_tests::shop::Shop;
use fleetprof_tests::wait_for;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

const SPACE: &str = "containers";
const CONTAINERS: [&str; 2] = ["one", "two"];
/// Workloads, how their agents get in, and whether their containers see each other's processes.
const APPS: [(&str, &str, bool); 3] =
    [("injected", "Sidecar", false), ("attached", "Ephemeral", false), ("shared", "Ephemeral", true)];

/// A copy of the worker of which each pod has two, each of a user of its own.
fn deploy(shop: &Shop, name: &str, mode: &str, shared: bool) -> Result<()> {
    let labels = json!({"app.kubernetes.io/name": name, "agent": mode});
    shop.deploy_worker((SPACE, name), &labels, 0.1, |worker| {
        let spec = &mut worker["spec"]["template"]["spec"];
        let containers: Vec<Value> = CONTAINERS
            .iter()
            .enumerate()
            .map(|(n, container)| {
                let mut copy = spec["containers"][0].clone();
                copy["name"] = json!(container);
                copy["resources"]["requests"]["cpu"] = json!("10m");
                // A sidecar runs as one user; attached agents run as their container's.
                if mode == "Ephemeral" {
                    copy["securityContext"]["runAsUser"] = json!(1000 + n);
                    copy["securityContext"]["runAsGroup"] = json!(1000 + n);
                }
                copy
            })
            .collect();
        spec["containers"] = json!(containers);
        // A pod that says no would not be injected.
        if shared {
            spec["shareProcessNamespace"] = json!(true);
        }
    })
}

async fn linked(shop: &Shop, mode: &str, wanted: usize) -> Result<()> {
    let policies: Api<DynamicObject> =
        Api::namespaced_with(shop.client.clone(), SPACE, &resource("ProfilingPolicy"));
    wait_for("the pods are linked", Duration::from_secs(90), || async {
        let status = policies.get(&mode.to_lowercase()).await?.data["status"].clone();
        Ok((status["linkedPodCount"] == wanted).then_some(()))
    })
    .await
}

/// Profiles a container; its samples, once the session has succeeded.
async fn profiled(shop: &Shop, (app, mode, _): (&str, &str, bool), container: &str) -> Result<i64> {
    let target = json!({"workload": {"kind": "Deployment", "name": app}});
    let spec = json!({"policyRef": {"name": mode.to_lowercase()}, "target": target, "container": container, "duration": "10s"});
    let name = shop.profile(SPACE, spec).await?;
    let status = shop.ended(SPACE, &name, 120).await?;
    ensure!(status["phase"] == "Succeeded", "{app}/{container}: {status:#}");
    ensure!(status["targets"][0]["container"] == container, "{app}/{container}: {status:#}");
    status["samples"].as_i64().filter(|samples| *samples > 10).with_context(|| format!("{status:#}"))
}

/// The containers to which agents were attached.
async fn attached(shop: &Shop, app: &str) -> Result<Vec<String>> {
    let (pod, _) = shop.pod(SPACE, app).await?;
    let path = "jsonpath={.spec.ephemeralContainers[*].targetContainerName}";
    let names = shop.kubectl(&["-n", SPACE, "get", "pod", &pod, "-o", path])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

#[tokio::test]
async fn each_container_of_a_pod_is_captured_alone_and_beside_the_other() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = captured(&shop).await;
    shop.kubectl(&["delete", "namespace", SPACE, "--ignore-not-found", "--wait=false"])?;
    outcome
}

async fn captured(shop: &Shop) -> Result<()> {
    let policies = ["Sidecar", "Ephemeral"].map(|mode| {
        let spec = json!({"selector": {"matchLabels": {"agent": mode}}, "agent": {"mode": mode},
            "containers": {"include": ["*"]}, "schedule": {"every": "168h", "duration": "10s"}});
        (if mode == "Sidecar" { "sidecar" } else { "ephemeral" }, spec)
    });
    shop.profiled_namespace(SPACE, &policies).await?;
    let user = json!({"spec": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000}}}).to_string();
    wait_for("the webhook serves the namespace", Duration::from_secs(60), || async {
        let run =
            ["-n", SPACE, "run", "probe", "--image=probe", "--labels=agent=Sidecar", "--dry-run=server"];
        let overrides = format!("--overrides={user}");
        let names = ["-o", "jsonpath={.spec.initContainers[*].name}", &overrides];
        let found = shop.kubectl(&[run.as_slice(), names.as_slice()].concat())?;
        Ok((found == "fleetprof-agent").then_some(()))
    })
    .await?;
    for (name, mode, shared) in APPS {
        deploy(shop, name, mode, shared)?;
    }
    linked(shop, "Sidecar", 1).await?;
    linked(shop, "Ephemeral", 2).await?;
    let each = APPS.map(|app| async move {
        for container in CONTAINERS {
            let samples = profiled(shop, app, container).await?;
            eprintln!("{}/{container}: {samples} samples", app.0);
        }
        let both = CONTAINERS.map(|container| profiled(shop, app, container));
        let both = futures::future::try_join_all(both).await?;
        eprintln!("{}: {both:?} samples at the same time", app.0);
        let found = attached(shop, app.0).await?;
        let wanted: &[&str] = if app.1 == "Ephemeral" { &CONTAINERS } else { &[] };
        ensure!(
            found.iter().map(String::as_str).collect::<BTreeSet<_>>() == wanted.iter().copied().collect(),
            "{found:?}"
        );
        ensure!(found.len() == wanted.len(), "an agent is used again: {found:?}");
        Ok(())
    });
    futures::future::try_join_all(each).await?;
    Ok(())
}
