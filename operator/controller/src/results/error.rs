//! Why were results not stored, made or read?

use std::io;
use std::path::Path;

use fleetprof_crds::Reason;
use fleetprof_crds::wire::Problem;
use thiserror::Error;

/// Why results were not stored, made or read. Each says what is wrong, where, and what to do.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// The slice is not an acceptable profile; retrying does not help.
    #[error("{0}")]
    Rejected(String),
    /// Other bytes are stored under the same number already; sending it again does not help.
    #[error("{0}")]
    Conflict(String),
    /// The volume is full; it helps to try again once there is space.
    #[error("{0}")]
    Full(String),
    /// The namespace is over its share of the volume; it helps to try again once its older results are gone.
    #[error("{0}")]
    NamespaceFull(String),
    /// What was asked for is not on the volume.
    #[error("{0}")]
    Missing(String),
    /// No sample is of the process that was asked for.
    #[error("{0}")]
    NoProcess(String),
    /// Too many readers wait already; it helps to try again.
    #[error("{0}")]
    Busy(String),
    /// The volume failed; it may help to try again.
    #[error("{0}")]
    Io(String),
}

impl ResultsError {
    /// The failure of `doing` something with `path`, as a message.
    pub(super) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(format!(
                "the results volume is full ({doing} {path}: {error}): free space on it, enlarge it, or \
                 lower the ttl of sessions"
            )),
            _ => Self::Io(format!(
                "the results volume failed ({doing} {path}: {error}): check that it is mounted, writable and \
                 healthy"
            )),
        }
    }

    /// The reason for the status of a session.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Rejected(_) | Self::Conflict(_) => Reason::UploadRejected,
            Self::Full(_) => Reason::StorageFull,
            Self::NamespaceFull(_) => Reason::NamespaceStorageFull,
            Self::Missing(_) | Self::NoProcess(_) | Self::Busy(_) | Self::Io(_) => Reason::StorageFailed,
        }
    }
}

impl From<Problem> for ResultsError {
    fn from(problem: Problem) -> Self {
        match problem.reason {
            Reason::NamespaceStorageFull => Self::NamespaceFull(problem.message),
            _ => Self::Full(problem.message),
        }
    }
}
