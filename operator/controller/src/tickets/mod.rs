//! How does an attached agent prove which pod it is in? An ephemeral container can mount no new token, so the
//! leader puts a ticket in its environment: good once, for minutes, from the pod's own address. It is
//! exchanged for a credential that the agent keeps in memory, and renews from the same address for as long as
//! the pod is there. Both are signed texts, so any leader can check them.

mod seal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use fleetprof_core::agent::PodId;
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
    pod: PodWords,
    ips: Vec<IpAddr>,
    exp: i64,
    nonce: u64,
}

#[derive(Serialize, Deserialize)]
struct Credential {
    pod: PodWords,
    exp: i64,
}

/// Namespace, name, uid.
#[derive(Serialize, Deserialize)]
struct PodWords(String, String, String);

impl From<PodWords> for PodId {
    fn from(PodWords(namespace, name, uid): PodWords) -> Self {
        Self { namespace, name, uid }
    }
}

impl From<&PodId> for PodWords {
    fn from(pod: &PodId) -> Self {
        Self(pod.namespace.clone(), pod.name.clone(), pod.uid.clone())
    }
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

    /// A ticket for the agent that is about to be attached to the pod, which has these addresses.
    ///
    /// # Errors
    /// [`TicketError::Unwritable`], never in practice.
    pub fn mint(&self, pod: &PodId, ips: &[IpAddr], now: Timestamp) -> Result<String, TicketError> {
        let count = self.minted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ticket = Ticket {
            pod: pod.into(),
            ips: ips.iter().map(IpAddr::to_canonical).collect(),
            exp: expiry(now, TICKET_LIFE),
            nonce: self.nonces.hash_one(count),
        };
        self.seal.close(TICKET, &ticket).map_err(|_| TicketError::Unwritable)
    }

    /// Exchanges a ticket that came from an address for the pod, a credential, and the second when that ends.
    ///
    /// # Errors
    /// Every [`TicketError`]. A ticket that is refused for its address or age is not used up.
    pub fn redeem(
        &self,
        ticket: &str,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<(PodId, String, i64), TicketError> {
        let opened: Ticket = self.seal.open(TICKET, ticket).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp {
            return Err(TicketError::Expired);
        }
        if !opened.ips.contains(&peer.to_canonical()) {
            return Err(TicketError::WrongAddress);
        }
        let pod = PodId::from(opened.pod);
        let (credential, exp) = self.credential(&pod, now)?;
        self.use_up(ticket, opened.exp, now)?;
        Ok((pod, credential, exp))
    }

    /// Exchanges a credential for a new one and the second when that ends. `resides` tells whether the pod is
    /// there and has the address that the request came from.
    ///
    /// # Errors
    /// [`TicketError::Forged`], [`TicketError::Expired`] where it ended more than [`RENEWABLE`] ago, and
    /// [`TicketError::Moved`].
    pub fn renew(
        &self,
        credential: &str,
        now: Timestamp,
        resides: impl FnOnce(&PodId) -> bool,
    ) -> Result<(PodId, String, i64), TicketError> {
        let opened: Credential = self.seal.open(CREDENTIAL, credential).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp.saturating_add(RENEWABLE.as_secs()) {
            return Err(TicketError::Expired);
        }
        let pod = PodId::from(opened.pod);
        if !resides(&pod) {
            return Err(TicketError::Moved);
        }
        let (credential, exp) = self.credential(&pod, now)?;
        Ok((pod, credential, exp))
    }

    fn credential(&self, pod: &PodId, now: Timestamp) -> Result<(String, i64), TicketError> {
        let exp = expiry(now, CREDENTIAL_LIFE);
        let credential = Credential { pod: pod.into(), exp };
        let sealed = self.seal.close(CREDENTIAL, &credential).map_err(|_| TicketError::Unwritable)?;
        Ok((sealed, exp))
    }

    /// Whether a bearer token claims to be a credential of an attached agent.
    #[must_use]
    pub fn is_credential(token: &str) -> bool {
        token.strip_prefix(CREDENTIAL).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The pod that a credential was made for.
    ///
    /// # Errors
    /// [`TicketError::Forged`] or [`TicketError::Expired`].
    pub fn pod(&self, credential: &str, now: Timestamp) -> Result<PodId, TicketError> {
        let opened: Credential = self.seal.open(CREDENTIAL, credential).ok_or(TicketError::Forged)?;
        if now.as_second() >= opened.exp {
            return Err(TicketError::Expired);
        }
        Ok(opened.pod.into())
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
