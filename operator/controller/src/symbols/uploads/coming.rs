//! What is an upload between its first piece and its end?

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

use super::shelf::UNFINISHED;
use super::{Claim, EXPIRES, Refused, Uploaded, Uploads};
use crate::sha256::Sha256;

/// The check of a whole file, for whoever asks how it ended.
pub(super) type Check = Shared<BoxFuture<'static, Result<Uploaded, Refused>>>;

/// An upload that is under way.
pub(super) enum Coming {
    /// A piece of a file of so many bytes is being written.
    Busy(u64),
    /// The next piece may come.
    Open(Box<Unfinished>),
    /// It is being checked, or the check has ended and nobody asked yet how.
    Checking(Claim, Check, Instant),
}

impl Coming {
    /// Bytes that it will take.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Busy(bytes) => *bytes,
            Self::Open(file) => file.claim.bytes,
            Self::Checking(claim, ..) => claim.bytes,
        }
    }

    /// Whether it has paused for too long.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Busy(_) => false,
            Self::Open(file) => file.touched.elapsed() > EXPIRES,
            Self::Checking(_, check, since) => check.peek().is_some() && since.elapsed() > EXPIRES,
        }
    }

    /// Whether its sender may begin another file at once: the same one again, or after the end of a check.
    pub(super) fn gives_way_to(&self, claim: &Claim) -> bool {
        match self {
            Self::Busy(_) => false,
            Self::Open(file) => file.claim.build_id == claim.build_id,
            Self::Checking(_, check, _) => check.peek().is_some(),
        }
    }
}

/// A file of which pieces are missing; removed unless it is kept.
pub(super) struct Unfinished {
    claim: Claim,
    file: File,
    path: Removed,
    length: u64,
    digest: Sha256,
    touched: Instant,
}

/// A path whose file is removed at the end, if it is still there.
pub(super) struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Unfinished {
    /// An empty file in the folder, which is made if it is not there.
    pub(super) fn begin(folder: &Path, number: u64, claim: Claim) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(text)?;
        let path = folder.join(format!("{number}{UNFINISHED}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(text)?;
        let (digest, touched) = (Sha256::default(), Instant::now());
        Ok(Self { claim, file, path: Removed(path), length: 0, digest, touched })
    }

    /// Appends a piece, if it begins where the file ends.
    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        if offset != self.length {
            return Err(format!("it begins at {offset}, and the file ends at {}", self.length));
        }
        self.file.write_all(bytes).map_err(|error| error.to_string())?;
        self.digest.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.touched = Instant::now();
        Ok(())
    }

    /// What was said of it.
    pub(super) const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Bytes that are there.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Whether all bytes are there.
    pub(super) const fn is_whole(&self) -> bool {
        self.length >= self.claim.bytes
    }

    /// The whole file, if it is the one that was claimed: what removes it in the end, the claim and the path.
    pub(super) fn closed(self) -> Result<(Removed, Claim, PathBuf), Refused> {
        let Self { claim, file, path, digest, .. } = self;
        drop(file);
        let own = digest.finish();
        if own != claim.sha256 {
            return Err(Refused::Invalid(format!(
                "{} arrived with SHA-256 {own}, and {} was claimed: it changed while it was sent; send it again",
                claim.name, claim.sha256
            )));
        }
        let at = path.0.clone();
        Ok((path, claim, at))
    }
}

/// Checks and keeps a whole file, whether or not anybody waits.
pub(super) fn check(uploads: Arc<Uploads>, file: Unfinished, user: String, memory: Arc<Semaphore>) -> Check {
    let task = tokio::spawn(async move { uploads.keep(file, user, memory).await });
    let ended =
        |error: tokio::task::JoinError| Err(Refused::Failed(format!("the check ended early ({error})")));
    let check = task.map(move |kept| kept.unwrap_or_else(ended)).boxed().shared();
    // Somebody must wait for it, or it is never seen to have ended.
    tokio::spawn(check.clone());
    check
}
