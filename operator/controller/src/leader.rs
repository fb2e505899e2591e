//! Who acts? One replica of `run` at a time, by a Lease; whoever loses it stops at once.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::time::{Instant, sleep, timeout};

/// How long a lease holds without being renewed, in seconds: how long a failover takes at most.
const LEASE_SECONDS: u64 = 15;
/// How long before its end it is renewed, in seconds.
const RENEW_SECONDS: u64 = 10;
/// A leader whose lease is older than this stops although nobody else has taken it: what is left of the lease
/// is for clocks that differ. Between two renewals, every 5 s, one may fail.
const SURE: SignedDuration = SignedDuration::from_secs(10);
/// How often the leader looks whether it is sure, and how long it waits for the answer.
const LOOK: Duration = Duration::from_secs(2);
/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Waits until this process holds the lease, then runs `work` for as long as it does, or until `stop`.
///
/// `work` is dropped, and so stopped, in the moment in which the lease is lost; the process is expected to
/// end then. At `stop` a leader does `leave`, still at work, and gives the lease back, so that the next one
/// need not wait for its end.
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
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let manager = LeaseManagerBuilder::new(client, lease)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(RENEW_SECONDS)
        .build()
        .await
        .with_context(|| {
            format!(
                "cannot take part in the leader election by Lease {namespace}/{lease}; check the \
                     operator's Role for leases"
            )
        })?;
    let (mut leading, mut task) = manager.watch().await;
    tracing::info!(lease, identity, "waiting to become the leader");
    tokio::select! {
        held = leading.wait_for(|held| *held) => { held.context("the leader election ended")?; }
        end = &mut task => bail!("the leader election ended: {}", ended(end)),
        () = &mut stop => return Ok(()),
    }
    tokio::select! {
        () = renewed(&leases, lease, identity) => {}
        end = &mut task => bail!("the leader election ended: {}", ended(end)),
        () = &mut stop => return Ok(()),
    }
    tracing::info!(lease, identity, "this replica leads");
    tokio::select! {
        result = work() => return result,
        () = async { stop.await; leave().await } => {}
        _ = leading.wait_for(|held| !*held) => {
            bail!("the Lease {namespace}/{lease} was lost; this replica stops at once and starts again as a \
                   follower")
        }
        why = doubtful(&leases, lease, identity) => {
            bail!("the Lease {namespace}/{lease} {why}; this replica stops before two lead, and starts again \
                   as a follower")
        }
        end = &mut task => bail!("the leader election ended: {}", ended(end)),
    }
    // The manager gives the lease back when nobody listens any more.
    drop(leading);
    let _ = tokio::time::timeout(RELEASE, task).await;
    Ok(())
}

/// Ends when the lease is held and was renewed lately. The manager takes one of our own name for held, also
/// when it has run out while this container was started again; it renews it then at once.
async fn renewed(leases: &Api<Lease>, name: &str, identity: &str) {
    loop {
        if let Ok(Ok(lease)) = timeout(LOOK, leases.get(name)).await
            && sure_until(&lease, identity).is_some_and(|sure| sure > Timestamp::now())
        {
            return;
        }
        sleep(LOOK / 10).await;
    }
}

/// Ends when it is no longer sure that the lease is held: the manager tells of a lease that somebody else
/// has, but not of one that it cannot renew, be it that the API server answers with errors or not at all.
async fn doubtful(leases: &Api<Lease>, name: &str, identity: &str) -> String {
    let mut until = Instant::now() + SURE.unsigned_abs();
    while Instant::now() < until {
        let (asked, now) = (Instant::now(), Timestamp::now());
        // Without an answer holds what was known before.
        if let Ok(Ok(lease)) = timeout(LOOK, leases.get(name)).await {
            let Some(sure) = sure_until(&lease, identity) else { return "was lost".into() };
            until = asked + Duration::try_from(sure.duration_since(now)).unwrap_or_default();
        }
        sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
    }
    format!("could not be renewed for {SURE:#}")
}

/// Until when `identity` may act by this lease; `None` where it does not hold it.
fn sure_until(lease: &Lease, identity: &str) -> Option<Timestamp> {
    let spec = lease.spec.as_ref().filter(|spec| spec.holder_identity.as_deref() == Some(identity))?;
    spec.renew_time.as_ref()?.0.checked_add(SURE).ok()
}

fn ended<M, E: std::fmt::Display, J: std::fmt::Display>(end: Result<Result<M, E>, J>) -> String {
    match end {
        Ok(Ok(_)) => "it was stopped".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_holds_the_lease_is_sure_of_it_for_a_while_after_each_renewal() {
        let lease = |spec: serde_json::Value| {
            serde_json::from_value::<Lease>(json!({"metadata": {"name": "l"}, "spec": spec})).unwrap()
        };
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let renewed = "2026-01-01T00:00:00.500000Z";
        let cases = [
            ("held", json!({"holderIdentity": "me", "renewTime": renewed}), at("2026-01-01T00:00:10.5Z")),
            ("somebody else's", json!({"holderIdentity": "you", "renewTime": renewed}), None),
            ("nobody's", json!({"renewTime": renewed}), None),
            ("never renewed", json!({"holderIdentity": "me"}), None),
        ];
        for (what, spec, wanted) in cases {
            assert_eq!(sure_until(&lease(spec), "me"), wanted, "{what}");
        }
    }
}
