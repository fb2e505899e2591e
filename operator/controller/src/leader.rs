//! Which replica of `run` acts? The one that holds the Lease; [`fleetprof_core::election`] decides, this asks
//! the API server.
//!
//! ```text
//! run: won ─► work ┬─ the work ended, or `stop` and then `leave` ─► work dropped ─► Lease given back ─► end
//!         ▲        └─ lost ─► work dropped ─► error, the process exits
//!         └─ the next process, as a standby
//! ```
//! Renewals are not a part of the work and cannot be held up by it, and the deadline is not a part of a
//! renewal: an API server that never answers costs the leader its Lease, not its moment to stop.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use fleetprof_core::election::{Answer, Candidate, Decision, Lost, Now, Timing};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::client::Fence;

/// How long the dropped work may take to be gone. A task is dropped when it next waits, mostly at once.
const DROP: Duration = Duration::from_secs(1);
/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Waits until this process holds the Lease, then runs `work` for as long as it does, or until `stop`.
///
/// `work` is dropped, and so stopped, as soon as the Lease is lost; the process should exit then. At `stop` a
/// leader does `leave`, still working and renewing, and gives the Lease back, so that the next one need not
/// wait until it expires. It gives it back as well when `work` ends by itself.
///
/// `fence` is kept open for as long as this replica leads. `client` itself must not be held to it.
///
/// # Errors
/// When the Lease cannot be read at the start or must not be written, when it is lost, or when `work` fails.
pub async fn run<F, Fut, L, Left>(
    client: Client,
    namespace: &str,
    lease: &str,
    identity: &str,
    (work, leave): (F, L),
    fence: Fence,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    L: FnOnce() -> Left,
    Left: Future<Output = ()>,
{
    let mut stop = pin!(stop);
    let mut election = Election::new(Api::namespaced(client, namespace), (namespace, lease), identity, fence);
    tracing::info!(lease, identity, "waiting for leadership");
    tokio::select! {
        won = election.won() => won?,
        () = &mut stop => {
            election.release().await;
            return Ok(());
        }
    }
    tracing::info!(lease, identity, "became leader");
    election
        .lead(work(), async {
            stop.await;
            leave().await
        })
        .await
}

/// This replica's part in the election.
struct Election {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    candidate: Candidate,
    fence: Fence,
    random: RandomState,
}

/// Why a call failed: the API server's answer, or none in time.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Refused(#[from] kube::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl CallError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

impl Election {
    fn new(leases: Api<Lease>, (namespace, name): (&str, &str), identity: &str, fence: Fence) -> Self {
        Self {
            leases,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            candidate: Candidate::new(name, identity, Timing::default()),
            fence,
            random: RandomState::new(),
        }
    }

    fn now(&self) -> Now {
        Now { steady: self.fence.started().elapsed(), wall: Timestamp::now() }
    }

    /// Ends when this replica leads.
    async fn won(&mut self) -> anyhow::Result<()> {
        let mut first = true;
        while self.candidate.leads_until().is_none() {
            match self.step().await {
                Err(Stopped::Lost(lost)) => return Err(self.explain(lost)),
                // Waiting does not help: the Role is missing, or there is no such API server.
                Err(Stopped::Failed(error)) if first || error.code() == Some(403) => {
                    let (namespace, name) = (&self.namespace, &self.name);
                    let advice =
                        format!("cannot use Lease {namespace}/{name}; check the operator's Role for leases");
                    return Err(error).context(advice);
                }
                Err(Stopped::Failed(error)) => {
                    tracing::warn!(%error, lease = self.name, "failed to read or take the Lease");
                }
                Ok(()) => first = false,
            }
        }
        Ok(())
    }

    /// Works while this replica leads, until the work or `stopped` ends.
    async fn lead(
        &mut self,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        stopped: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        // On a task of its own: what it does between two waits must not delay a renewal.
        let mut working = JoinSet::new();
        working.spawn(work);
        let lost_or_ended = tokio::select! {
            biased;
            lost = self.kept() => Err(lost),
            Some(ended) = working.join_next() => Ok(ended.context("the leader's work panicked").flatten()),
            () = stopped => Ok(Ok(())),
        };
        self.fence.lead_until(None);
        let dropped = timeout(DROP, working.shutdown()).await.is_ok();
        match lost_or_ended {
            Err(lost) => Err(self.explain(lost)),
            Ok(ended) => {
                // Work that is still there would go on beside the next leader's.
                if dropped {
                    self.release().await;
                }
                ended
            }
        }
    }

    /// Renews the Lease; ends when this replica may no longer lead.
    async fn kept(&mut self) -> Lost {
        loop {
            match self.step().await {
                Err(Stopped::Lost(lost)) => return lost,
                Err(Stopped::Failed(error)) => {
                    tracing::warn!(%error, lease = self.name, "failed to renew the Lease");
                }
                Ok(()) => {}
            }
        }
    }

    /// Does what is next, and whatever must be waited for.
    async fn step(&mut self) -> Result<(), Stopped> {
        let decision = self.candidate.next(self.now());
        match decision {
            Decision::Wait(until) => {
                sleep_until(self.fence.started() + until).await;
                Ok(())
            }
            Decision::Lost(lost) => Err(Stopped::Lost(lost)),
            Decision::Look | Decision::Write(_) => self.call(decision).await.map_err(Stopped::Failed),
        }
    }

    /// Makes a call and takes its answer in. Dropped in between, it leaves behind that the answer is unknown.
    async fn call(&mut self, decision: Decision) -> Result<(), CallError> {
        let sent = self.now().steady;
        let limit = self.candidate.call_limit(sent);
        self.candidate.calls(&decision);
        let outcome = match timeout(limit, ask(&self.leases, &self.name, decision)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Late(limit)),
        };
        let (answer, outcome) = match outcome {
            Ok(answer) => (answer, Ok(())),
            Err(error) => (Answer::Failed, Err(error)),
        };
        let random = self.random.hash_one(sent) as f64 / u64::MAX as f64;
        self.candidate.heard(answer, sent, self.now().steady, random);
        self.fence.lead_until(self.candidate.leads_until());
        outcome
    }

    /// Gives the Lease back if it is ours, so that a standby need not wait until it expires.
    async fn release(&mut self) {
        let released = timeout(RELEASE, async {
            while let Some(decision) = self.candidate.release(Timestamp::now()) {
                let writes = matches!(decision, Decision::Write(_));
                self.candidate.calls(&decision);
                let sent = self.now().steady;
                let answer = ask(&self.leases, &self.name, decision).await?;
                if writes && matches!(answer, Answer::Written(_)) {
                    tracing::info!(lease = self.name, "released the Lease");
                    break;
                }
                self.candidate.heard(answer, sent, self.now().steady, 0.0);
            }
            Ok::<_, CallError>(())
        });
        if let Err(error) = released.await.unwrap_or(Err(CallError::Late(RELEASE))) {
            tracing::warn!(%error, lease = self.name, "failed to release the Lease; it must expire first");
        }
    }

    fn explain(&self, lost: Lost) -> anyhow::Error {
        let place = format!("{}/{}", self.namespace, self.name);
        match lost {
            Lost::Taken(holder) => anyhow!("lost Lease {place} to {holder}; exiting to avoid two leaders"),
            Lost::NotRenewed => {
                let deadline = Timing::default().deadline;
                anyhow!("failed to renew Lease {place} for {deadline:?}; exiting to avoid two leaders")
            }
        }
    }
}

/// Why the election does not go on as it was.
enum Stopped {
    /// This replica no longer leads.
    Lost(Lost),
    /// A call failed; the next step tries again.
    Failed(CallError),
}

/// Makes the call that was decided on.
async fn ask(leases: &Api<Lease>, name: &str, decision: Decision) -> Result<Answer, CallError> {
    let params = PostParams::default();
    let written = match decision {
        Decision::Write(lease) if lease.metadata.resource_version.is_some() => {
            match leases.replace(name, &params, &lease).await {
                // Deleted since it was read.
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Answer::Conflict),
                written => written,
            }
        }
        Decision::Write(lease) => leases.create(&params, &lease).await,
        Decision::Look | Decision::Wait(_) | Decision::Lost(_) => {
            return Ok(Answer::Found(leases.get_opt(name).await?.map(Box::new)));
        }
    };
    match written {
        Ok(lease) => Ok(Answer::Written(Box::new(lease))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Conflict),
        Err(error) => Err(error.into()),
    }
}
