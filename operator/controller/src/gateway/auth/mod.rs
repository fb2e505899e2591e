//! Which agent is calling: that of a pod, and for which of its containers, or that of a node?
//!
//! ```text
//! Authorization: Bearer ┬ fpc1.…  credential of an attached agent ─► signature, expiry        (no I/O)
//!                       └ other   projected token of any other ────► cache ─► TokenReview
//! POST /v1/enroll  fpt1.…  ticket of an attached agent ─► signature, expiry, address, once ─► fpc1.…
//! ```

mod cache;
mod token_review;

use std::net::IpAddr;
use std::sync::Arc;

use fleetprof_core::agent::AgentId;
use fleetprof_core::time::after;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use self::cache::Cache;
pub use self::token_review::TokenReviews;
use self::token_review::expiry;
use super::PodId;
use super::rate::Buckets;
use crate::permits::{NoPermit, Permits};
use crate::server::Network;
use crate::sha256::sha256;
use crate::tickets::Tickets;

/// How long an answer of [`Identify`] that names an agent is believed.
const BELIEVED: SignedDuration = SignedDuration::from_secs(60);
/// The same while the pod is known to be there, and its token lasts: 4,000 agents would ask the API server 67
/// times a second else. A token dies with its pod; one of a deleted service account may live that long.
const BELIEVED_WHILE_THERE: SignedDuration = SignedDuration::from_mins(10);
/// How long a refusal is believed: short, since a token may be asked about before its pod is known to the API
/// server.
const REFUSED: SignedDuration = SignedDuration::from_secs(10);
/// Tokens that are remembered, of either kind.
const TOKENS_KEPT: usize = 65_536;
/// Refused tokens an address may bring, in a row and a second; then it waits. Pods behind one address share
/// it.
const REFUSALS: (f64, f64) = (50.0, 5.0);
/// Tokens of one address that are asked about at one time: a quarter of the reviews that wait for the API
/// server, each some milliseconds. More are refused for a second, so that invalid tokens do not stand before
/// everybody else's.
const PENDING_EACH: usize = 8;
/// Tokens of all addresses that are asked about or wait for their turn: those of a fleet that finds a new
/// leader.
const PENDING: usize = 4_096;
/// Longest bearer token. Projected tokens have about 1 KiB.
const MAX_TOKEN: usize = 8 * 1024;

/// Tells which agent a token was made for.
pub trait Identify: Send + Sync + 'static {
    /// The agent with this projected service-account token of our audience. Answers are cached by the caller.
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<AgentId, IdentifyError>>;

    /// Whether this very pod is known to be there now.
    fn is_there(&self, pod: &PodId) -> bool;
}

/// Why a token names no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// It is invalid. Carries a message.
    #[error("{0}")]
    Refused(String),
    /// Nobody could say; ask again. Carries a sentence.
    #[error("{0}")]
    Unavailable(String),
    /// Too many tokens of the address are being asked about.
    #[error("Too many tokens from this address are being checked; retry later.")]
    Crowded {
        /// When to try again, in seconds.
        after: u64,
    },
    /// The address brought too many bad tokens.
    #[error("Too many requests with invalid credentials from this address.")]
    TooMany {
        /// When to try again, in seconds.
        after: u64,
    },
}

/// The agent of a token.
#[derive(Clone)]
struct Believed {
    agent: AgentId,
    /// Until when, in any case.
    surely: Timestamp,
    /// Until when, while the pod is there.
    at_most: Timestamp,
}

impl Believed {
    fn new(agent: AgentId, token: &str, now: Timestamp) -> Self {
        let surely = after(now, BELIEVED);
        let longest = after(now, BELIEVED_WHILE_THERE);
        Self { agent, surely, at_most: expiry(token).map_or(surely, |end| end.min(longest)) }
    }

    fn holds(&self, now: Timestamp, identify: &dyn Identify) -> bool {
        now < self.surely || now < self.at_most && identify.is_there(self.agent.own_pod())
    }
}

/// Answers who calls, from what it remembers where it can.
pub(super) struct Authenticator {
    identify: Arc<dyn Identify>,
    tickets: Arc<Tickets>,
    believed: Cache<Believed>,
    refused: Cache<String>,
    refusals: Buckets<Option<Network>>,
    pending: Permits<Option<Network>>,
}

impl Authenticator {
    pub(super) fn new(identify: Arc<dyn Identify>, tickets: Arc<Tickets>) -> Self {
        Self {
            identify,
            tickets,
            believed: Cache::new(TOKENS_KEPT, BELIEVED_WHILE_THERE),
            refused: Cache::new(TOKENS_KEPT, REFUSED),
            refusals: Buckets::new(REFUSALS.0, REFUSALS.1),
            pending: Permits::new(PENDING_EACH, PENDING),
        }
    }

    /// The agent behind a bearer token that came from an address.
    pub(super) async fn agent(
        &self,
        token: &str,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<AgentId, IdentifyError> {
        if token.len() > MAX_TOKEN {
            return Err(self.refuse(peer, now, format!("The bearer token exceeds {MAX_TOKEN} bytes.")));
        }
        if Tickets::is_credential(token) {
            let agent = self.tickets.agent(token, now);
            return agent.map(AgentId::Pod).map_err(|error| self.refuse(peer, now, error.to_string()));
        }
        let key = sha256(token);
        if let Some(known) = self.believed.get(&key, now)
            && known.holds(now, &*self.identify)
        {
            return Ok(known.agent);
        }
        if let Some(why) = self.refused.get(&key, now) {
            return Err(self.refuse(peer, now, why));
        }
        self.ask(token, key, peer.map(Network::of), now).await
    }

    /// Counts the token as a bad one until the answer is there: else thousands of them could be asked about
    /// at once.
    async fn ask(
        &self,
        token: &str,
        key: [u8; 32],
        from: Option<Network>,
        now: Timestamp,
    ) -> Result<AgentId, IdentifyError> {
        let _place = self.pending.take(&from).map_err(crowded)?;
        self.refusals.take(&from, now).map_err(|after| IdentifyError::TooMany { after })?;
        let answer = self.identify.identify(token).await;
        match &answer {
            Ok(agent) => self.believed.put(key, Believed::new(agent.clone(), token, now), now),
            Err(IdentifyError::Refused(why)) => self.refused.put(key, why.clone(), now),
            Err(_) => {}
        }
        if !matches!(answer, Err(IdentifyError::Refused(_))) {
            self.refusals.give_back(&from, now);
        }
        answer
    }

    /// Counts a refused ticket like a refused token.
    pub(super) fn note_refused(&self, peer: Option<IpAddr>, now: Timestamp) {
        let _ = self.refusals.take(&peer.map(Network::of), now);
    }

    /// Whether the address may bring another credential that costs something to check.
    pub(super) fn may_ask(&self, peer: Option<IpAddr>, now: Timestamp) -> Result<(), IdentifyError> {
        self.refusals.peek(&peer.map(Network::of), now).map_err(|after| IdentifyError::TooMany { after })
    }

    fn refuse(&self, peer: Option<IpAddr>, now: Timestamp, why: String) -> IdentifyError {
        self.note_refused(peer, now);
        IdentifyError::Refused(why)
    }
}

fn crowded(denied: NoPermit) -> IdentifyError {
    match denied {
        NoPermit::ForHolder => IdentifyError::Crowded { after: 1 },
        NoPermit::ForAnyone => IdentifyError::Unavailable(
            "The gateway has reached its limit of concurrent token reviews; retry later.".to_owned(),
        ),
    }
}
