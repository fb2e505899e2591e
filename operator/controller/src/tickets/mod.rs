//! How does an attached agent prove which pod it is in, and which container it was attached to? An
//! ephemeral container can mount no new token, so the leader puts a ticket in its environment: good once,
//! for minutes, from the pod's own address. It is exchanged for a credential that the agent keeps in
//! memory, and renews from the same address for as long as the pod is there. Both are signed texts, so any
//! leader can check them. Those of earlier versions name no container, and are good for the whole pod.

mod seal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use fleetprof_core::agent::{PodAgent, PodId};
use fleetprof_crds::names;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::seal::Seal;
use crate::sha256::sha256;

/// How long a ticket can be redeemed.
pub const TICKET_LIFE: SignedDuration = SignedDuration::from_mins(5);
/// How long a credential is good.
pub const CREDENTIAL_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// After how long a credential is to be renewed: half of its life is left for tries.
pub const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(12);
/// How long a credential that has ended can still be renewed: an operator may be away for days, and results are
/// waited for as long.
pub const RENEWABLE: SignedDuration = SignedDuration::from_hours(names::MAX_RESULT_DEADLINE_HOURS);
/// How every ticket begins.
pub const TICKET: &str = "fpt1";
const CREDENTIAL: &str = "fpc1";
/// Redeemed tickets that are remembered, each for [`TICKET_LIFE`] at most; more enrolments must wait.
const MAX_REDEEMED: usize = 16_384;

/// Makes and checks tickets and credentials.
pub struct Tickets {
    seal: Seal,
    // Tickets are signed, so a nonce need not be secret, only its own.
    nonces: RandomState,
    minted: std::sync::atomic::AtomicU64,
    redeemed: Mutex<HashMap<[u8; 32], i64>>,
}

/// Why a ticket or credential is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It was not made here, or was changed.
    #[error("The ticket or credential was not issued by this gateway.")]
    Forged,
    /// Its time is over.
    #[error("The ticket or credential has expired.")]
    Expired,
    /// It was redeemed before.
    #[error(
        "The ticket was already used; tickets are single-use. If this agent did not use it, another process \
         in the pod did."
    )]
    Replayed,
    /// It came from an address that is not the pod's.
    #[error(
        "The ticket was sent from an address that is not its pod's; traffic from pods to the gateway must \
         not be masqueraded."
    )]
    WrongAddress,
    /// A credential is to be renewed for a pod that is gone, or from an address that is not the pod's.
    #[error("The credential cannot be renewed: its pod is gone, or the request comes from another address.")]
    Moved,
    /// Too many tickets were redeemed in the last minutes.
    #[error("Too many agents were attached in the last minutes; retry later.")]
    Busy,
    /// The text could not be made; a bug.
    #[error("Failed to serialize as JSON.")]
    Unwritable,
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    #[serde(flatten)]
    agent: Words,
    ips: Vec<IpAddr>,
    exp: i64,
    nonce: u64,
}

#[derive(Serialize, Deserialize)]
struct Credential {
    #[serde(flatten)]
    agent: Words,
    exp: i64,
}

/// The agent that a text was made for.
#[derive(Serialize, Deserialize)]
struct Words {
    /// Namespace, name, uid.
    pod: (String, String, String),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

impl From<Words> for PodAgent {
    fn from(words: Words) -> Self {
        let (namespace, name, uid) = words.pod;
        Self { pod: PodId { namespace, name, uid }, container: words.container }
    }
}

impl From<&PodAgent> for Words {
    fn from(PodAgent { pod, container }: &PodAgent) -> Self {
        let pod = (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
        Self { pod, container: container.clone() }
    }
}

/// What a ticket, or a credential, was exchanged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// The agent that it was made for.
    pub agent: PodAgent,
    /// Its credential.
    pub credential: String,
    /// When that ends, seconds since 1970.
    pub expires_at: i64,
}

impl Tickets {
    /// Tickets of a key that every leader has.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            seal: Seal::new(key),
            nonces: RandomState::new(),
            minted: std::sync::atomic::AtomicU64::new(0),
            redeemed: Mutex::default(),
        }
    }

    /// A ticket for the agent that is about to be attached to its container of the pod, which has these
    /// addresses.
    ///
    /// # Errors
    /// [`TicketError::Unwritable`], never in practice.
    pub fn mint(&self, agent: &PodAgent, ips: &[IpAddr], now: Timestamp) -> Result<String, TicketError> {
        let count = self.minted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ticket = Ticket {
            agent: agent.into(),
            ips: ips.iter().map(IpAddr::to_canonical).collect(),
            exp: expiry(now, TICKET_LIFE),
            nonce: self.nonces.hash_one(count),
        };
        self.seal.close(TICKET, &ticket).map_err(|_| TicketError::Unwritable)
    }

    /// Exchanges a ticket that came from an address for a credential.
    ///
    /// # Errors
    /// Every [`TicketError`]. A ticket that is refused for its address or age is not used up.
    pub fn redeem(&self, ticket: &str, peer: IpAddr, now: Timestamp) -> Result<Exchanged, TicketError> {
        let opened: Ticket = self.seal.open(TICKET, ticket).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp {
            return Err(TicketError::Expired);
        }
        if !opened.ips.contains(&peer.to_canonical()) {
            return Err(TicketError::WrongAddress);
        }
        let exchanged = self.credential(opened.agent.into(), now)?;
        self.use_up(ticket, opened.exp, now)?;
        Ok(exchanged)
    }

    /// Exchanges a credential for a new one of the same container. `resides` tells whether the pod is there and
    /// has the address that the request came from.
    ///
    /// # Errors
    /// [`TicketError::Forged`], [`TicketError::Expired`] where it ended more than [`RENEWABLE`] ago, and
    /// [`TicketError::Moved`].
    pub fn renew(
        &self,
        credential: &str,
        now: Timestamp,
        resides: impl FnOnce(&PodId) -> bool,
    ) -> Result<Exchanged, TicketError> {
        let opened: Credential = self.seal.open(CREDENTIAL, credential).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp.saturating_add(RENEWABLE.as_secs()) {
            return Err(TicketError::Expired);
        }
        let agent = PodAgent::from(opened.agent);
        if !resides(&agent.pod) {
            return Err(TicketError::Moved);
        }
        self.credential(agent, now)
    }

    fn credential(&self, agent: PodAgent, now: Timestamp) -> Result<Exchanged, TicketError> {
        let expires_at = expiry(now, CREDENTIAL_LIFE);
        let credential = Credential { agent: (&agent).into(), exp: expires_at };
        let credential = self.seal.close(CREDENTIAL, &credential).map_err(|_| TicketError::Unwritable)?;
        Ok(Exchanged { agent, credential, expires_at })
    }

    /// Whether a bearer token claims to be a credential of an attached agent.
    #[must_use]
    pub fn is_credential(token: &str) -> bool {
        token.strip_prefix(CREDENTIAL).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The agent that a credential was made for.
    ///
    /// # Errors
    /// [`TicketError::Forged`] or [`TicketError::Expired`].
    pub fn agent(&self, credential: &str, now: Timestamp) -> Result<PodAgent, TicketError> {
        let opened: Credential = self.seal.open(CREDENTIAL, credential).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp {
            return Err(TicketError::Expired);
        }
        Ok(opened.agent.into())
    }

    fn use_up(&self, ticket: &str, exp: i64, now: Timestamp) -> Result<(), TicketError> {
        let mut redeemed = self.redeemed.lock().unwrap_or_else(PoisonError::into_inner);
        if redeemed.len() >= MAX_REDEEMED {
            redeemed.retain(|_, exp| *exp > now.as_second());
        }
        let digest = sha256(ticket);
        if redeemed.contains_key(&digest) {
            return Err(TicketError::Replayed);
        }
        if redeemed.len() >= MAX_REDEEMED {
            return Err(TicketError::Busy);
        }
        redeemed.insert(digest, exp);
        Ok(())
    }
}

fn expiry(now: Timestamp, life: SignedDuration) -> i64 {
    now.as_second().saturating_add(life.as_secs())
}
