//! Does one replica act, and does it stop in the moment in which it may no longer? On a real API server.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_operator::client::{self, Fence};
use fleetprof_operator::leader;
use fleetprof_tests::{admin, api_server, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A replica: whether it works now, until when it may, how it is asked to stop, and how it ended.
struct Replica {
    works: Arc<AtomicBool>,
    fence: Fence,
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
    let (client, flag, fence) = (client.clone(), works.clone(), Fence::default());
    let held = fence.clone();
    let end = tokio::spawn(async move {
        let work = || async move {
            flag.store(true, Ordering::SeqCst);
            let _working = Working(flag);
            std::future::pending::<Result<()>>().await
        };
        let asked = async {
            let _ = stopped.await;
        };
        leader::run(client, "default", lease, identity, (work, || async {}), held, asked).await
    });
    Replica { works, fence, stop, end }
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
    // A standby looks every 2 s and takes a released lease without waiting for its end.
    working(&two, true, 5).await?;
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
    ensure!(error.contains("lost Lease default/leader-lost to thief"), "{error}");
    Ok(())
}

/// A leader that was frozen: what it was about to write is based on an old version, or finds the fence closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_writes_over_nobody_who_came_after_it() -> Result<()> {
    let kubeconfig = api_server()?;
    let client = admin(&kubeconfig).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let _ = leases.delete("leader-fenced", &DeleteParams::default()).await;
    let one = replica(&client, "leader-fenced", "one");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &options).await?;
    let slices: Api<EndpointSlice> =
        Api::namespaced(client::with_config(config, Some(&one.fence))?, "default");
    let early = slices.get_opt("fenced").await.err().map(|e| e.to_string()).unwrap_or_default();
    working(&one, true, 20).await?;
    ensure!(early.is_empty() || early.contains("no longer leads"), "{early}");

    let slice = |address: &str, version: Option<String>| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "fenced", "resourceVersion": version},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [],
        })
    };
    let apply = PatchParams::apply("fleetprof-operator").force();
    let first = slices.patch("fenced", &apply, &Patch::Apply(slice("10.0.0.1", None))).await?;
    let decided_on = first.metadata.resource_version;
    let successor: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    successor.patch("fenced", &apply, &Patch::Apply(slice("10.0.0.2", decided_on.clone()))).await?;
    let late = slices.patch("fenced", &apply, &Patch::Apply(slice("10.0.0.1", decided_on))).await;
    ensure!(matches!(&late, Err(kube::Error::Api(answer)) if answer.code == 409), "{late:?}");

    let thief = json!({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}});
    leases.patch("leader-fenced", &PatchParams::default(), &Patch::Merge(thief)).await?;
    working(&one, false, 20).await?;
    let closed = slices.get("fenced").await.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(closed.contains("no longer leads"), "{closed}");
    let now = successor.get("fenced").await?;
    ensure!(now.endpoints[0].addresses == ["10.0.0.2"], "{now:?}");
    Ok(())
}

/// A container that was killed comes back under its name, when its lease may have run out.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_leads_again_by_its_own_lease() -> Result<()> {
    let client = admin(&api_server()?).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    for (name, age) in [("leader-back-soon", 3), ("leader-back", 12), ("leader-back-late", 60)] {
        let _ = leases.delete(name, &DeleteParams::default()).await;
        let then = (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(age))
            .strftime("%Y-%m-%dT%H:%M:%S.000000Z")
            .to_string();
        let spec = json!({"holderIdentity": "one", "renewTime": then, "acquireTime": then, "leaseDurationSeconds": 15, "leaseTransitions": 1});
        leases
            .create(
                &PostParams::default(),
                &serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?,
            )
            .await?;
        let one = replica(&client, name, "one");
        working(&one, true, 5).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(one.works.load(Ordering::SeqCst), "it leads for {age} s and stops");
        one.stop.send(()).unwrap();
        one.end.await??;
    }
    Ok(())
}

/// Bytes to the API server and back, until they stop, without a word and without an end, as in a network that
/// was cut.
async fn cut_off(server: &str) -> Result<(u16, Arc<AtomicBool>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let (port, cut, server) =
        (listener.local_addr()?.port(), Arc::new(AtomicBool::new(false)), server.to_owned());
    let flag = cut.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (server, flag) = (server.clone(), flag.clone());
            tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(server).await?;
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::try_join!(pass(near_in, far_out, &flag), pass(far_in, near_out, &flag))
            });
        }
    });
    Ok((port, cut))
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: &AtomicBool) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        if cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_stops_before_another_leads() -> Result<()> {
    let kubeconfig = api_server()?;
    let client = admin(&kubeconfig).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    let _ = leases.delete("leader-cut", &DeleteParams::default()).await;
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    let (port, cut) =
        cut_off(config.cluster_url.authority().context("the API server has no address")?.as_str()).await?;
    config.cluster_url = format!("https://127.0.0.1:{port}").parse()?;
    let one = replica(&Client::try_from(config)?, "leader-cut", "one");
    working(&one, true, 20).await?;
    let two = replica(&client, "leader-cut", "two");
    tokio::time::sleep(Duration::from_secs(6)).await;
    ensure!(
        one.works.load(Ordering::SeqCst) && !two.works.load(Ordering::SeqCst),
        "a lease that is renewed is kept"
    );

    cut.store(true, Ordering::SeqCst);
    let both = wait_for("the other leads", Duration::from_secs(30), || async {
        let works = (one.works.load(Ordering::SeqCst), two.works.load(Ordering::SeqCst));
        Ok(works.1.then_some(works.0))
    })
    .await?;
    ensure!(!both, "two replicas act at once");
    let error = one.end.await?.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(error.contains("failed to renew Lease default/leader-cut for 10s"), "{error}");
    two.stop.send(()).unwrap();
    two.end.await?
}
