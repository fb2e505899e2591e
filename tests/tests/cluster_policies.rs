//! Does a policy of the cluster link, profile and clean up in every namespace that it selects, and in no
//! other? On a real API server, whose pods are moved by the test as a kubelet would; the operator runs with
//! the rights that the chart gives it.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{cluster_policy, create, object, resource};
use fleetprof_tests::{admin, api_server, chart, person, wait_for};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Two namespaces with the label `team: RUN` and one without.
struct Rig {
    client: Client,
    kubeconfig: PathBuf,
    run: String,
    _operator: Operator,
}

impl Rig {
    async fn new() -> Result<Self> {
        let kubeconfig = api_server()?;
        let operator = Operator::start(&kubeconfig, &[], &[]).await?;
        let rig = Self {
            client: admin(&kubeconfig).await?,
            kubeconfig,
            run: format!("t{}", std::process::id()),
            _operator: operator,
        };
        for (name, labels) in
            [("shop", json!({"team": rig.run})), ("bank", json!({"team": rig.run})), ("else", json!({}))]
        {
            rig.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rig.space(name), "labels": labels}}))?;
            wait_for("the namespace has its service account", Duration::from_secs(20), || async {
                rig.kubectl(&["-n", &rig.space(name), "get", "serviceaccount", "default"]).map(Some)
            })
            .await?;
        }
        Ok(rig)
    }

    fn space(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        chart::kubectl(&self.kubeconfig, arguments, None)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        chart::kubectl(&self.kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&object.to_string()))
            .map(drop)
    }

    /// A pod that is running and ready.
    fn pod(&self, namespace: &str, name: &str, app: &str) -> Result<()> {
        let namespace = self.space(namespace);
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "app", "image": "app:1"}]}}))?;
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let container = json!({"name": "app", "image": "app:1", "imageID": "i", "ready": true, "restartCount": 0, "containerID": format!("containerd://{namespace}-{name}"), "state": state});
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container]}});
        self.kubectl(&[
            "-n",
            &namespace,
            "patch",
            "pod",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ])
        .map(drop)
    }

    /// A policy for the two namespaces, whose rounds come every minute.
    async fn policy(&self, name: &str) -> Result<()> {
        let spec = json!({"namespaceSelector": {"matchLabels": {"team": self.run}}, "selector": {}, "agent": {"mode": "Ephemeral"},
            "schedule": {"every": "1m", "duration": "10s"}, "session": {"startDeadline": "5s"}});
        create(&self.client, &cluster_policy(&format!("{name}-{}", self.run), &spec), false).await?;
        Ok(())
    }

    async fn status(&self, kind: &str, namespace: Option<&str>, name: &str) -> Result<Value> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource(kind)),
            None => Api::all_with(self.client.clone(), &resource(kind)),
        };
        Ok(api.get(name).await?.data["status"].clone())
    }

    async fn until(
        &self,
        name: &str,
        what: &str,
        seconds: u64,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let name = format!("{name}-{}", self.run);
        let look = || self.status("ClusterProfilingPolicy", None, &name);
        match wait_for(what, Duration::from_secs(seconds), || async {
            look().await.map(|s| test(&s).then_some(s))
        })
        .await
        {
            Ok(status) => Ok(status),
            Err(error) => bail!("{error:#}: {:#}", look().await?),
        }
    }

    /// The sessions of the policy, as (namespace without its suffix, the session).
    async fn sessions(&self, policy: &str) -> Result<Vec<(String, DynamicObject)>> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("ProfileSession"));
        let found = api
            .list(
                &ListParams::default().labels(&format!("fleetprof.dev/cluster-policy={policy}-{}", self.run)),
            )
            .await?;
        let suffix = format!("-{}", self.run);
        let place = |s: &DynamicObject| {
            s.metadata.namespace.clone().unwrap_or_default().trim_end_matches(&suffix).to_owned()
        };
        let mut sessions: Vec<_> = found.items.into_iter().map(|s| (place(&s), s)).collect();
        sessions.sort_by(|a, b| (&a.0, &a.1.metadata.name).cmp(&(&b.0, &b.1.metadata.name)));
        Ok(sessions)
    }

    /// The numbers of the rounds that have sessions.
    async fn rounds(&self, policy: &str) -> Result<BTreeSet<String>> {
        let sessions = self.sessions(policy).await?;
        Ok(sessions.iter().filter_map(|(_, s)| s.annotations().get("fleetprof.dev/round").cloned()).collect())
    }
}

fn rows(status: &Value) -> Vec<String> {
    let rows = status["linkedApps"].as_array().into_iter().flatten();
    rows.map(|a| {
        format!(
            "{} {} {}",
            a["namespace"].as_str().unwrap_or_default(),
            a["name"].as_str().unwrap_or_default(),
            a["reason"]
        )
    })
    .collect()
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_).unwrap_or(&Value::Null)
}

fn pods(session: &DynamicObject) -> &Value {
    &session.data["spec"]["target"]["pods"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_cluster_lives_and_goes() -> Result<()> {
    let rig = Rig::new().await?;
    for (namespace, name, app) in [
        ("shop", "web-1", "web"),
        ("shop", "api-1", "api"),
        ("bank", "web-1", "web"),
        ("else", "web-1", "web"),
    ] {
        rig.pod(namespace, name, app)?;
    }
    rig.policy("all").await?;
    let status = rig.until("all", "three pods are linked", 20, |s| s["linkedPodCount"] == 3).await?;
    ensure!(rows(&status).len() == 3 && rows(&status)[0].starts_with(&rig.space("bank")), "{status:#}");

    // A policy of the namespace takes its pod over, which is not a conflict; a younger one of the cluster
    // gets none, which is.
    let own = json!({"selector": {"matchLabels": {"app": "api"}}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "24h", "duration": "10s"}});
    create(&rig.client, &object("ProfilingPolicy", &rig.space("shop"), "own", &own), false).await?;
    let status =
        rig.until("all", "the namespace's own policy wins", 20, |s| s["linkedPodCount"] == 2).await?;
    ensure!(condition(&status, "Configured")["reason"] == "Valid", "{status:#}");
    ensure!(
        condition(&status, "Configured")["message"]
            .as_str()
            .is_some_and(|m| m.contains("apply to 1 of the selected pods")),
        "{status:#}"
    );
    let taken = wait_for("the namespace's own policy has its pod", Duration::from_secs(20), || async {
        let status = rig.status("ProfilingPolicy", Some(&rig.space("shop")), "own").await?;
        Ok((status["linkedPodCount"] == 1).then_some(status))
    })
    .await?;
    ensure!(taken["linkedApps"][0]["namespace"].is_null(), "{taken:#}");
    // The time of creation, in whole seconds, tells which policy is older.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.policy("younger").await?;
    let younger = rig
        .until("younger", "the younger says so", 20, |s| condition(s, "Configured")["reason"] == "Conflict")
        .await?;
    ensure!(younger["linkedPodCount"] == 0, "{younger:#}");

    a_round(&rig).await?;
    on_demand(&rig).await?;
    a_namespace_that_joins_and_leaves(&rig).await?;
    gone(&rig).await
}

/// One session in each namespace, of the pods that the policy serves, and of no other.
async fn a_round(rig: &Rig) -> Result<()> {
    // A round that came earlier has the pods that the policy served then.
    let before = rig.rounds("all").await?;
    let next = || async { Ok(rig.rounds("all").await?.difference(&before).next().cloned()) };
    let round = wait_for("a round starts", Duration::from_secs(80), next).await?;
    let name = format!("all-{}-{round}-cluster", rig.run);
    let of_round = || async {
        let of_round = rig.sessions("all").await?.into_iter().filter(|(_, s)| s.name_any() == name);
        anyhow::Ok(of_round.collect::<Vec<_>>())
    };
    wait_for("both namespaces have a session", Duration::from_secs(20), || async {
        Ok((of_round().await?.len() >= 2).then_some(()))
    })
    .await?;
    // A third would have come by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let of_round = of_round().await?;
    let wanted = [("bank", json!(["web-1"])), ("shop", json!(["web-1"]))];
    ensure!(
        of_round.iter().map(|(n, s)| (n.as_str(), pods(s).clone())).eq(wanted),
        "{:#}",
        json!(of_round.iter().map(|(n, s)| (n, &s.data["spec"])).collect::<Vec<_>>())
    );
    let owner =
        of_round[0].1.metadata.owner_references.as_ref().and_then(|o| o.first()).context("an owner")?;
    ensure!(owner.kind == "ClusterProfilingPolicy" && owner.name == format!("all-{}", rig.run), "{owner:?}");
    ensure!(rig.sessions("younger").await?.is_empty(), "the younger has nothing to profile");
    let both = |s: &Value| {
        let recent: Vec<_> =
            s["recentSessions"].as_array().into_iter().flatten().map(|r| r["namespace"].clone()).collect();
        recent.contains(&json!(rig.space("shop"))) && recent.contains(&json!(rig.space("bank")))
    };
    rig.until("all", "both sessions ended and are listed in the status", 40, both).await?;
    Ok(())
}

async fn a_namespace_that_joins_and_leaves(rig: &Rig) -> Result<()> {
    let team = format!("team={}", rig.run);
    rig.kubectl(&["label", "namespace", &rig.space("else"), &team])?;
    rig.until("all", "a namespace joins by its label", 30, |s| s["linkedPodCount"] == 3).await?;
    rig.kubectl(&["label", "namespace", &rig.space("else"), "fleetprof.dev/profiling=disabled"])?;
    let opted_out =
        rig.until("all", "its people opt out by another", 30, |s| s["linkedPodCount"] == 2).await?;
    ensure!(
        rows(&opted_out).iter().any(|r| r == &format!("{} web-1 \"OptedOut\"", rig.space("else"))),
        "{opted_out:#}"
    );
    Ok(())
}

/// Whoever has the verb on the policy in a namespace profiles there, after the operator has asked once more;
/// what is not the policy's is refused with the reason.
async fn on_demand(rig: &Rig) -> Result<()> {
    let (shop, policy) = (rig.space("shop"), format!("all-{}", rig.run));
    let rules = json!([
        {"apiGroups": ["fleetprof.dev"], "resources": ["profilesessions"], "verbs": ["create"]},
        {"apiGroups": ["fleetprof.dev"], "resources": ["clusterprofilingpolicies"], "resourceNames": [policy], "verbs": ["profile"]},
    ]);
    let rbac = "rbac.authorization.k8s.io";
    let meta = json!({"name": "guest", "namespace": shop});
    rig.apply(
        &json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": rules}),
    )?;
    rig.apply(&json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "guest"}, "subjects": [{"apiGroup": rbac, "kind": "User", "name": "guest"}]}))?;
    let guest = person(&rig.kubeconfig, Some("guest"), &["system:authenticated"]).await?;
    let me = rig.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let session = |namespace: &str, name: &str, user: &str, groups: Value, pods: Value| {
        let spec = json!({"policyRef": {"kind": "ClusterProfilingPolicy", "name": policy}, "target": {"pods": pods}, "duration": "10s",
            "startDeadline": "5s", "requestedBy": {"username": user, "groups": groups}});
        object("ProfileSession", namespace, name, &spec)
    };
    let now = session(&shop, "now", "guest", json!(["system:authenticated"]), json!(["api-1", "web-1"]));
    wait_for("the guest's rights hold", Duration::from_secs(20), || async {
        Ok(create(&guest, &now, false).await.ok())
    })
    .await?;
    let look = |namespace: String, name: &'static str, field: &'static str| async move {
        wait_for(name, Duration::from_secs(30), || async {
            let status = rig.status("ProfileSession", Some(&namespace), name).await?;
            Ok((!status[field].is_null()).then_some(status))
        })
        .await
    };
    let started = look(shop.clone(), "now", "startTime").await?;
    let targets = &started["targets"];
    ensure!(
        targets[0]["pod"] == "api-1"
            && targets[0]["reason"] == "Overridden"
            && targets[0]["phase"] == "Skipped",
        "{started:#}"
    );
    ensure!(targets[1]["pod"] == "web-1" && targets[1]["phase"] != "Skipped", "{started:#}");
    create(
        &rig.client,
        &session("default", "elsewhere", &me, json!(["system:masters"]), json!(["a"])),
        false,
    )
    .await?;
    let refused = look("default".into(), "elsewhere", "endTime").await?;
    rig.kubectl(&["-n", "default", "delete", "psess", "elsewhere"])?;
    ensure!(
        refused["reason"] == "NotSelected"
            && refused["message"].as_str().is_some_and(|m| m.contains("namespaceSelector")),
        "{refused:#}"
    );
    Ok(())
}

/// With the policy go its sessions, in every namespace; the younger serves its pods from then on.
async fn gone(rig: &Rig) -> Result<()> {
    ensure!(!rig.sessions("all").await?.is_empty());
    rig.kubectl(&["delete", "cppol", &format!("all-{}", rig.run)])?;
    wait_for("its sessions go with it", Duration::from_secs(40), || async {
        Ok(rig.sessions("all").await?.is_empty().then_some(()))
    })
    .await?;
    let heir = rig.until("younger", "the younger takes over", 30, |s| s["linkedPodCount"] == 2).await?;
    ensure!(condition(&heir, "Configured")["status"] == "True", "{heir:#}");
    rig.kubectl(&["delete", "cppol", &format!("younger-{}", rig.run)])?;
    for name in ["shop", "bank", "else"] {
        rig.kubectl(&["delete", "namespace", &rig.space(name), "--wait=false"])?;
    }
    Ok(())
}
