//! Where do uploaded slices go? Behind a trait, so that the gateway knows nothing of files.

use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::SliceId;
use futures::future::BoxFuture;

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whether the same bytes were stored before.
    pub duplicate: bool,
}

/// Why a slice is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The bytes are no acceptable profile; the agent gives the slice up. Carries a sentence.
    #[error("{0}")]
    Rejected(String),
    /// Other bytes are stored under the same number; the agent gives the slice up.
    #[error("Different bytes are already stored under the same sequence number.")]
    Conflict,
    /// No space is left; the agent tries again later.
    #[error("The results volume is full.")]
    Full,
    /// The namespace is over its share of the volume; the agent tries again later. Carries what it keeps.
    #[error("{0}")]
    NamespaceFull(String),
    /// The volume cannot be written; the agent tries again later. Carries a sentence for the log.
    #[error("{0}")]
    Io(String),
}

/// Takes slices whose size, digest and right to be there were checked; their content is still hostile.
pub trait SliceSink: Send + Sync + 'static {
    /// Stores a slice of the capture, of one of its kinds and numbered below
    /// [`fleetprof_crds::wire::MAX_SLICES`]. `Ok` promises that it survives a crash. The same bytes again are a duplicate, not an error. The future runs to its end even
    /// when the agent hangs up.
    fn put_slice<'a>(
        &'a self,
        scope: &'a CaptureScope,
        slice: SliceId,
        body: Bytes,
        sha256: [u8; 32],
    ) -> BoxFuture<'a, Result<Stored, SinkError>>;
}
