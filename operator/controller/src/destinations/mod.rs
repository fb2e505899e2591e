//! Where do profiles go, beside the results volume that they are made on?
//!
//! ```text
//! results volume ─► Destinations::deliver ─► outbox of one destination ─► put, retried until it arrives
//!       ▲                                                                  file · s3 · gs · az · pyroscope · otlp
//!       └──────────── Archive::get ◄── a reader, where the volume has no copy (any more)
//! ```
//! Guarantees: each destination has an outbox and tasks of its own, so one that hangs holds up nothing else.
//! What is sent follows from the statuses of sessions: after a crash it is offered again, and putting it twice
//! is harmless. Credentials are read from files, and appear in no message.

mod bucket;
mod client;
mod config;
mod credentials;
mod lines;
mod metrics;
mod otlp;
mod posts;
mod push;
mod pyroscope;
mod shared;
#[cfg(test)]
pub(crate) mod tests;
mod transfers;

use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::ProfileKind;
use futures::future::BoxFuture;

pub(crate) use client::{Connector, chain, client, connector};
pub use config::{Config, Identity};
pub(crate) use config::{is_name, is_url};
pub(crate) use credentials::{Made, Secrets};
pub use lines::{Destinations, Named, Wake};
pub use metrics::DestinationMetrics;
pub(crate) use posts::authorization;
pub use shared::SharedArchive;

/// A profile that is sent, beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its key: `CLUSTER/NAMESPACE/WORKLOAD/DATE/SESSION-UID/FILE`, each part a harmless path component.
    pub key: String,
    /// What it counts.
    pub kind: ProfileKind,
    /// Namespace of its session.
    pub namespace: String,
    /// Name of its session.
    pub session: String,
    /// Its bytes; 0 where they are not known.
    pub bytes: u64,
    /// What else is known of what it is of; empty for a slice.
    pub target: Target,
}

/// What is known of the target of a profile beside what its labels say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its workload, such as `Deployment/orders`.
    pub workload: Box<str>,
    /// UID of its pod.
    pub pod_uid: Box<str>,
    /// Id of its container.
    pub container_id: Box<str>,
}

/// Why something is not in an archive, or cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// The archive failed; it may help to try again.
    #[error("{0}")]
    Failed(String),
}

impl ArchiveError {
    /// What an attempt to store something says.
    pub(crate) fn of(attempt: Attempt) -> Result<(), Self> {
        match attempt {
            Attempt::Stored => Ok(()),
            Attempt::Again(why, _) | Attempt::Failed(_, why) => Err(Self::Failed(why)),
        }
    }
}

/// Where profiles are sent.
pub trait Destination: Send + Sync {
    /// Stores a profile. Putting it again with the same bytes changes nothing.
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt>;

    /// Whether profiles would be stored now.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Most profiles that it takes side by side.
    fn at_once(&self) -> usize {
        8
    }

    /// The same destination as one that profiles can be read from; `None` for one that keeps them in its own way.
    fn archive(&self) -> Option<&dyn Archive> {
        None
    }
}

/// A destination that gives back what was put.
pub trait Archive: Send + Sync {
    /// Stores bytes under a key. The same once more changes nothing.
    ///
    /// # Errors
    /// `Failed`.
    fn keep<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<(), ArchiveError>>;

    /// The profile with that key.
    ///
    /// # Errors
    /// `Missing`, `Failed`.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, ArchiveError>>;

    /// Removes the profile with that key; no error when it is not there.
    ///
    /// # Errors
    /// `Failed`.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ArchiveError>>;

    /// The keys of this cluster that lie in the folder `below` its own (all without one), that `picks`, and that are
    /// older than `age`. What is not a key of fleetprof is left out.
    ///
    /// # Errors
    /// `Failed`.
    fn list<'a>(
        &'a self,
        below: &'a str,
        picks: &'a (dyn Fn(&str) -> bool + Send + Sync),
        age: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, ArchiveError>>;
}

/// The folder of slices that wait to be assembled, below that of the cluster.
pub const INTAKE: &str = ".intake";

/// The folder of uploaded files with symbols, below that of the cluster.
pub const SYMBOLS: &str = ".symbols";
/// Most bytes that are stored under a key below [`SYMBOLS`]: files come in pieces.
pub const SYMBOLS_PIECE: usize = 4 << 20;

/// Whether it is the key of something that belongs to uploaded symbols, and to no session:
/// `CLUSTER/.symbols/BUILD-ID/FILE` or `CLUSTER/.symbols/BUILD-ID/SHA-256/FILE`.
#[must_use]
pub fn is_of_symbols(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
    };
    match parts.as_slice() {
        [cluster, SYMBOLS, below @ ..] => {
            !cluster.is_empty()
                && !cluster.starts_with('.')
                && matches!(below.len(), 2 | 3)
                && below.iter().all(plain)
        }
        _ => false,
    }
}

/// The part of a key that names its session: the fifth of six of a profile's, and the third of five of a slice's
/// (`CLUSTER/.intake/SESSION-UID/CAPTURE/FILE`). `None` where it is not a key.
#[must_use]
pub fn session_of(key: &str) -> Option<&str> {
    let parts: Vec<&str> = key.split('/').collect();
    let ours = |part: &&str| !part.is_empty() && !part.starts_with('.');
    match parts.as_slice() {
        [cluster, INTAKE, session, capture, file]
            if [cluster, session, capture, file].into_iter().all(ours) =>
        {
            Some(*session)
        }
        [_, _, _, _, session, _] if parts.iter().all(ours) => Some(*session),
        _ => None,
    }
}
