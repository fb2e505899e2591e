//! What may the operator's own service account do to pods and workloads? The chart's admission policy on a real
//! API server, asked with that account's rights while no operator runs.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use fleetprof_crds::names::MAX_ATTACHED;
use fleetprof_tests::{admin, api_server, chart, person, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

const OPERATOR: &str = "system:serviceaccount:fleetprof:fleetprof-operator";
const GROUPS: [&str; 3] =
    ["system:serviceaccounts", "system:serviceaccounts:fleetprof", "system:authenticated"];

/// The chart's rights and rules, and a namespace with a pod and a Deployment.
struct Rig {
    kubeconfig: PathBuf,
    operator: Client,
    namespace: String,
}

impl Rig {
    async fn new(name: &str) -> Result<Self> {
        let kubeconfig = api_server()?;
        chart::crds(&kubeconfig)?;
        let values =
            ["--set", "restart.enabled=true", "--set", "image.agent.allowed={mirror.example/agent:*}"];
        let namespaces = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fleetprof"}});
        chart::kubectl(&kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&namespaces.to_string()))?;
        chart::apply(&kubeconfig, &["templates/access/own-account", "templates/operator/rbac"], &values)?;
        let namespace = format!("own-{name}-{}", std::process::id());
        let client = admin(&kubeconfig).await?;
        in_namespace(&client, &namespace).await?;
        let operator = person(&kubeconfig, Some(OPERATOR), &GROUPS).await?;
        let rig = Self { kubeconfig, operator, namespace };
        wait_for("the rules are in force", Duration::from_secs(30), || async {
            let refused = rig.attach(&rig.namespace, |c| c["image"] = json!("evil:1")).await.err();
            Ok(refused.filter(|error| error.to_string().contains("may only attach the images")))
        })
        .await?;
        Ok(rig)
    }

    /// What the operator's attempt to attach comes to, with an agent that `edit` has changed.
    async fn attach(&self, namespace: &str, edit: impl Fn(&mut Value)) -> kube::Result<()> {
        let mut agent = json!({
            "name": "fleetprof-1a2b", "image": "fleetprof-agent:0.1.0", "args": ["attached"],
            "targetContainerName": "app", "env": [{"name": "FLEETPROF_TICKET", "value": "t"}],
            "securityContext": {"runAsUser": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
        });
        edit(&mut agent);
        let api = Api::<Pod>::namespaced(self.operator.clone(), namespace);
        let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": [agent]}}));
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch_ephemeral_containers("app", &dry, &patch).await.map(drop)
    }

    async fn change_workload(&self, patch: Value) -> kube::Result<()> {
        let api = Api::<Deployment>::namespaced(self.operator.clone(), &self.namespace);
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch("app", &dry, &Patch::Merge(patch)).await.map(drop)
    }
}

async fn in_namespace(client: &Client, name: &str) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), name);
    wait_for("the service account", Duration::from_secs(30), || async {
        Ok(accounts.get_opt("default").await?)
    })
    .await?;
    let spec = json!({"containers": [{"name": "app", "image": "app:1"}]});
    let pod = serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": spec}))?;
    Api::<Pod>::namespaced(client.clone(), name).create(&PostParams::default(), &pod).await?;
    let template =
        json!({"metadata": {"labels": {"app": "app"}, "annotations": {"team": "shop"}}, "spec": spec});
    let deployment = json!({"metadata": {"name": "app"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "app"}}, "template": template}});
    let deployment = serde_json::from_value(deployment)?;
    Api::<Deployment>::namespaced(client.clone(), name).create(&PostParams::default(), &deployment).await?;
    Ok(())
}

fn refused(answer: kube::Result<()>, words: &str) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(words) => Ok(()),
        other => bail!("expected a refusal with {words:?}, got {other:?}"),
    }
}

#[tokio::test]
async fn the_operator_can_attach_the_agent_and_nothing_else() -> Result<()> {
    let rig = Rig::new("attach").await?;
    rig.attach(&rig.namespace, |_| {}).await?;
    rig.attach(&rig.namespace, |c| c["image"] = json!("mirror.example/agent:2.0")).await?;
    let security =
        |field: &'static str, value: Value| move |c: &mut Value| c["securityContext"][field] = value.clone();
    let (images, agents, env) =
        ("may only attach the images", "may only attach agents", "no environment but");
    let root = "may not be privileged";
    refused(rig.attach(&rig.namespace, |c| c["image"] = json!("evil/fleetprof-agent:0.1.0")).await, images)?;
    refused(rig.attach(&rig.namespace, |c| c["image"] = json!("fleetprof-agent:0x1x0")).await, images)?;
    refused(rig.attach(&rig.namespace, |c| c["name"] = json!("debug")).await, "begin with fleetprof-")?;
    refused(rig.attach(&rig.namespace, |c| c["command"] = json!(["sh"])).await, agents)?;
    refused(rig.attach(&rig.namespace, |c| c["args"] = json!(["worker"])).await, agents)?;
    refused(
        rig.attach(&rig.namespace, |c| drop(c.as_object_mut().and_then(|c| c.remove("args")))).await,
        agents,
    )?;
    let env_of = |entry: Value| move |c: &mut Value| c["env"] = json!([entry]);
    refused(rig.attach(&rig.namespace, env_of(json!({"name": "LD_PRELOAD", "value": "/x"}))).await, env)?;
    let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    refused(
        rig.attach(&rig.namespace, env_of(json!({"name": "FLEETPROF_X", "valueFrom": secret}))).await,
        env,
    )?;
    refused(rig.attach(&rig.namespace, |c| c["stdin"] = json!(true)).await, env)?;
    refused(rig.attach(&rig.namespace, |c| c["securityContext"] = json!({"privileged": true})).await, root)?;
    refused(rig.attach(&rig.namespace, security("allowPrivilegeEscalation", json!(true))).await, root)?;
    refused(
        rig.attach(&rig.namespace, security("capabilities", json!({"add": ["SYS_PTRACE"]}))).await,
        root,
    )?;
    refused(rig.attach(&rig.namespace, |c| c["securityContext"] = json!(null)).await, root)
}

#[tokio::test]
async fn the_operator_restarts_workloads_and_changes_nothing_else_of_them() -> Result<()> {
    let rig = Rig::new("restart").await?;
    let template = |metadata: Value| json!({"spec": {"template": {"metadata": metadata}}});
    let restart =
        json!({"fleetprof.dev/restarted-for": "0.2.0", "fleetprof.dev/restarted-at": "2026-11-29T00:00:00Z"});
    rig.change_workload(template(json!({"annotations": restart}))).await?;
    let (annotations, else_) = ("may only set the annotations", "may change nothing else");
    refused(rig.change_workload(template(json!({"annotations": {"team": "evil"}}))).await, annotations)?;
    refused(rig.change_workload(template(json!({"annotations": {"team": null}}))).await, annotations)?;
    refused(rig.change_workload(template(json!({"annotations": {"new": "x"}}))).await, annotations)?;
    refused(rig.change_workload(template(json!({"labels": {"new": "x"}}))).await, else_)?;
    refused(rig.change_workload(json!({"spec": {"replicas": 7}})).await, else_)?;
    refused(rig.change_workload(json!({"spec": {"paused": true}})).await, else_)?;
    refused(rig.change_workload(json!({"metadata": {"labels": {"new": "x"}}})).await, else_)?;
    let image = json!({"containers": [{"name": "app", "image": "evil:1"}]});
    refused(rig.change_workload(json!({"spec": {"template": {"spec": image}}})).await, else_)
}

#[tokio::test]
async fn some_namespaces_are_out_of_bounds_and_nobody_else_is_concerned() -> Result<()> {
    let rig = Rig::new("bounds").await?;
    let client = admin(&rig.kubeconfig).await?;
    for namespace in ["kube-system", "fleetprof"] {
        let spec = json!({"containers": [{"name": "app", "image": "app:1"}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": spec}))?;
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        wait_for("the pod", Duration::from_secs(30), || async {
            match pods.create(&PostParams::default(), &pod).await {
                Ok(_) => Ok(Some(())),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(())),
                Err(error) => bail!(error),
            }
        })
        .await?;
        refused(rig.attach(namespace, |_| {}).await, "changes no pods and workloads in namespace")?;
    }
    let theirs = Api::<Deployment>::namespaced(client, &rig.namespace);
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    theirs.patch("app", &dry, &Patch::Merge(json!({"spec": {"replicas": 7}}))).await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_attaches_no_more_agents_to_a_pod_than_it_may_have() -> Result<()> {
    let rig = Rig::new("limit").await?;
    let pods = Api::<Pod>::namespaced(admin(&rig.kubeconfig).await?, &rig.namespace);
    let had = |count: usize| {
        let agent =
            |n: usize| json!({"name": format!("fleetprof-agent-{n}"), "image": "a:1", "args": ["attached"]});
        let mut agents: Vec<Value> = (0..count).map(agent).collect();
        agents.push(json!({"name": "debugger", "image": "debug:1"}));
        Patch::Strategic(json!({"spec": {"ephemeralContainers": agents}}))
    };
    pods.patch_ephemeral_containers("app", &PatchParams::default(), &had(MAX_ATTACHED - 1)).await?;
    rig.attach(&rig.namespace, |_| {}).await?;
    pods.patch_ephemeral_containers("app", &PatchParams::default(), &had(MAX_ATTACHED)).await?;
    refused(rig.attach(&rig.namespace, |_| {}).await, "at most 10 agents")
}
