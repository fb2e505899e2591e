//! Who acts? One replica of `run` at a time, by a Lease; whoever loses it stops at once.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;

/// How long a lease holds without being renewed, in seconds: how long a failover takes at most.
const LEASE_SECONDS: u64 = 15;
/// How long before its end it is renewed, in seconds.
const RENEW_SECONDS: u64 = 10;
/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Waits until this process holds the lease, then runs `work` for as long as it does, or until `stop`.
///
/// `work` is dropped, and so stopped, in the moment in which the lease is lost; the process is expected to end then.
/// At `stop` a leader does `leave`, still at work, and gives the lease back, so that the next one need not wait for its end.
///
/// # Errors
/// When the lease is lost, cannot be managed, or when `work` ends.
pub async fn run<F, Fut, L, Left>(
    client: Client,
    namespace: &str,
    lease: &str,
    identity: &str,
    (work, leave): (F, L),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
    L: FnOnce() -> Left,
    Left: Future<Output = ()>,
{
    let mut stop = pin!(stop);
    let manager = LeaseManagerBuilder::new(client, lease)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(RENEW_SECONDS)
        .build()
        .await
        .with_context(|| {
            format!("cannot take part in the leader election by Lease {namespace}/{lease}; check the operator's Role for leases")
        })?;
    let (mut leading, mut task) = manager.watch().await;
    tracing::info!(lease, identity, "waiting to become the leader");
    tokio::select! {
        held = leading.wait_for(|held| *held) => { held.context("the leader election ended")?; }
        end = &mut task => bail!("the leader election ended: {}", ended(end)),
        () = &mut stop => return Ok(()),
    }
    tracing::info!(lease, identity, "this replica leads");
    tokio::select! {
        result = work() => return result,
        () = async { stop.await; leave().await } => {}
        _ = leading.wait_for(|held| !*held) => {
            bail!("the Lease {namespace}/{lease} was lost; this replica stops at once and starts again as a follower")
        }
        end = &mut task => bail!("the leader election ended: {}", ended(end)),
    }
    // The manager gives the lease back when nobody listens any more.
    drop(leading);
    let _ = tokio::time::timeout(RELEASE, task).await;
    Ok(())
}

fn ended<M, E: std::fmt::Display, J: std::fmt::Display>(end: Result<Result<M, E>, J>) -> String {
    match end {
        Ok(Ok(_)) => "it was stopped".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}
