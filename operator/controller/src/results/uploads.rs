//! How do files with symbols that people upload come onto the results volume? As far as there is room.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Results;
use crate::symbols::uploads::{Listed, Piece, Progress, Refused, Uploads};

impl Results {
    fn uploads(&self) -> Result<&Arc<Uploads>, Refused> {
        let off = || {
            Refused::Absent(
                "symbols cannot be uploaded here: an administrator has to set symbols.uploads.size"
                    .to_owned(),
            )
        };
        self.symbols.uploads().ok_or_else(off)
    }

    /// Takes a piece of a file with symbols. Once it is whole it is checked, in the turn of a merge.
    ///
    /// # Errors
    /// It is not taken.
    pub async fn upload_symbols(&self, piece: Piece) -> Result<Progress, Refused> {
        let uploads = self.uploads()?;
        let failed = |error: super::ResultsError| Refused::Failed(error.to_string());
        // Only the first piece asks for room.
        let free = if piece.offset == 0 { self.usage().await.map_err(failed)?.free } else { 0 };
        let progress = uploads.receive(piece, free, &self.merges).await?;
        if matches!(progress, Progress::Stored(_)) {
            // It counts before the next slice is written.
            let _ = self.usage().await;
        }
        Ok(progress)
    }

    /// The files with symbols that people uploaded, by build id, and what is wrong with the archive of them: a sentence
    /// without a full stop.
    ///
    /// # Errors
    /// They may upload none.
    pub fn uploaded_symbols(&self) -> Result<(Vec<Listed>, Option<String>), Refused> {
        let uploads = self.uploads()?;
        Ok((uploads.list(), uploads.warning()))
    }

    /// Why a file is on the results volume alone though there is an archive, as a sentence without a full stop.
    #[must_use]
    pub fn alone_symbols(&self, build_id: &str) -> Option<String> {
        self.symbols.uploads()?.alone(build_id)
    }

    /// Removes one of them, also from the archive.
    ///
    /// # Errors
    /// It is not there, or the volume or the archive does not let it go.
    pub async fn delete_symbols(&self, build_id: &str) -> Result<(), Refused> {
        let (uploads, build_id) = (Arc::clone(self.uploads()?), build_id.to_owned());
        // It runs to its end even when the caller goes away: half of a deletion is none.
        let removed = tokio::spawn(async move { uploads.delete(&build_id).await }).await;
        let removed = removed.unwrap_or_else(|error| Err(Refused::Failed(error.to_string())));
        let _ = self.usage().await;
        removed
    }

    /// Starts to bring uploaded files and the archive together, where people may upload.
    pub fn start_symbols(&self, tasks: &mut JoinSet<anyhow::Result<()>>) {
        if let Some(uploads) = self.symbols.uploads().cloned() {
            tasks.spawn(async move {
                uploads.keep_archived().await;
                Ok(())
            });
        }
    }

    /// Lists the archive of uploaded files once, and settles what is on this volume.
    pub async fn settle_symbols(&self) {
        if let Some(uploads) = self.symbols.uploads() {
            uploads.bring_together().await;
        }
    }

    /// Gives up uploads that have paused for too long.
    pub(super) fn expire_uploads(&self) {
        if let Some(uploads) = self.symbols.uploads() {
            uploads.expire();
        }
    }
}
