//! Do two replicas of the operator without a shared volume lose nothing when the leader is killed, where profiles go
//! to an object store? On the full cluster with the shop, and a real S3 server on its node. Runs one test at a time:
//! `--test-threads=1`.
#![allow(missing_docs)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop, kill_9, processes};
use fleetprof_tests::{root, run, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

const PORT: u16 = 7071;

/// versitygw on all addresses of the node, with a bucket `profiles`; it ends with the value.
struct Store {
    data: TempDir,
    child: Option<Child>,
}

impl Store {
    async fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        std::fs::create_dir(data.path().join("profiles"))?;
        let mut store = Self { data, child: None };
        store.restart().await?;
        Ok(store)
    }

    async fn restart(&mut self) -> Result<()> {
        let programs = run(&root().join("tests/stores.sh").to_string_lossy(), &[])?;
        let mut command = Command::new(format!("{}/versitygw", programs.trim()));
        command.args([
            "--access",
            "the-id",
            "--secret",
            "the-secret-key",
            "--port",
            &format!(":{PORT}"),
            "posix",
        ]);
        command.arg(self.data.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        wait_for("the object store listens", Duration::from_secs(15), || async {
            Ok(std::net::TcpStream::connect(("127.0.0.1", PORT)).is_ok().then_some(()))
        })
        .await
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Paths of what is in the bucket.
    fn objects(&self) -> Result<String> {
        run("find", &[&self.data.path().join("profiles").to_string_lossy(), "-type", "f", "-printf", "%P\n"])
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two replicas, whose profiles go to the store.
fn install(shop: &Shop) -> Result<()> {
    let address = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
    let node = shop.kubectl(&["get", "nodes", "-o", address])?;
    let keys = json!({"access-key-id": "the-id", "secret-access-key": "the-secret-key"});
    shop.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "archive", "namespace": "fleetprof"},
        "stringData": keys}))?;
    let archive = json!({"kind": "s3", "bucket": "profiles", "existingSecret": "archive",
        "endpoint": format!("http://{}:{PORT}", node.trim())});
    let destination = format!("destinations.default={archive}");
    let ports = format!("networkPolicy.destinationPorts=[443,{PORT}]");
    // Other tests scale the Deployment with kubectl, and Helm would leave the replicas to them.
    let replicas = ["--force-conflicts", "--set", "operator.replicas=2"];
    shop.helm(&[&replicas[..], &["--set-json", &destination, "--set-json", &ports]].concat())
}

#[tokio::test]
async fn the_leader_is_killed_in_the_middle_and_an_archive_has_all_of_it() -> Result<()> {
    let shop = Shop::open().await?;
    let mut store = Store::start().await?;
    install(&shop)?;
    let outcome = killed_in_the_middle(&shop, &mut store).await;
    shop.helm(&[])?;
    outcome
}

async fn killed_in_the_middle(shop: &Shop, store: &mut Store) -> Result<()> {
    shop.linked("worker", "Linked").await?;
    let spec = json!({"policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": "worker"}},
        "duration": "40s"});
    let leader = shop.leader()?;
    let name = shop.profile(SHOP, spec).await?;
    shop.until(SHOP, &name, 20, |status| status["phase"] == "Running").await?;
    wait_for("a slice is in the archive", Duration::from_secs(30), || async {
        Ok(store.objects()?.contains("/.intake/").then_some(()))
    })
    .await?;
    kill_for_good(shop, &leader)?;
    // The new leader does not find the archive for a while, and the session waits for it.
    store.stop();
    wait_for("another replica leads", Duration::from_secs(60), || async {
        Ok((shop.leader()? != leader).then_some(()))
    })
    .await?;
    let waits = |status: &Value| status["reason"] == "DestinationFailed" || status["endTime"].is_string();
    let status = shop.until(SHOP, &name, 120, waits).await?;
    ensure!(status["reason"] == "DestinationFailed", "{status:#}");
    store.restart().await?;
    let status = shop.ended(SHOP, &name, 120).await?;
    ensure!(status["phase"] == "Succeeded", "{status:#}");
    let target = &status["targets"][0];
    ensure!(
        (&target["phase"], &target["reason"]) == (&json!("Succeeded"), &json!("Completed")),
        "no slice is missing: {status:#}"
    );
    ensure!(target["profiles"][0]["destinations"] == json!(["default"]), "{status:#}");
    // 40 s at 99 Hz of a program that uses 0.3 CPU: with what came before the kill, and once.
    let samples = status["samples"].as_u64().unwrap_or_default();
    ensure!((400..3000).contains(&samples), "{samples} samples");
    readable_by_a_new_pod(shop, &name).await
}

/// Kills the process of a pod and deletes the pod with its volume.
fn kill_for_good(shop: &Shop, pod: &str) -> Result<()> {
    let uid = shop.kubectl(&["-n", "fleetprof", "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
    let pid =
        *processes(&uid, &["fleetprof-operator", "run"]).first().context("the leader runs on this node")?;
    kill_9(pid)?;
    shop.kubectl(&["-n", "fleetprof", "delete", "pod", pod, "--grace-period=0", "--force"]).map(drop)
}

/// Whoever reads it from a volume that never held it, has it from the archive.
async fn readable_by_a_new_pod(shop: &Shop, name: &str) -> Result<()> {
    shop.kubectl(&["-n", "fleetprof", "rollout", "restart", "deployment/fleetprof-operator"])?;
    shop.rolled_out()?;
    let raw = format!("/apis/data.fleetprof.dev/v1alpha1/namespaces/{SHOP}/profilesessions/{name}/top");
    let top = wait_for("the profile can be read", Duration::from_secs(60), || async {
        shop.kubectl(&["get", "--raw", &raw]).map(Some)
    })
    .await?;
    ensure!(top.contains("soften"), "{top}");
    Ok(())
}
