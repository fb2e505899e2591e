//! What do the profiles of a session say together?

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_profile::Profile;

use super::error::ResultsError;
use super::key::{Key, pod_prefix, session_component};
use super::pprof::{self, Idle, Merge};
use super::store::Store;

/// Which profiles of a session: always of one kind, so that kinds are never mixed.
pub(super) struct Selection {
    kind: ProfileKind,
    among: Among,
}

/// A stored profile that is open.
#[derive(Debug)]
pub struct StoredFile {
    /// The gzipped pprof file; it can be read to its end even if it is removed meanwhile.
    pub file: File,
    /// Its bytes.
    pub length: u64,
}

enum Among {
    All,
    Pod(String),
    Keys(Vec<String>),
}

impl Selection {
    /// Those of a pod, or all.
    pub(super) fn of_pod(kind: ProfileKind, pod: Option<&str>) -> Self {
        Self { kind, among: pod.map_or(Among::All, |pod| Among::Pod(pod.to_owned())) }
    }

    /// These; all when there are none.
    pub(super) fn of_keys(kind: ProfileKind, keys: &[String]) -> Self {
        Self { kind, among: if keys.is_empty() { Among::All } else { Among::Keys(keys.to_vec()) } }
    }

    fn picks(&self, key: &Key) -> bool {
        let among = match &self.among {
            Among::All => true,
            Among::Pod(pod) => key.file().starts_with(&pod_prefix(pod)),
            Among::Keys(keys) => keys.iter().any(|wanted| wanted == key.as_str()),
        };
        among && key.kind() == self.kind
    }
}

impl Store {
    /// The profiles merged by their stacks, without labels.
    ///
    /// # Errors
    /// `Missing`, `Rejected`, `Io`.
    pub(super) fn stacks(
        &self,
        session_uid: &str,
        selection: &Selection,
        idle: Idle,
    ) -> Result<Profile, ResultsError> {
        self.merged(Merge::of_stacks(idle), &self.keys(session_uid, selection)?)
    }

    /// One file of all profiles; a single one is passed on as it is stored.
    ///
    /// # Errors
    /// `Missing`, `Rejected`, `Io`.
    pub(super) fn session_profile(
        &self,
        session_uid: &str,
        selection: &Selection,
    ) -> Result<Bytes, ResultsError> {
        match self.keys(session_uid, selection)?.as_slice() {
            [key] => self.read_profile(key).map(Bytes::from),
            keys => pprof::pack(&self.merged(Merge::of_profiles(), keys)?),
        }
    }

    /// The file of the only profile that is meant.
    ///
    /// # Errors
    /// `Missing`, `Io`.
    pub(super) fn stored_file(
        &self,
        session_uid: &str,
        selection: &Selection,
    ) -> Result<Option<StoredFile>, ResultsError> {
        let keys = self.keys(session_uid, selection)?;
        let [key] = keys.as_slice() else { return Ok(None) };
        let path = key.path(&self.profiles());
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        opened
            .map(|(length, file)| Some(StoredFile { file, length }))
            .map_err(|error| unreadable(key, &path, &error))
    }

    /// The namespace of a session, as its profiles' keys name it; empty without profiles.
    pub(super) fn namespace(&self, session_uid: &str) -> String {
        let session = session_component(session_uid);
        self.index().profiles(&session).next().map_or_else(String::new, |(key, _)| key.namespace().to_owned())
    }

    fn keys(&self, session_uid: &str, selection: &Selection) -> Result<Vec<Key>, ResultsError> {
        let session = session_component(session_uid);
        let keys: Vec<Key> = self
            .index()
            .profiles(&session)
            .map(|(key, _)| key.clone())
            .filter(|key| selection.picks(key))
            .collect();
        if keys.is_empty() {
            return Err(ResultsError::Missing(format!(
                "the results volume holds no such {} profile of session {session}: it was removed, \
                 evicted because the namespace was over its share, or the volume was replaced",
                selection.kind
            )));
        }
        Ok(keys)
    }

    fn merged(&self, mut merge: Merge, keys: &[Key]) -> Result<Profile, ResultsError> {
        for key in keys {
            if !merge.add(&self.read_profile(key)?, key.as_str())? {
                return Err(ResultsError::Rejected(format!(
                    "the session's {} profiles are too large to merge: request single pods with ?pod=NAME",
                    keys.len()
                )));
            }
        }
        merge.finish()
    }

    /// The bytes of a stored profile.
    pub(super) fn read_profile(&self, key: &Key) -> Result<Vec<u8>, ResultsError> {
        let path = key.path(&self.profiles());
        std::fs::read(&path).map_err(|error| unreadable(key, &path, &error))
    }
}

fn unreadable(key: &Key, path: &Path, error: &std::io::Error) -> ResultsError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ResultsError::Missing(format!(
            "profile {key} is no longer on the results volume: capture it again"
        )),
        _ => ResultsError::io("reading", path, error),
    }
}
