//! How do files with symbols that people upload come onto the results volume? As far as there is room.

use std::sync::Arc;

use super::Results;
use crate::symbols::uploads::{Piece, Progress, Refused, Uploaded, Uploads};

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

    /// The files with symbols that people uploaded, by build id.
    ///
    /// # Errors
    /// They may upload none.
    pub fn uploaded_symbols(&self) -> Result<Vec<Uploaded>, Refused> {
        Ok(self.uploads()?.list())
    }

    /// Removes one of them.
    ///
    /// # Errors
    /// It is not there, or the volume does not let it go.
    pub async fn delete_symbols(&self, build_id: &str) -> Result<Uploaded, Refused> {
        let (uploads, build_id) = (Arc::clone(self.uploads()?), build_id.to_owned());
        let removed = tokio::task::spawn_blocking(move || uploads.delete(&build_id)).await;
        let removed = removed.unwrap_or_else(|error| Err(Refused::Failed(error.to_string())));
        let _ = self.usage().await;
        removed
    }

    /// Gives up uploads that have paused for too long.
    pub(super) fn expire_uploads(&self) {
        if let Some(uploads) = self.symbols.uploads() {
            uploads.expire();
        }
    }
}
