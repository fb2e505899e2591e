//! What lies on the volume? An index in memory, rebuilt from the names of the files at start.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fleetprof_core::storage::Kept;
use fleetprof_crds::ProfileKind;

use super::key::{Key, slice_kind};

/// What is known of a stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// Its length.
    pub(super) bytes: u64,
    /// What it takes on the disk, in bytes.
    pub(super) disk: u64,
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

    /// Lengths of all slices.
    pub(super) fn bytes(&self) -> u64 {
        self.slices.values().map(|facts| facts.bytes).sum()
    }

    /// What all slices take on the disk, in bytes.
    pub(super) fn disk(&self) -> u64 {
        self.slices.values().map(|facts| facts.disk).sum()
    }
}

/// How many slices a profile was made of; known only to the process that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Slices that there were.
    pub found: u32,
    /// Those of them that did not fit into the profile.
    pub left_out: u32,
}

/// Everything on the volume.
#[derive(Debug, Default)]
pub(super) struct Index {
    captures: BTreeMap<String, CaptureSlices>,
    profiles: BTreeMap<String, BTreeMap<Key, FileFacts>>,
    merged: BTreeMap<Key, Merged>,
    /// What each folder itself takes on the disk.
    folders: BTreeMap<PathBuf, u64>,
    /// Namespaces of sessions with slices, by component; the names of slices do not say them.
    owners: BTreeMap<String, String>,
    /// What the profiles of each namespace take on the disk.
    of_profiles: BTreeMap<String, u64>,
    /// Components of sessions whose profiles all lie in another destination as well.
    copies: BTreeSet<String>,
    /// Components of sessions that somebody wants kept.
    keep: BTreeSet<String>,
    /// What files and folders take on the disk.
    disk: u64,
}

impl Index {
    /// How much each map holds: captures, profiles, what they were made of, folders, owners, accounts.
    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 6] {
        let Self { captures, profiles, merged, folders, owners, of_profiles, copies: _, keep: _, disk: _ } =
            self;
        [captures.len(), profiles.len(), merged.len(), folders.len(), owners.len(), of_profiles.len()]
    }

    /// What everything takes on the disk, in bytes, as the kubelet and `du` count it.
    pub(super) const fn disk(&self) -> u64 {
        self.disk
    }

    /// Counts what does not belong to fleetprof but lies on the volume.
    pub(super) fn add_foreign(&mut self, disk: u64) {
        self.disk += disk;
    }

    /// Records what a folder itself takes on the disk; nothing once it is gone.
    pub(super) fn set_folder(&mut self, path: &Path, disk: Option<u64>) {
        let old = match disk {
            Some(disk) => self.folders.insert(path.to_owned(), disk),
            None => self.folders.remove(path),
        };
        self.disk = (self.disk + disk.unwrap_or(0)).saturating_sub(old.unwrap_or(0));
    }

    /// What the folder itself takes on the disk.
    pub(super) fn folder(&self, path: &Path) -> Option<u64> {
        self.folders.get(path).copied()
    }

    /// Records that of this session the volume holds mere copies.
    pub(super) fn copied(&mut self, session: &str) {
        self.copies.insert(session.to_owned());
    }

    /// Records of which sessions the volume holds mere copies.
    pub(super) fn set_copies(&mut self, sessions: BTreeSet<String>) {
        self.copies = sessions;
    }

    /// Records which sessions somebody wants kept.
    pub(super) fn set_keep(&mut self, sessions: BTreeSet<String>) {
        self.keep = sessions;
    }

    /// What the results of a namespace that somebody wants kept take on the disk.
    pub(super) fn to_keep(&self, namespace: &str) -> u64 {
        let files = self.keep.iter().flat_map(|session| self.profiles(session));
        files.filter(|(key, _)| key.namespace() == namespace).map(|(_, facts)| facts.disk).sum()
    }

    /// Records whose a session is; both are components.
    pub(super) fn own(&mut self, session: &str, namespace: &str) {
        if self.owners.get(session).is_none_or(|known| known != namespace) {
            self.owners.insert(session.to_owned(), namespace.to_owned());
        }
    }

    /// Forgets whose sessions without slices are.
    pub(super) fn forget_owners(&mut self) {
        let busy: BTreeSet<&String> = self.captures.values().map(|entry| &entry.session).collect();
        self.owners.retain(|session, _| busy.contains(session));
    }

    /// The components of sessions that have slices.
    pub(super) fn with_slices(&self) -> BTreeSet<String> {
        self.captures.values().map(|entry| entry.session.clone()).collect()
    }

    /// What the slices of a namespace take on the disk.
    pub(super) fn slices_of(&self, namespace: &str) -> u64 {
        let own = |entry: &&CaptureSlices| self.owners.get(&entry.session).is_some_and(|of| of == namespace);
        self.captures.values().filter(own).map(CaptureSlices::disk).sum()
    }

    /// What each namespace has on the disk. Slices whose namespace is not known yet are in no account.
    pub(super) fn accounts(&self) -> BTreeMap<String, u64> {
        let mut accounts = self.of_profiles.clone();
        for entry in self.captures.values() {
            if let Some(namespace) = self.owners.get(&entry.session) {
                *accounts.entry(namespace.clone()).or_default() += entry.disk();
            }
        }
        accounts
    }

    /// The results that can be evicted: those of sessions without slices.
    pub(super) fn kept(&self) -> Vec<Kept> {
        let busy: BTreeSet<&String> = self.captures.values().map(|entry| &entry.session).collect();
        let at_rest = self.profiles.iter().filter(|(session, _)| !busy.contains(session));
        at_rest
            .filter_map(|(session, files)| {
                Some(Kept {
                    namespace: files.keys().next()?.namespace().to_owned(),
                    session: session.clone(),
                    copy: self.copies.contains(session),
                    keep: self.keep.contains(session),
                    bytes: files.values().map(|facts| facts.disk).sum(),
                    written: files.values().map(|facts| facts.modified).max()?,
                })
            })
            .collect()
    }

    /// Records a slice; `capture` and `session` are components.
    pub(super) fn add_slice(&mut self, session: &str, capture: &str, file: String, facts: FileFacts) {
        let entry = self.captures.entry(capture.to_owned()).or_default();
        session.clone_into(&mut entry.session);
        self.disk += facts.disk;
        if let Some(old) = entry.slices.insert(file, facts) {
            self.disk = self.disk.saturating_sub(old.disk);
        }
    }

    /// The slices of a capture.
    pub(super) fn capture(&self, capture: &str) -> Option<&CaptureSlices> {
        self.captures.get(capture)
    }

    /// What the largest capture takes on the disk, were `bytes` added to `capture`.
    pub(super) fn largest_with(&self, capture: &str, bytes: u64) -> u64 {
        let largest = self.captures.values().map(CaptureSlices::disk).max().unwrap_or(0);
        largest.max(self.captures.get(capture).map_or(0, CaptureSlices::disk).saturating_add(bytes))
    }

    /// Forgets a slice, and its capture with the last one.
    pub(super) fn remove_slice(&mut self, capture: &str, file: &str) {
        let Some(entry) = self.captures.get_mut(capture) else { return };
        if let Some(facts) = entry.slices.remove(file) {
            self.disk = self.disk.saturating_sub(facts.disk);
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
        let account = self.of_profiles.entry(key.namespace().to_owned()).or_default();
        let disk = facts.disk;
        let old = self.profiles.entry(key.session().to_owned()).or_default().insert(key, facts);
        let old = old.map_or(0, |old| old.disk);
        *account = (*account + disk).saturating_sub(old);
        self.disk = (self.disk + disk).saturating_sub(old);
    }

    /// Forgets a profile.
    pub(super) fn remove_profile(&mut self, key: &Key) {
        self.merged.remove(key);
        let Some(session) = self.profiles.get_mut(key.session()) else { return };
        let disk = session.remove(key).map_or(0, |facts| facts.disk);
        if session.is_empty() {
            self.profiles.remove(key.session());
        }
        self.disk = self.disk.saturating_sub(disk);
        if let Some(account) = self.of_profiles.get_mut(key.namespace()) {
            *account = account.saturating_sub(disk);
            if *account == 0 {
                self.of_profiles.remove(key.namespace());
            }
        }
    }

    /// Notes what a profile was made of.
    pub(super) fn set_merged(&mut self, key: Key, merged: Merged) {
        self.merged.insert(key, merged);
    }

    /// What a profile was made of; nothing where an earlier process made it.
    pub(super) fn merged(&self, key: &Key) -> Option<Merged> {
        self.merged.get(key).copied()
    }

    /// The profile that was made of the same target for the same session as `key` says, whatever day it was
    /// filed under.
    pub(super) fn same_target(&self, key: &Key) -> Option<(&Key, &FileFacts)> {
        let session = self.profiles.get(key.session())?;
        session.iter().find(|(have, _)| have.file() == key.file() && have.workload() == key.workload())
    }

    /// Whether a profile is there.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.profiles.get(key.session()).is_some_and(|session| session.contains_key(key))
    }

    /// The keys of profiles that were written before.
    pub(super) fn keys_before(&self, before: SystemTime) -> Vec<String> {
        let all = self.profiles.values().flatten();
        all.filter(|(_, facts)| facts.modified < before).map(|(key, _)| key.as_str().to_owned()).collect()
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
            disk: bytes,
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
        assert_eq!(index.disk(), 107);
        assert_eq!(
            index.accounts(),
            BTreeMap::from([("ns".to_owned(), 90)]),
            "whose slices they are is not known"
        );
        index.own("uid-1", "ns");
        assert_eq!((index.accounts()["ns"], index.slices_of("ns"), index.slices_of("other")), (107, 17, 0));
        assert_eq!((index.largest_with("cap", 3), index.largest_with("other", 40)), (20, 40));
        index.remove_slice("cap", "cpu-0.pb.gz");
        index.remove_slice("cap", "cpu-1.pb.gz");
        index.remove_slice("cap", "cpu-1.pb.gz");
        index.remove_profile(&key("2026-01-01", "a"));
        assert_eq!((index.disk(), index.accounts().len()), (0, 0));
        assert!(index.capture("cap").is_none());
        index.forget_owners();
        index.add_slice("uid-1", "cap", "cpu-0.pb.gz".into(), facts(10, 0));
        assert_eq!(index.slices_of("ns"), 0, "an owner goes with its slices");
    }

    #[test]
    fn folders_are_counted_while_they_are_there() {
        let mut index = Index::default();
        index.add_foreign(7);
        for disk in [Some(4096), Some(8192), None, None] {
            index.set_folder(Path::new("/v/slices"), disk);
            assert_eq!((index.folder(Path::new("/v/slices")), index.disk()), (disk, 7 + disk.unwrap_or(0)));
        }
    }

    #[test]
    fn only_sessions_that_are_done_can_be_evicted() {
        let mut index = Index::default();
        index.add_profile(key("2026-01-01", "a"), facts(100, 90));
        index.add_profile(key("2026-01-01", "b"), facts(50, 10));
        let kept = index.kept();
        assert_eq!((kept[0].namespace.as_str(), kept[0].session.as_str()), ("ns", "uid-1"));
        assert_eq!((kept[0].bytes, kept[0].written), (150, facts(0, 10).modified));
        index.add_slice("uid-1", "cap", "cpu-0.pb.gz".into(), facts(10, 0));
        assert_eq!(index.kept(), []);
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
