//! How do slices survive the pod of a leader whose volume goes with it? Where the session's first destination is an
//! archive, it keeps them as well until they are assembled.
//!
//! ```text
//! put_slice ─► volume ─► archive: CLUSTER/.intake/SESSION/CAPTURE/TYPE-SEQ.pb.gz ─► Ok
//!                                     │ fewer on the volume than were uploaded
//! assemble ◄── volume of a new leader ◄┘            └─► deleted once the archive has the profile
//! ```
//! An archive that does not answer delays no agent for longer than a moment, and then none at all until it is
//! checked again: meanwhile slices lie on the volume alone, as without an archive.

use std::collections::HashSet;
use std::sync::PoisonError;

use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::SliceId;

use super::Results;
use super::error::ResultsError;
use super::key::{capture_component, cluster_component, session_component, slice_file, slice_id, slice_kind};
use super::store::Store;
use crate::destinations::{INTAKE, Parcel, Target, session_of};

/// Slices in an archive.
#[derive(Debug)]
pub(super) struct Intake {
    archive: String,
    keys: Vec<String>,
}

impl Store {
    /// The folder of the slices of a capture in an archive, below that of the cluster.
    fn mirror_folder(scope: &CaptureScope) -> String {
        let (session, capture) = (session_component(&scope.session_uid), capture_component(&scope.capture));
        format!("{INTAKE}/{session}/{capture}")
    }

    fn mirror_key(&self, scope: &CaptureScope, file: &str) -> String {
        format!("{}/{}/{file}", cluster_component(&self.config.cluster), Self::mirror_folder(scope))
    }

    /// The files of the slices of one kind that are on the volume.
    fn slice_files(&self, scope: &CaptureScope, kind: ProfileKind) -> Vec<String> {
        let index = self.index();
        let entry = index.capture(&capture_component(&scope.capture));
        entry.map(|entry| entry.of(kind).map(|(file, _)| file.clone()).collect()).unwrap_or_default()
    }
}

impl Results {
    /// Keeps a slice in the archive of its session as well, where there is one.
    pub(super) async fn mirror(&self, scope: &CaptureScope, slice: SliceId, body: Bytes) {
        if !self.destinations.archives().contains(&scope.destination) {
            return;
        }
        let parcel = Parcel {
            key: self.store.mirror_key(scope, &slice_file(slice)),
            kind: slice.kind,
            namespace: scope.session_namespace.clone(),
            session: scope.session_name.clone(),
            bytes: body.len() as u64,
            target: Target::default(),
        };
        if !self.destinations.keep(&scope.destination, parcel, body).await {
            tracing::debug!(fleetprof.capture = scope.capture, "a slice lies on the results volume alone");
        }
    }

    /// Brings slices of one kind of a capture to the volume that another leader stored, where the archive has them:
    /// when fewer are here than the `uploaded` of all kinds, and there is no profile yet.
    ///
    /// # Errors
    /// `Busy`: the archive does not answer. `Full`, `NamespaceFull`, `Io`: the volume.
    pub async fn pull(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        uploaded: u32,
    ) -> Result<(), ResultsError> {
        let archive = &scope.destination;
        let made = self.store.index().same_target(&self.store.key(scope, kind)).is_some();
        let here = self.store.slice_files(scope, kind);
        let all: usize = scope.profiles.iter().map(|kind| self.store.slice_files(scope, *kind).len()).sum();
        let enough = u32::try_from(all).unwrap_or(u32::MAX) >= uploaded;
        if made || enough || !self.destinations.archives().contains(archive) {
            return Ok(());
        }
        let failed = |why: String| ResultsError::Busy(format!("{why}: try again"));
        let folder = Store::mirror_folder(scope);
        let found =
            self.destinations.list(archive, &folder).await.map_err(|error| failed(error.to_string()))?;
        for key in found {
            let file = key.rsplit('/').next().unwrap_or_default();
            let Some(slice) = slice_id(file).filter(|slice| slice.kind == kind) else { continue };
            if here.iter().any(|have| have == file) {
                continue;
            }
            let body = self.destinations.get(std::slice::from_ref(archive), &key).await;
            let body = body.map_err(|error| failed(error.to_string()))?;
            let scope = scope.clone();
            self.run(&self.uploads, move |store| store.put_slice(&scope, slice, &body)).await?;
        }
        Ok(())
    }

    /// Remembers the slices of a profile that is made, until the archive has it. Those that a leader leaves behind
    /// go with their session.
    pub(super) fn keep_intake(&self, scope: &CaptureScope, profile: &str, files: Vec<String>) {
        if files.is_empty() || !self.destinations.archives().contains(&scope.destination) {
            return;
        }
        let keys = files.iter().map(|file| self.store.mirror_key(scope, file)).collect();
        let intake = Intake { archive: scope.destination.clone(), keys };
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).insert(profile.to_owned(), intake);
    }

    /// Deletes the slices of a profile from the archive, which has the profile now.
    pub fn forget_intake(&self, profile: &str) {
        let kept = self.intake.lock().unwrap_or_else(PoisonError::into_inner).remove(profile);
        let Some(Intake { archive, keys }) = kept else { return };
        for key in keys {
            self.destinations.delete(&archive, key);
        }
    }

    /// Forgets the slices of sessions that are gone; the archive is swept as a whole.
    pub(super) fn retain_intake(&self, live: &HashSet<String>) {
        let is_live = |profile: &str| session_of(profile).is_some_and(|session| live.contains(session));
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).retain(|profile, _| is_live(profile));
    }

    /// What is in the archive of a kind of a capture, as far as this leader knows.
    pub(super) fn mirrored(&self, scope: &CaptureScope, kind: ProfileKind) -> Vec<String> {
        let files = self.store.slice_files(scope, kind);
        files.into_iter().filter(|file| slice_kind(file) == Some(kind)).collect()
    }
}
