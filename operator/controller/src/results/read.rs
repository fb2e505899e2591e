//! What do the profiles of a session say together?

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_profile::Profile;

use super::error::ResultsError;
use super::key::{Key, pod_prefix, session_component};
use super::pprof::{Idle, Merge};
use super::store::Store;

/// What is read of a session's profiles: always of one kind, so that kinds are never mixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// UID of the session.
    pub session: String,
    /// The kind.
    pub kind: ProfileKind,
    /// Only the profiles of this pod.
    pub pod: Option<String>,
    /// Only the samples of processes of this name.
    pub process: Option<String>,
    /// What becomes of the waits of threads that have nothing to do; files hold them as they were captured.
    pub idle: Idle,
    /// Only the profiles with these keys; `None`: all.
    pub keys: Option<Vec<String>>,
    /// Whether it is compared with another reading, so that a part of that is in memory beside it.
    pub compared: bool,
    /// When the reader stops waiting, so that the work may stop as well.
    pub until: Option<Instant>,
}

/// Profiles merged by their stacks.
#[derive(Clone, Debug)]
pub struct Stacks {
    /// Without labels.
    pub profile: Profile,
    /// For how long they were captured, added up over the profiles; `None` where one does not say.
    pub pod_nanos: Option<i64>,
}

/// A stored profile that is open.
#[derive(Debug)]
pub struct StoredFile {
    /// The gzipped pprof file; it can be read to its end even if it is removed meanwhile.
    pub file: File,
    /// Its bytes.
    pub length: u64,
}

impl Reading {
    /// All profiles of a kind.
    #[must_use]
    pub fn of(session_uid: &str, kind: ProfileKind) -> Self {
        Self {
            session: session_uid.to_owned(),
            kind,
            pod: None,
            process: None,
            idle: Idle::Folded,
            keys: None,
            compared: false,
            until: None,
        }
    }

    fn picks(&self, key: &Key) -> bool {
        let of_pod = self.pod.as_ref().is_none_or(|pod| key.file().starts_with(&pod_prefix(pod)));
        let among = self.keys.as_ref().is_none_or(|keys| keys.iter().any(|wanted| wanted == key.as_str()));
        of_pod && among && key.kind() == self.kind
    }

    /// # Errors
    /// `Busy`: the reader has given up.
    fn in_time(&self) -> Result<(), ResultsError> {
        match self.until {
            Some(until) if Instant::now() >= until => Err(too_slow()),
            _ => Ok(()),
        }
    }
}

/// Reading takes longer than a reader waits.
pub(super) fn too_slow() -> ResultsError {
    ResultsError::Busy(
        "reading takes longer than API servers wait for an answer: try again, or request single pods with \
         ?pod=NAME"
            .to_owned(),
    )
}

impl Store {
    /// The profiles merged by their stacks, without labels.
    ///
    /// # Errors
    /// `Missing`, `Rejected`, `NoProcess`, `Busy`, `Io`.
    pub(super) fn stacks(&self, reading: &Reading) -> Result<Stacks, ResultsError> {
        let merge = Merge::of_stacks(reading.idle);
        let merge = if reading.compared { merge.beside_another() } else { merge };
        self.merge(merge, reading, &self.keys(reading)?)?.finish_stacks()
    }

    /// One file of all profiles; a single one is passed on as it is stored.
    ///
    /// # Errors
    /// As [`stacks`](Self::stacks).
    pub(super) fn session_profile(&self, reading: &Reading) -> Result<Bytes, ResultsError> {
        match (self.keys(reading)?.as_slice(), &reading.process) {
            ([key], None) => self.read_profile(key).map(Bytes::from),
            (keys, _) => self.merge(Merge::of_profiles(), reading, keys)?.finish_packed(),
        }
    }

    /// The file of the only profile that is meant, where all of it is.
    ///
    /// # Errors
    /// `Missing`, `Io`.
    pub(super) fn stored_file(&self, reading: &Reading) -> Result<Option<StoredFile>, ResultsError> {
        let keys = self.keys(reading)?;
        let ([key], None) = (keys.as_slice(), &reading.process) else { return Ok(None) };
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

    fn keys(&self, reading: &Reading) -> Result<Vec<Key>, ResultsError> {
        let session = session_component(&reading.session);
        let keys: Vec<Key> = self
            .index()
            .profiles(&session)
            .map(|(key, _)| key.clone())
            .filter(|key| reading.picks(key))
            .collect();
        if keys.is_empty() {
            return Err(ResultsError::Missing(format!(
                "the results volume holds no such {} profile of session {session}: it was removed, \
                 evicted because the namespace was over its share, or the volume was replaced",
                reading.kind
            )));
        }
        let wanted = reading.keys.as_ref().map_or(0, Vec::len);
        if reading.pod.is_none() && keys.len() < wanted {
            let gone = wanted - keys.len();
            return Err(ResultsError::Busy(format!(
                "{gone} of {wanted} profiles left the results volume while they were read: try again, or request \
                 single pods with ?pod=NAME"
            )));
        }
        Ok(keys)
    }

    fn merge(&self, merge: Merge, reading: &Reading, keys: &[Key]) -> Result<Merge, ResultsError> {
        let mut merge = merge.of_process(reading.process.clone());
        for key in keys {
            reading.in_time()?;
            if !merge.add(&self.read_profile(key)?, key.as_str())? {
                return Err(ResultsError::Rejected(format!(
                    "the session's {} profiles are too large to merge: request single pods with ?pod=NAME",
                    keys.len()
                )));
            }
        }
        Ok(merge)
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
