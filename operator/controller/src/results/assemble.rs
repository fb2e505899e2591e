//! How do the slices of a capture become its profile, one for each kind, whenever the process may stop?
//!
//! ```text
//! slices ─► merge ─► label ─► profile stored (whole or not at all) ─► slices dropped one by one
//!    ▲                             │
//!    └── stopped before: again     └── stopped after: the profile stands, the rest of the slices is dropped
//! ```
//! A stored profile is never written again, so slices that are already dropped cannot be missed by a second
//! try.

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::session::symbols::MAX_MISSING;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_profile::resolve::standing;
use fleetprof_profile::{Profile, total};
use tracing::warn;

use super::error::ResultsError;
use super::index::{CaptureSlices, FileFacts, Merged};
use super::key::{Key, capture_component, session_component, slice_kind};
use super::metrics::Outcome;
use super::naming::{Assembly, Naming};
use super::pprof::{self, Merge};
use super::store::Store;

impl Store {
    /// Makes the profile of one kind of a capture, once; or tells for what names are to be found first.
    ///
    /// # Errors
    /// `Missing`, `Full`, `Io`.
    pub(super) fn assemble_with(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
        naming: &Naming,
    ) -> Result<Assembly, ResultsError> {
        let made = match self.assemble_once(scope, kind, slices, naming) {
            Ok((Assembly::Lacks(lacking), _)) => return Ok(Assembly::Lacks(lacking)),
            made => made,
        };
        let outcome = made.as_ref().map_or_else(Outcome::from, |(_, outcome)| *outcome);
        self.metrics.profile(outcome, kind);
        // A volume that does not answer has failed the work above already.
        let _ = self.usage();
        made.map(|(profile, _)| profile)
    }

    fn assemble_once(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
        naming: &Naming,
    ) -> Result<(Assembly, Outcome), ResultsError> {
        let capture = capture_component(&scope.capture);
        let _one = self.lock_capture(&capture);
        let _room = self.lock_assembling();
        let session = session_component(&scope.session_uid);
        if self.index().capture(&capture).is_some_and(|entry| entry.session != session) {
            return Err(ResultsError::Missing(format!("capture {capture} belongs to another session")));
        }
        let key = self.key(scope, kind);
        let (profile, outcome) = match self.made_before(&key)? {
            Some(profile) => (Assembly::Stored(profile, None), Outcome::Repeated),
            None => (self.make(scope, key, (&capture, slices), naming)?, Outcome::Stored),
        };
        if matches!(profile, Assembly::Lacks(_)) {
            return Ok((profile, outcome));
        }
        self.drop_slices(&capture, Some(kind))?;
        Ok((profile, outcome))
    }

    fn made_before(&self, key: &Key) -> Result<Option<StoredProfile>, ResultsError> {
        let found = self.index().same_target(key).map(|(key, facts)| (key.clone(), facts.clone()));
        let Some((key, facts)) = found else { return Ok(None) };
        let samples = match facts.samples {
            Some(samples) => samples,
            None => self.count_profile(&key, facts.clone())?,
        };
        Ok(Some(stored(&key, facts.bytes, samples)))
    }

    fn count_profile(&self, key: &Key, facts: FileFacts) -> Result<i64, ResultsError> {
        let samples = pprof::samples(&self.read_profile(key)?, key.as_str())?;
        self.index().add_profile(key.clone(), FileFacts { samples: Some(samples), ..facts });
        Ok(samples)
    }

    fn make(
        &self,
        scope: &CaptureScope,
        key: Key,
        (capture, slices): (&str, u32),
        naming: &Naming,
    ) -> Result<Assembly, ResultsError> {
        let entry = self.index().capture(capture).cloned().unwrap_or_default();
        let kind = key.kind();
        let have = u32::try_from(entry.of(kind).count()).unwrap_or(u32::MAX);
        if have == 0 || have < slices {
            return Err(ResultsError::Missing(format!(
                "capture {capture} has {have} of {slices} {kind} slices on the results volume: wait for the rest, \
                 or check that the volume was not replaced"
            )));
        }
        let (mut profile, left_out) = self.merge_slices(capture, &entry, kind)?;
        if let Some(lacking) = naming.apply(&mut profile) {
            return Ok(Assembly::Lacks(lacking));
        }
        let standing = standing(&profile, MAX_MISSING);
        pprof::label(&mut profile, scope, &self.config.cluster);
        pprof::weigh(&mut profile, scope);
        let samples = total(&profile, 0);
        let bytes = pprof::pack(&profile)?;
        let admit = |bytes, writing| self.admit_profile(bytes, writing);
        self.write(&key.path(&self.profiles()), &bytes, Some(samples), admit, |index, facts| {
            index.add_profile(key.clone(), facts);
            index.set_merged(key.clone(), Merged { found: have, left_out });
        })?;
        Ok(Assembly::Stored(stored(&key, bytes.len() as u64, samples), Some(standing)))
    }

    /// What the profile of one kind of a capture was made of; nothing where an earlier process made it.
    pub(super) fn made_of(&self, scope: &CaptureScope, kind: ProfileKind) -> Option<Merged> {
        let index = self.index();
        let (key, _) = index.same_target(&self.key(scope, kind))?;
        index.merged(key)
    }

    fn merge_slices(
        &self,
        capture: &str,
        entry: &CaptureSlices,
        kind: ProfileKind,
    ) -> Result<(Profile, u32), ResultsError> {
        let folder = self.slices().join(&entry.session).join(capture);
        let (mut merge, mut left_out) = (Merge::of_slices(), 0);
        for (file, _) in entry.of(kind) {
            let path = folder.join(file);
            let bytes = std::fs::read(&path).map_err(|error| ResultsError::io("reading", &path, &error))?;
            if !merge.add(&bytes, file)? {
                warn!(capture, slice = %file, "the slices of the capture are too large to merge; skipping \
                                               slice");
                left_out += 1;
            }
        }
        Ok((merge.finish()?, left_out))
    }

    /// Removes the slices of one kind of a capture, or all of them; none is needed any more.
    pub(super) fn drop_slices(&self, capture: &str, kind: Option<ProfileKind>) -> Result<u64, ResultsError> {
        let Some(entry) = self.index().capture(capture).cloned() else { return Ok(0) };
        let folder = self.slices().join(&entry.session).join(capture);
        let mut dropped = 0;
        for file in entry.slices.keys() {
            if kind.is_some() && kind != slice_kind(file) {
                continue;
            }
            self.writer.remove(&folder.join(file))?;
            self.index().remove_slice(capture, file);
            dropped += 1;
        }
        self.prune(&folder, &self.slices());
        Ok(dropped)
    }
}

fn stored(key: &Key, bytes: u64, samples: i64) -> StoredProfile {
    StoredProfile {
        kind: key.kind(),
        uri: key.as_str().to_owned(),
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        samples,
        destinations: Vec::new(),
        failed: Vec::new(),
    }
}
