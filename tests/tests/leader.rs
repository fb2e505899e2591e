//! Does one replica act, and does it stop in the moment in which it may no longer? On a real API server.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_operator::leader;
use fleetprof_tests::{admin, api_server, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A replica: whether it works now, how it is asked to stop, and how it ended.
struct Replica {
    works: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    end: JoinHandle<Result<()>>,
}

/// True while it lives: what a dropped piece of work leaves behind is false.
struct Working(Arc<AtomicBool>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn replica(client: &Client, lease: &'static str, identity: &'static str) -> Replica {
    let works = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = oneshot::channel();
    let (client, flag) = (client.clone(), works.clone());
    let end = tokio::spawn(async move {
        let work = || async move {
            flag.store(true, Ordering::SeqCst);
            let _working = Working(flag);
            std::future::pending::<Result<()>>().await
        };
        let asked = async {
            let _ = stopped.await;
        };
        leader::run(client, "default", lease, identity, (work, || async {}), asked).await
    });
    Replica { works, stop, end }
}

async fn working(replica: &Replica, wanted: bool, seconds: u64) -> Result<()> {
    wait_for(&format!("works: {wanted}"), Duration::from_secs(seconds), || async {
        Ok((replica.works.load(Ordering::SeqCst) == wanted).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_acts_and_gives_its_lease_back_when_it_stops() -> Result<()> {
    let client = admin(&api_server()?).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let _ = leases.delete("leader-stop", &DeleteParams::default()).await;
    let one = replica(&client, "leader-stop", "one");
    working(&one, true, 20).await?;
    let two = replica(&client, "leader-stop", "two");
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(!two.works.load(Ordering::SeqCst), "two replicas act at once");
    one.stop.send(()).unwrap();
    one.end.await??;
    ensure!(!one.works.load(Ordering::SeqCst), "it stopped");
    // A standby looks again when the lease that it saw would have ended: 15 s at most.
    working(&two, true, 18).await?;
    let three = replica(&client, "leader-stop", "three");
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(!three.works.load(Ordering::SeqCst), "two replicas act at once");
    three.stop.send(()).unwrap();
    three.end.await??;
    two.stop.send(()).unwrap();
    two.end.await??;
    // One that starts after the lease was given back need not wait at all.
    let four = replica(&client, "leader-stop", "four");
    working(&four, true, 3).await?;
    four.stop.send(()).unwrap();
    four.end.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_lease_stops_the_work_at_once() -> Result<()> {
    let client = admin(&api_server()?).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let _ = leases.delete("leader-lost", &DeleteParams::default()).await;
    let one = replica(&client, "leader-lost", "one");
    working(&one, true, 20).await?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let thief = json!({"spec": {"holderIdentity": "thief", "renewTime": now, "acquireTime": now, "leaseDurationSeconds": 3600}});
    leases.patch("leader-lost", &PatchParams::default(), &Patch::Merge(thief)).await?;
    working(&one, false, 20).await?;
    let error = one.end.await?.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(error.contains("was lost") || error.contains("leader election ended"), "{error}");
    Ok(())
}
