//! Slices, captures and volumes for tests.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use fleetprof_core::capture::{CaptureScope, Weight};
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::wire::SliceId;
use fleetprof_profile::{Frame, Label, Profile, ProfileBuilder, ProfileKind, decode_valid, encode};
use jiff::Timestamp;

use crate::results::disk::{Disk, Volume};
use crate::results::naming::{Assembly, Naming};
use crate::results::store::Store;
use crate::results::{Results, ResultsConfig, ResultsError, ResultsMetrics};
use crate::sha256::sha256;
use crate::symbols::Symbols;

/// A capture of the pod `orders-1`.
pub(crate) fn scope(capture: &str) -> CaptureScope {
    CaptureScope {
        capture: capture.into(),
        session_uid: "session-1".into(),
        session_namespace: "shop".into(),
        session_name: "now".into(),
        pod_uid: "pod-uid-1".into(),
        pod_name: "orders-1".into(),
        node: "node-1".into(),
        workload: "Deployment/orders".into(),
        container: "app".into(),
        container_id: "c0ffee".into(),
        profiles: vec![ProfileKind::Cpu],
        destination: "default".into(),
        labels: BTreeMap::new(),
        weight: Weight::default(),
        max_bytes: u64::MAX,
        started: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

/// The key of a profile all of whose names are that one.
pub(crate) fn hostile_key(name: &str) -> String {
    let names = CaptureScope {
        session_uid: name.into(),
        session_namespace: name.into(),
        pod_name: name.into(),
        workload: name.into(),
        container: name.into(),
        ..scope("one")
    };
    let root = tempfile::tempdir().unwrap();
    store(root.path()).key(&names, ProfileKind::Cpu).as_str().to_owned()
}

/// The same of another pod.
pub(crate) fn scope_of(capture: &str, session_uid: &str, pod: &str) -> CaptureScope {
    CaptureScope { session_uid: session_uid.into(), pod_name: pod.into(), ..scope(capture) }
}

/// CPU slice `seq`.
pub(crate) const fn cpu(seq: u32) -> SliceId {
    SliceId::new(ProfileKind::Cpu, seq)
}

/// A CPU slice in which each function was seen that often.
pub(crate) fn slice(functions: &[(&str, u32)]) -> Vec<u8> {
    slice_of(ProfileKind::Cpu, functions)
}

/// A slice of that kind in which each function was seen that often.
pub(crate) fn slice_of(kind: ProfileKind, functions: &[(&str, u32)]) -> Vec<u8> {
    let mut builder = ProfileBuilder::new(kind, 10_101_010, 1_700_000_000_000_000_000);
    for (function, hits) in functions {
        let stack =
            [Frame::named(function, "/srv/app/work.py", 42), Frame::named("main", "/srv/app/main.py", 7)];
        builder.add_hits(&stack, *hits, &[]).unwrap();
    }
    encode(&builder.finish(10_000_000_000, &[])).unwrap()
}

/// A slice of wall time: `pay` waits for a socket, and three times as long a pool waits for work.
pub(crate) fn waiting_slice() -> Vec<u8> {
    let file = "/usr/lib/python3.11/concurrent/futures/thread.py";
    let pay = [Frame::named("recv", "/srv/app/http.py", 7), Frame::named("pay", "/srv/app/pay.py", 42)];
    let pool = [Frame::named("_worker", file, 81)];
    let mut builder = ProfileBuilder::new(ProfileKind::Wall, 50_000_000, 1_700_000_000_000_000_000);
    for (stack, waits_for, hits) in [(&pay[..], "socket", 1), (&pool[..], "futex", 3)] {
        let labels = [Label::text("thread_state", "blocked"), Label::text("waits_for", waits_for)];
        builder.add_hits(stack, hits, &labels).unwrap();
    }
    encode(&builder.finish(10_000_000_000, &[])).unwrap()
}

/// A CPU slice of two processes: `web` in `serve`, which begins on line 40, and half as long `job` in `work`.
pub(crate) fn slice_of_processes() -> Vec<u8> {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 1_700_000_000_000_000_000);
    for (process, function, hits) in [("web", "serve", 6), ("job", "work", 3)] {
        let frame = Frame { start_line: 40, ..Frame::named(function, "/srv/app/main.go", 42) };
        builder.add_hits(&[frame], hits, &[Label::text("process", process)]).unwrap();
    }
    encode(&builder.finish(10_000_000_000, &[])).unwrap()
}

/// A slice of `functions` functions whose names do not compress: some 60 bytes each.
pub(crate) fn large_slice(seed: u32, functions: u32) -> Vec<u8> {
    let name =
        |n: u32| sha256(format!("{seed} {n}")).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let names: Vec<String> = (0..functions).map(name).collect();
    slice(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
}

pub(crate) fn config(root: &Path) -> ResultsConfig {
    let quotas = Quotas::default();
    ResultsConfig { root: root.into(), cluster: "prod".into(), capacity: None, share: 100, quotas }
}

/// The volume below `root`, opened.
pub(crate) async fn open(root: &Path) -> Results {
    Results::open(config(root), ResultsMetrics::default()).await.unwrap()
}

pub(in crate::results) fn store(root: &Path) -> Store {
    store_on(root, Box::new(Volume)).unwrap()
}

pub(in crate::results) fn store_on(
    root: &Path,
    disk: Box<dyn Disk>,
) -> Result<Store, crate::results::ResultsError> {
    Store::open(config(root), ResultsMetrics::default(), disk)
}

pub(crate) fn decoded(bytes: &[u8]) -> Profile {
    decode_valid(bytes, &fleetprof_profile::Limits::default()).unwrap()
}

/// A small volume, which root may mount; gone with the value.
pub(in crate::results) struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// One of that size; nothing where mounting is not allowed.
    pub(in crate::results) fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let mounted = root
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
                .arg(folder.path())
                .status()
                .is_ok_and(|s| s.success());
        if !mounted {
            eprintln!("skipped: only root can mount a small volume");
        }
        mounted.then(|| Self(folder))
    }

    pub(in crate::results) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// What everything below `root` takes on the disk, as the kubelet and `du` count it.
pub(in crate::results) fn du(root: &Path) -> u64 {
    let own = std::fs::symlink_metadata(root).unwrap().blocks() * 512;
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    entries.fold(own, |sum, entry| {
        let path = entry.path();
        sum + if path.is_dir() { du(&path) } else { entry.metadata().unwrap().blocks() * 512 }
    })
}

/// Every file below `root`, as paths from there, sorted.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

impl Store {
    /// Makes the profile of a capture where nobody knows more names.
    pub(crate) fn assemble(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
    ) -> Result<StoredProfile, ResultsError> {
        match self.assemble_with(scope, kind, slices, &Naming::Ask(Symbols::default()))? {
            Assembly::Stored(profile, _) => Ok(profile),
            Assembly::Lacks(lacking) => panic!("nobody is to be asked for {lacking:?}"),
        }
    }
}
