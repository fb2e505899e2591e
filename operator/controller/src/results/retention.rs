//! When do results go? With their session, and, where that was missed, in a sweep.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::error::ResultsError;
use super::key::{Key, namespace_component, session_component};
use super::store::Store;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Sessions that had anything.
    pub sessions: u64,
    /// Files of them, slices and profiles.
    pub files: u64,
    /// Bytes that came free on the disk, folders included.
    pub bytes: u64,
}

/// What the sessions of the cluster say of their results.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// The namespaces of **every** session, by uid.
    pub namespaces: HashMap<String, String>,
    /// The uids of ended sessions whose profiles all lie in another destination as well: of those the volume holds
    /// mere copies.
    pub elsewhere: HashSet<String>,
    /// The uids of sessions with the annotation `fleetprof.dev/keep`.
    pub keep: HashSet<String>,
}

impl Store {
    /// Removes everything of a session.
    ///
    /// # Errors
    /// `Io`: the rest is still there.
    pub(super) fn delete_session(&self, session_uid: &str) -> Result<Removed, ResultsError> {
        let mut removed = Removed::default();
        self.delete(&session_component(session_uid), &mut removed)?;
        self.usage()?;
        Ok(removed)
    }

    /// Records whose sessions are, by uid, so that the slices of an earlier process are counted to somebody; and
    /// what else the sessions say of their results.
    pub(super) fn own(&self, owned: &Owned) {
        let mut index = self.index();
        let busy = index.with_slices();
        for (session, namespace) in &owned.namespaces {
            let session = session_component(session);
            if busy.contains(&session) {
                index.own(&session, &namespace_component(namespace));
            }
        }
        let components = |uids: &HashSet<String>| uids.iter().map(|uid| session_component(uid)).collect();
        index.set_copies(components(&owned.elsewhere));
        index.set_keep(components(&owned.keep));
    }

    /// Removes everything of sessions that are not live and whose newest file is older than `min_age`.
    ///
    /// # Errors
    /// `Io`: the rest is still there.
    pub(super) fn sweep(&self, live: &HashSet<String>, min_age: Duration) -> Result<Removed, ResultsError> {
        let live: HashSet<String> = live.iter().map(|uid| session_component(uid)).collect();
        let before = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let abandoned = self.index().abandoned(&live, before);
        self.index().forget_owners();
        let mut removed = Removed::default();
        for session in abandoned {
            self.delete(&session, &mut removed)?;
        }
        self.usage()?;
        Ok(removed)
    }

    /// Removes everything of a session's component.
    pub(super) fn delete(&self, session: &str, removed: &mut Removed) -> Result<(), ResultsError> {
        let before = self.index().disk();
        let files = removed.files;
        let captures = self.index().captures_of(session);
        for capture in captures {
            let _one = self.lock_capture(&capture);
            removed.files += self.drop_slices(&capture, None)?;
        }
        let keys: Vec<Key> = self.index().profiles(session).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove(&key, removed)?;
        }
        removed.sessions += u64::from(removed.files > files);
        removed.bytes += before.saturating_sub(self.index().disk());
        Ok(())
    }

    /// Removes a profile and the folders that it leaves empty.
    pub(super) fn remove(&self, key: &Key, removed: &mut Removed) -> Result<(), ResultsError> {
        let path = key.path(&self.profiles());
        self.writer.remove(&path)?;
        self.index().remove_profile(key);
        removed.files += 1;
        self.prune(path.parent().unwrap_or(&path), &self.profiles());
        Ok(())
    }
}
