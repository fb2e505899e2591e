//! Which pod is calling?
//!
//! ```text
//! Authorization: Bearer ┬ fpc1.…  credential of an attached agent ─► signature, expiry        (no I/O)
//!                       └ other   projected token of a sidecar ────► cache ─► TokenReview
//! POST /v1/enroll  fpt1.…  ticket of an attached agent ─► signature, expiry, address, once ─► fpc1.…
//! ```

mod cache;
mod seal;
mod tickets;
mod token_review;

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use self::cache::Cache;
pub use self::tickets::{CREDENTIAL_LIFE, TICKET, TICKET_LIFE, TicketError, Tickets};
pub use self::token_review::TokenReviews;
use super::PodId;
use super::rate::Buckets;

/// How long an answer of [`Identify`] that names a pod is believed.
const BELIEVED: SignedDuration = SignedDuration::from_secs(60);
/// How long a refusal is believed: short, since a token may be asked about before its pod is known to the API server.
const REFUSED: SignedDuration = SignedDuration::from_secs(10);
/// Tokens that are remembered, of either kind.
const TOKENS_KEPT: usize = 65_536;
/// Refused tokens an address may bring, in a row and a second; then it waits. Pods behind one address share it.
const REFUSALS: (f64, f64) = (50.0, 5.0);
/// Longest bearer token. Projected tokens have about 1 KiB.
const MAX_TOKEN: usize = 8 * 1024;

/// Tells which pod a token was made for.
pub trait Identify: Send + Sync + 'static {
    /// The pod of a projected service-account token of our audience. Answers are cached by the caller.
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<PodId, IdentifyError>>;
}

/// Why a token names no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// It is no good. Carries a sentence.
    #[error("{0}")]
    Refused(String),
    /// Nobody could say; ask again. Carries a sentence.
    #[error("{0}")]
    Unavailable(String),
    /// The address brought too many bad tokens.
    #[error("Too many requests with bad credentials came from this address.")]
    TooMany {
        /// When to try again, in seconds.
        after: u64,
    },
}

/// Answers who calls, from what it remembers where it can.
pub(super) struct Authenticator {
    identify: Arc<dyn Identify>,
    tickets: Arc<Tickets>,
    believed: Cache<PodId>,
    refused: Cache<String>,
    refusals: Buckets<Option<IpAddr>>,
}

impl Authenticator {
    pub(super) fn new(identify: Arc<dyn Identify>, tickets: Arc<Tickets>) -> Self {
        Self {
            identify,
            tickets,
            believed: Cache::new(TOKENS_KEPT, BELIEVED),
            refused: Cache::new(TOKENS_KEPT, REFUSED),
            refusals: Buckets::new(REFUSALS.0, REFUSALS.1),
        }
    }

    /// The pod behind a bearer token that came from an address.
    pub(super) async fn pod(&self, token: &str, peer: Option<IpAddr>, now: Timestamp) -> Result<PodId, IdentifyError> {
        if token.len() > MAX_TOKEN {
            return Err(self.refuse(peer, now, format!("The bearer token is longer than {MAX_TOKEN} bytes.")));
        }
        if Tickets::is_credential(token) {
            return self.tickets.pod(token, now).map_err(|error| self.refuse(peer, now, error.to_string()));
        }
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(pod) = self.believed.get(&key, now) {
            return Ok(pod);
        }
        if let Some(why) = self.refused.get(&key, now) {
            return Err(self.refuse(peer, now, why));
        }
        self.may_ask(peer, now)?;
        match self.identify.identify(token).await {
            Ok(pod) => {
                self.believed.put(key, pod.clone(), now);
                Ok(pod)
            }
            Err(IdentifyError::Refused(why)) => {
                self.refused.put(key, why.clone(), now);
                Err(self.refuse(peer, now, why))
            }
            Err(other) => Err(other),
        }
    }

    /// Counts a refused ticket like a refused token.
    pub(super) fn note_refused(&self, peer: Option<IpAddr>, now: Timestamp) {
        let _ = self.refusals.take(&peer, now);
    }

    /// Whether the address may bring another credential that costs something to check.
    pub(super) fn may_ask(&self, peer: Option<IpAddr>, now: Timestamp) -> Result<(), IdentifyError> {
        self.refusals.peek(&peer, now).map_err(|after| IdentifyError::TooMany { after })
    }

    fn refuse(&self, peer: Option<IpAddr>, now: Timestamp, why: String) -> IdentifyError {
        self.note_refused(peer, now);
        IdentifyError::Refused(why)
    }
}
