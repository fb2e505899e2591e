//! Does it end the same way, wherever the process stopped?

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fleetprof_crds::ProfileKind;

use super::fixtures::{cpu, decoded, du, files, scope, slice, store, store_on};
use crate::results::disk::{Disk, Volume};
use crate::results::store::Store;

/// Does `left` steps, and then none any more.
struct Stopping {
    left: Arc<AtomicI64>,
}

impl Stopping {
    fn step(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::other("the process stopped here")),
        }
    }
}

impl Disk for Stopping {
    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        self.step()?;
        Volume.make_dir(path)
    }
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Half a file first, as a crash leaves it.
        if self.left.load(Ordering::SeqCst) == 1 {
            self.step()?;
            Volume.write_new(path, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("the process stopped here"));
        }
        self.step()?;
        Volume.write_new(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Volume.rename(from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Volume.sync_dir(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Volume.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Volume.remove_dir(path)
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let source = format!("{}/.", from.display());
    assert!(Command::new("cp").args(["-a", &source]).arg(to.path()).status().unwrap().success());
    to
}

/// Runs `work` stopped after 0, 1, 2, … steps until it runs to its end; `check` sees the store that follows
/// each stop.
fn stopped_anywhere(prepared: &Path, work: impl Fn(&Store) -> bool, check: impl Fn(&Path, &Store)) -> i64 {
    for steps in 0.. {
        let root = copy(prepared);
        let left = Arc::new(AtomicI64::new(steps));
        let stopping = store_on(root.path(), Box::new(Stopping { left: Arc::clone(&left) }));
        let done = stopping.is_ok_and(|store| work(&store)) && left.load(Ordering::SeqCst) >= 0;
        check(root.path(), &store(root.path()));
        if done {
            return steps;
        }
        assert!(steps < 100, "it never ends");
    }
    0
}

fn prepared() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for seq in 0..3 {
        store.put_slice(&scope("cap-1"), cpu(seq), &slice(&[("work", 7), ("wait", seq + 1)])).unwrap();
    }
    root
}

#[test]
fn a_profile_is_made_of_all_slices_wherever_the_process_stopped() {
    let prepared = prepared();
    let steps = stopped_anywhere(
        prepared.path(),
        |store| store.assemble(&scope("cap-1"), ProfileKind::Cpu, 3).is_ok(),
        |root, store| {
            let made = store.assemble(&scope("cap-1"), ProfileKind::Cpu, 3).unwrap();
            assert_eq!(made.samples, 27);
            assert_eq!(files(root), [format!("profiles/{}", made.uri)]);
            let bytes = std::fs::read(root.join("profiles").join(&made.uri)).unwrap();
            assert_eq!(fleetprof_profile::total(&decoded(&bytes), 0), 27);
            assert_eq!(store.usage().unwrap().used, du(root));
        },
    );
    // Temporary file, 5 folders and their parents' fsyncs, rename, fsync, 3 slices, 2 folders.
    assert!(steps >= 1 + 2 * 5 + 2 + 3 + 2, "only {steps} steps were seen");
}

#[test]
fn the_same_process_ends_it_when_the_volume_is_well_again() {
    let prepared = prepared();
    for steps in 0..30 {
        let root = copy(prepared.path());
        let left = Arc::new(AtomicI64::new(steps));
        let store = store_on(root.path(), Box::new(Stopping { left: Arc::clone(&left) })).unwrap();
        let first = store.assemble(&scope("cap-1"), ProfileKind::Cpu, 3);
        left.store(1_000, Ordering::SeqCst);
        let second = store.assemble(&scope("cap-1"), ProfileKind::Cpu, 3).unwrap();
        assert!(first.is_err() || first.is_ok_and(|first| first == second));
        assert_eq!(second.samples, 27);
        assert_eq!(files(&root.path().join("profiles")), [second.uri.as_str()]);
        assert_eq!(files(&root.path().join("slices")), [""; 0], "what lies in tmp goes at the next start");
    }
}

#[test]
fn a_slice_is_whole_or_not_there_wherever_the_process_stopped() {
    let empty = tempfile::tempdir().unwrap();
    drop(store(empty.path()));
    let body = slice(&[("work", 7)]);
    stopped_anywhere(
        empty.path(),
        |store| store.put_slice(&scope("cap-1"), cpu(0), &body).is_ok(),
        |root, store| {
            store.put_slice(&scope("cap-1"), cpu(0), &body).unwrap();
            assert_eq!(store.stored("cap-1", ProfileKind::Cpu).unwrap().samples, 7);
            assert_eq!(files(root), ["slices/session-1/cap-1/cpu-0.pb.gz"]);
        },
    );
}

#[test]
fn a_session_is_removed_wherever_the_process_stopped() {
    let prepared = prepared();
    store(prepared.path()).assemble(&scope("cap-1"), ProfileKind::Cpu, 3).unwrap();
    store(prepared.path()).put_slice(&scope("cap-2").other_pod(), cpu(0), &slice(&[("work", 1)])).unwrap();
    stopped_anywhere(
        prepared.path(),
        |store| store.delete_session("session-1").is_ok(),
        |root, store| {
            store.delete_session("session-1").unwrap();
            assert_eq!(files(root), [""; 0]);
            assert_eq!(store.usage().unwrap().used, du(root));
        },
    );
}

trait OtherPod {
    fn other_pod(self) -> Self;
}

impl OtherPod for fleetprof_core::capture::CaptureScope {
    fn other_pod(mut self) -> Self {
        self.pod_name = "orders-2".into();
        self
    }
}
