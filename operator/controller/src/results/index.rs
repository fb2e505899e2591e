//! What lies on the volume? An index in memory, rebuilt from the names of the files at start.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use fleetprof_crds::ProfileKind;

use super::key::{Key, slice_kind};

/// What is known of a stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// Its length.
    pub(super) bytes: u64,
    /// Its samples; nothing until it was read.
    pub(super) samples: Option<i64>,
    /// When it was written.
    pub(super) modified: SystemTime,
}

/// The slices of a capture.
#[derive(Clone, Debug, Default)]
pub(super) struct CaptureSlices {
    /// Component of the session.
    pub(super) session: String,
    /// By file name.
    pub(super) slices: BTreeMap<String, FileFacts>,
}

impl CaptureSlices {
    /// The slices of one kind.
    pub(super) fn of(&self, kind: ProfileKind) -> impl Iterator<Item = (&String, &FileFacts)> {
        self.slices.iter().filter(move |(file, _)| slice_kind(file) == Some(kind))
    }

    /// Bytes of all slices.
    pub(super) fn bytes(&self) -> u64 {
        self.slices.values().map(|facts| facts.bytes).sum()
    }
}

/// All files of fleetprof on the volume.
#[derive(Debug, Default)]
pub(super) struct Index {
    captures: BTreeMap<String, CaptureSlices>,
    profiles: BTreeMap<String, BTreeMap<Key, FileFacts>>,
    bytes: u64,
}

impl Index {
    /// Bytes of all files.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records a slice; `capture` and `session` are components.
    pub(super) fn add_slice(&mut self, session: &str, capture: &str, file: String, facts: FileFacts) {
        let entry = self.captures.entry(capture.to_owned()).or_default();
        session.clone_into(&mut entry.session);
        self.bytes += facts.bytes;
        if let Some(old) = entry.slices.insert(file, facts) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }

    /// The slices of a capture.
    pub(super) fn capture(&self, capture: &str) -> Option<&CaptureSlices> {
        self.captures.get(capture)
    }

    /// Bytes of the largest capture, were `bytes` added to `capture`.
    pub(super) fn largest_with(&self, capture: &str, bytes: u64) -> u64 {
        let largest = self.captures.values().map(CaptureSlices::bytes).max().unwrap_or(0);
        largest.max(self.captures.get(capture).map_or(0, CaptureSlices::bytes).saturating_add(bytes))
    }

    /// Forgets a slice, and its capture with the last one.
    pub(super) fn remove_slice(&mut self, capture: &str, file: &str) {
        let Some(entry) = self.captures.get_mut(capture) else { return };
        if let Some(facts) = entry.slices.remove(file) {
            self.bytes = self.bytes.saturating_sub(facts.bytes);
        }
        if entry.slices.is_empty() {
            self.captures.remove(capture);
        }
    }

    /// Notes how many samples a slice has.
    pub(super) fn count_slice(&mut self, capture: &str, file: &str, samples: i64) {
        if let Some(facts) = self.captures.get_mut(capture).and_then(|entry| entry.slices.get_mut(file)) {
            facts.samples = Some(samples);
        }
    }

    /// Records a profile.
    pub(super) fn add_profile(&mut self, key: Key, facts: FileFacts) {
        self.bytes += facts.bytes;
        let session = self.profiles.entry(key.session().to_owned()).or_default();
        if let Some(old) = session.insert(key, facts) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }

    /// Forgets a profile.
    pub(super) fn remove_profile(&mut self, key: &Key) {
        let Some(session) = self.profiles.get_mut(key.session()) else { return };
        if let Some(facts) = session.remove(key) {
            self.bytes = self.bytes.saturating_sub(facts.bytes);
        }
        if session.is_empty() {
            self.profiles.remove(key.session());
        }
    }

    /// The profile that was made of the same target for the same session as `key` says, whatever day it was
    /// filed under.
    pub(super) fn same_target(&self, key: &Key) -> Option<(&Key, &FileFacts)> {
        let session = self.profiles.get(key.session())?;
        session.iter().find(|(have, _)| have.file() == key.file() && have.workload() == key.workload())
    }

    /// The profiles of a session's component.
    pub(super) fn profiles(&self, session: &str) -> impl Iterator<Item = (&Key, &FileFacts)> {
        self.profiles.get(session).into_iter().flatten()
    }

    /// The captures of a session's component that have slices.
    pub(super) fn captures_of(&self, session: &str) -> Vec<String> {
        self.captures
            .iter()
            .filter(|(_, entry)| entry.session == session)
            .map(|(capture, _)| capture.clone())
            .collect()
    }

    /// The components of sessions that are not in `live` and whose newest file is older than `before`.
    pub(super) fn abandoned(&self, live: &HashSet<String>, before: SystemTime) -> Vec<String> {
        let mut newest: BTreeMap<&str, SystemTime> = BTreeMap::new();
        let profiles = self
            .profiles
            .iter()
            .flat_map(|(session, files)| files.values().map(move |facts| (session, facts)));
        let slices = self
            .captures
            .values()
            .flat_map(|entry| entry.slices.values().map(move |facts| (&entry.session, facts)));
        for (session, facts) in profiles.chain(slices) {
            let latest = newest.entry(session).or_insert(facts.modified);
            *latest = facts.modified.max(*latest);
        }
        let gone =
            newest.into_iter().filter(|(session, latest)| !live.contains(*session) && *latest < before);
        gone.map(|(session, _)| session.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn facts(bytes: u64, age: u64) -> FileFacts {
        FileFacts {
            bytes,
            samples: None,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age),
        }
    }

    fn key(day: &str, pod: &str) -> Key {
        let text = format!("c/ns/Deployment-orders/{day}/uid-1/{pod}_app_cpu.pb.gz");
        Key::read(&text.split('/').map(Into::into).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn bytes_follow_what_comes_and_goes() {
        let mut index = Index::default();
        index.add_slice("uid-1", "cap", "cpu-0.pb.gz".into(), facts(10, 0));
        index.add_slice("uid-1", "cap", "cpu-0.pb.gz".into(), facts(12, 0));
        index.add_slice("uid-1", "cap", "cpu-1.pb.gz".into(), facts(5, 0));
        index.add_profile(key("2026-01-01", "a"), facts(100, 0));
        index.add_profile(key("2026-01-01", "a"), facts(90, 0));
        assert_eq!(index.bytes(), 107);
        assert_eq!((index.largest_with("cap", 3), index.largest_with("other", 40)), (20, 40));
        index.remove_slice("cap", "cpu-0.pb.gz");
        index.remove_slice("cap", "cpu-1.pb.gz");
        index.remove_slice("cap", "cpu-1.pb.gz");
        index.remove_profile(&key("2026-01-01", "a"));
        assert_eq!(index.bytes(), 0);
        assert!(index.capture("cap").is_none());
    }

    #[test]
    fn a_profile_is_found_although_the_day_changed() {
        let mut index = Index::default();
        index.add_profile(key("2026-01-01", "a"), facts(1, 0));
        assert_eq!(index.same_target(&key("2026-01-02", "a")).unwrap().0, &key("2026-01-01", "a"));
        assert!(index.same_target(&key("2026-01-01", "b")).is_none());
    }

    #[test]
    fn only_old_files_of_no_session_are_abandoned() {
        let mut index = Index::default();
        index.add_slice("live", "c1", "cpu-0.pb.gz".into(), facts(1, 500));
        index.add_slice("dead", "c2", "cpu-0.pb.gz".into(), facts(1, 500));
        index.add_slice("fresh", "c3", "cpu-0.pb.gz".into(), facts(1, 500));
        index.add_slice("fresh", "c4", "cpu-0.pb.gz".into(), facts(1, 10));
        index.add_profile(key("2026-01-01", "a"), facts(1, 500));
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(700);
        assert_eq!(index.abandoned(&HashSet::from(["live".to_owned()]), before), ["dead", "uid-1"]);
    }
}
