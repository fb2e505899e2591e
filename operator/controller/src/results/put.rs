//! How is a slice kept, once and for all?

use std::path::Path;

use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{MAX_SLICES, SliceId};

use super::StoredSlices;
use super::error::ResultsError;
use super::index::CaptureSlices;
use super::key::{capture_component, namespace_component, session_component, slice_file};
use super::pprof;
use super::store::Store;

impl Store {
    /// Stores a slice durably; `true` when there was nothing to do: the same bytes are stored already, or the
    /// capture's profile is made and the agent has merely not heard so.
    ///
    /// # Errors
    /// `Rejected`, `Conflict`, `Full`, `NamespaceFull`, `Io`.
    pub(super) fn put_slice(
        &self,
        scope: &CaptureScope,
        slice: SliceId,
        body: &[u8],
    ) -> Result<bool, ResultsError> {
        if slice.seq >= MAX_SLICES {
            return Err(ResultsError::Rejected(format!(
                "{slice} is beyond the last one, {}: send fewer slices",
                MAX_SLICES - 1
            )));
        }
        let (session, capture) = (session_component(&scope.session_uid), capture_component(&scope.capture));
        let file = slice_file(slice);
        let path = self.slices().join(&session).join(&capture).join(&file);
        let _one = self.lock_capture(&capture);
        if self.is_stored(&session, &capture, &file)? {
            return self.same_bytes(&path, body, slice);
        }
        if self.index().same_target(&self.key(scope, slice.kind)).is_some() {
            return Ok(true);
        }
        self.check_bound(scope, &capture, body.len() as u64)?;
        let samples = pprof::check_slice(body, slice.kind)?;
        let namespace = namespace_component(&scope.session_namespace);
        self.index().own(&session, &namespace);
        let admit = |bytes, writing| self.admit_slice(&namespace, &capture, bytes, writing);
        self.write(&path, body, Some(samples), admit, |index, facts| {
            index.own(&session, &namespace);
            index.add_slice(&session, &capture, file, facts);
        })?;
        Ok(false)
    }

    /// Refuses more than a capture of its length, rate and kinds can have.
    fn check_bound(&self, scope: &CaptureScope, capture: &str, bytes: u64) -> Result<(), ResultsError> {
        let stored = self.index().capture(capture).map_or(0, CaptureSlices::bytes);
        if stored.saturating_add(bytes) <= scope.max_bytes {
            return Ok(());
        }
        Err(ResultsError::Rejected(format!(
            "the slices of this capture exceed {} bytes, the most for its duration, frequency and kinds: shorten \
             the capture or lower frequencyHz",
            scope.max_bytes
        )))
    }

    fn is_stored(&self, session: &str, capture: &str, file: &str) -> Result<bool, ResultsError> {
        let index = self.index();
        let Some(entry) = index.capture(capture) else { return Ok(false) };
        if entry.session != session {
            return Err(ResultsError::Conflict(format!(
                "capture {capture} belongs to another session: do not reuse capture IDs"
            )));
        }
        Ok(entry.slices.contains_key(file))
    }

    fn same_bytes(&self, path: &Path, body: &[u8], slice: SliceId) -> Result<bool, ResultsError> {
        let stored = std::fs::read(path).map_err(|error| ResultsError::io("reading", path, &error))?;
        if stored == body {
            return Ok(true);
        }
        Err(ResultsError::Conflict(format!(
            "other bytes are stored as {slice}: give each slice a number of its own"
        )))
    }

    /// What is stored of one kind of a capture.
    ///
    /// # Errors
    /// `Io`: a slice cannot be read.
    pub(super) fn stored(&self, capture: &str, kind: ProfileKind) -> Result<StoredSlices, ResultsError> {
        let capture = capture_component(capture);
        let Some(entry) = self.index().capture(&capture).cloned() else { return Ok(StoredSlices::default()) };
        let folder = self.slices().join(&entry.session).join(&capture);
        let mut sum = StoredSlices::default();
        for (file, facts) in entry.of(kind) {
            let samples = match facts.samples {
                Some(samples) => samples,
                None => self.count_slice(&capture, file, &folder)?,
            };
            sum.slices += 1;
            sum.samples = sum.samples.saturating_add(samples);
            sum.bytes += facts.bytes;
        }
        Ok(sum)
    }

    /// Counts the samples of a slice that an earlier process stored.
    fn count_slice(&self, capture: &str, file: &str, folder: &Path) -> Result<i64, ResultsError> {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(|error| ResultsError::io("reading", &path, &error))?;
        let samples = pprof::samples(&bytes, file)?;
        self.index().count_slice(capture, file, samples);
        Ok(samples)
    }
}
