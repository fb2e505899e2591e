//! Does a pod get more agents attached than it may have, and is that said where people look? On a real API server,
//! whose pods are moved by the test as a kubelet would; the operator runs with the rights that the chart gives it.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_crds::names::MAX_ATTACHED;
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Attaches so many agents, none of which runs any more.
async fn had_agents(place: &Place, pod: &str, count: usize) -> Result<()> {
    let name = |n: usize| format!("fleetprof-agent-old{n}");
    let agent = |n: usize| json!({"name": name(n), "image": "fleetprof-agent:0", "args": ["attached"], "targetContainerName": "app"});
    let agents: Vec<Value> = (0..count).map(agent).collect();
    let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": agents}}));
    let api = Api::<Pod>::namespaced(place.client.clone(), &place.namespace);
    api.patch_ephemeral_containers(pod, &PatchParams::default(), &patch).await?;
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let status = |n: usize| json!({"name": name(n), "image": "fleetprof-agent:0", "imageID": "i", "ready": false, "restartCount": 0, "state": ended});
    let statuses: Vec<Value> = (0..count).map(status).collect();
    place.status("pod", pod, &json!({"ephemeralContainerStatuses": statuses}))
}

async fn agents_of(place: &Place, pod: &str) -> Result<usize> {
    let pod = Api::<Pod>::namespaced(place.client.clone(), &place.namespace).get(pod).await?;
    Ok(pod.spec.and_then(|spec| spec.ephemeral_containers).map_or(0, |agents| agents.len()))
}

async fn session(place: &Place, name: &str, pod: &str, me: &str) -> Result<()> {
    let spec = json!({
        "target": {"pods": [pod]}, "duration": "10s",
        "requestedBy": {"username": me, "groups": ["system:masters"]},
    });
    create(&place.client, &object("ProfileSession", &place.namespace, name, &spec), false).await?;
    Ok(())
}

fn row<'a>(status: &'a Value, pod: &str) -> &'a Value {
    status["linkedApps"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["name"] == pod)
        .unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_had_as_many_agents_as_it_may_have_is_skipped_and_named() -> Result<()> {
    let kubeconfig = api_server()?;
    let _operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let place = Place::new(&kubeconfig, "attach-limit").await?;
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let user = |pod: &mut Value| pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    for (pod, count) in [("full", MAX_ATTACHED), ("almost", MAX_ATTACHED - 1)] {
        place.pod(pod, &json!({"app": "orders"}), None, user)?;
        had_agents(&place, pod, count).await?;
    }
    let spec = json!({"selector": {"matchLabels": {"app": "orders"}}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "168h"}});
    create(&place.client, &object("ProfilingPolicy", &place.namespace, "p", &spec), false).await?;

    let status =
        place.until("ProfilingPolicy", "p", 30, |s| row(s, "full")["reason"] == "AttachLimit").await?;
    ensure!(row(&status, "full")["state"] == "NotLinked", "{status:#}");
    let message = row(&status, "full")["message"].as_str().unwrap_or_default();
    ensure!(message.contains("had 10 agents attached"), "{message}");
    ensure!(row(&status, "almost")["reason"] == "AttachedOnDemand", "{status:#}");

    session(&place, "full", "full", &me).await?;
    let status = place.until("ProfileSession", "full", 20, |s| s["phase"] == "Failed").await?;
    let target = &status["targets"][0];
    ensure!(
        (&target["phase"], &target["reason"]) == (&json!("Skipped"), &json!("AttachLimit")),
        "{target:#}"
    );
    ensure!(target["message"].as_str().is_some_and(|m| m.contains("recreate the pod")), "{target:#}");
    ensure!(agents_of(&place, "full").await? == MAX_ATTACHED, "nothing was attached");

    session(&place, "almost", "almost", &me).await?;
    wait_for("the last agent is attached", Duration::from_secs(20), || async {
        Ok((agents_of(&place, "almost").await? == MAX_ATTACHED).then_some(()))
    })
    .await?;
    place.forget()
}
