//! What must outlive the agent's process? Which captures were started, their unsent slices, and the newest
//! CA.
//!
//! ```text
//! spool/captures/<hash>.json   the record of a capture; written and synced before its worker starts, so that none runs twice
//! spool/slices/<hash>/<kind>-<seq>.pb.gz   what its worker wrote and the gateway has not stored yet
//! spool/ca.pem                 the certificates that the gateway told us to trust
//! ```
//! A record of a settled capture is kept for [`KEPT`]; everything else of it is removed at once.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{CaptureReport, CaptureState, MAX_SLICE_BYTES, MAX_SLICES, Problem, SliceId};
use serde::{Deserialize, Serialize};

use super::settings::MEMORY_DIR;
use crate::capture::protocol::{slice_file, slice_id};

/// How long the record of a settled capture is kept, so that it is never run again.
pub const KEPT: Duration = Duration::from_secs(48 * 3600);
/// Most records that are read at the start.
const MAX_RECORDS: usize = 8192;
/// Most bytes of a record.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
/// Most bytes of a CA bundle.
pub const MAX_CA_BYTES: usize = 64 * 1024;

/// How a capture ended, before its slices are all uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// A final state.
    pub state: CaptureState,
    /// Why, for the states that need one.
    pub problem: Option<Problem>,
}

/// What is kept of a capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The session's uid, for logs.
    pub session: String,
    /// The container it captures.
    pub container: String,
    /// What it captures; the report counts samples of the first kind.
    pub profiles: Vec<ProfileKind>,
    /// Why it does not capture the rest of what was ordered.
    #[serde(default)]
    pub skipped: Option<Problem>,
    /// When the order was taken, seconds since 1970.
    pub taken_at: i64,
    /// How it ended; `None` while its worker runs.
    pub outcome: Option<Outcome>,
    /// Slices that the gateway has stored.
    pub stored: BTreeSet<SliceId>,
    /// Slices that are given up: dropped for want of space, or refused.
    pub lost: BTreeSet<SliceId>,
    /// Why the first of them was given up.
    #[serde(default)]
    pub loss: Option<Problem>,
    /// The gateway has recorded the outcome, or wants nothing of it.
    pub settled: bool,
    /// What the gateway is told.
    pub report: CaptureReport,
}

/// A directory that the agent alone writes; its workers write below `slices/`. Where there is no room for one, nothing
/// is in it and nothing can be written, until [`Spool::reopen`] finds room.
#[derive(Debug)]
pub struct Spool {
    candidates: Vec<PathBuf>,
    root: OnceCell<PathBuf>,
}

impl Spool {
    /// A spool that is not open yet.
    #[must_use]
    pub fn closed(candidates: &[PathBuf]) -> Self {
        Self { candidates: candidates.to_vec(), root: OnceCell::new() }
    }

    /// Opens it where it is closed, in the first of the directories that can be written, and says whether it was.
    /// Errors name each directory and why not.
    pub fn reopen(&self) -> io::Result<bool> {
        if self.root.get().is_some() {
            return Ok(false);
        }
        let mut refusals = String::new();
        for root in &self.candidates {
            match Self::create(root) {
                Ok(()) => return Ok(self.root.set(root.clone()).is_ok()),
                Err(e) => refusals.push_str(&format!(" {}: {e};", root.display())),
            }
        }
        Err(io::Error::other(format!(
            "no writable directory for the spool:{refusals} make one of them writable"
        )))
    }

    fn create(root: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let meta = fs::symlink_metadata(root)?;
        let shared =
            root.parent().and_then(|dir| fs::metadata(dir).ok()).is_some_and(|dir| dir.mode() & 0o1000 != 0);
        if shared && !(meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw()) {
            return Err(io::Error::other("it belongs to another user"));
        }
        for dir in ["captures", "slices"] {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(dir))?;
        }
        let probe = root.join(".probe");
        write_synced(&probe, b"fleetprof")?;
        fs::remove_file(probe)
    }

    /// The directory of the spool.
    ///
    /// # Errors
    /// It is closed.
    pub fn root(&self) -> io::Result<&Path> {
        let closed = || io::Error::other("there is no room for the spool; see the agent's log");
        self.root.get().map(PathBuf::as_path).ok_or_else(closed)
    }

    /// Writes a record durably: when this returns it survives the agent and the node.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let path = self.record_path(&record.report.capture)?;
        write_synced(&path, &serde_json::to_vec(record)?)
    }

    /// Every readable record; one that is damaged is left out and named in the log.
    #[must_use]
    pub fn load(&self) -> Vec<Record> {
        let files = self.root().and_then(|root| fs::read_dir(root.join("captures")));
        let files = files.into_iter().flatten().flatten();
        let paths = files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
        paths.take(MAX_RECORDS).filter_map(|path| read_record(&path)).collect()
    }

    /// Removes the record of a capture.
    pub fn forget(&self, capture: &str) {
        let _ = self.record_path(capture).and_then(fs::remove_file);
    }

    /// The directory for the slices of a capture, made when it is not there.
    pub fn slices_dir(&self, capture: &str) -> io::Result<PathBuf> {
        let dir = self.dir(capture)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(dir)
    }

    /// The complete slices of a capture with their bytes, in order.
    #[must_use]
    pub fn slices(&self, capture: &str) -> Vec<(SliceId, u64)> {
        let most = 4 * MAX_SLICES as usize * ProfileKind::ALL.len();
        let files = self.dir(capture).and_then(fs::read_dir).into_iter().flatten().flatten().take(most);
        let slice = |f: fs::DirEntry| {
            let slice = slice_id(f.file_name().to_str()?).filter(|slice| slice.seq < MAX_SLICES)?;
            let meta = f.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((slice, meta.len()))
        };
        let mut all: Vec<(SliceId, u64)> = files.filter_map(slice).collect();
        all.sort_unstable();
        all
    }

    /// The bytes of a slice. Errors when it is longer than the gateway takes, or no regular file: the worker
    /// runs as the target's user, so the file is as hostile as the target.
    pub fn read_slice(&self, capture: &str, slice: SliceId) -> io::Result<Vec<u8>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(self.slice_path(capture, slice)?)?;
        let length = file.metadata().ok().filter(fs::Metadata::is_file).map(|m| m.len());
        match length {
            Some(length) if length <= MAX_SLICE_BYTES as u64 => {
                let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
                file.take(MAX_SLICE_BYTES as u64).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Some(length) => Err(io::Error::other(format!(
                "the slice has {length} bytes, more than the limit of {MAX_SLICE_BYTES}"
            ))),
            None => Err(io::Error::other("the slice is not a regular file")),
        }
    }

    /// Removes a slice.
    pub fn remove_slice(&self, capture: &str, slice: SliceId) {
        let _ = self.slice_path(capture, slice).and_then(fs::remove_file);
    }

    /// Removes every slice of a capture.
    pub fn remove_slices(&self, capture: &str) {
        let _ = self.dir(capture).and_then(fs::remove_dir_all);
    }

    /// Removes the spool with all that is in it.
    pub fn remove(&self) {
        let _ = self.root().and_then(fs::remove_dir_all);
    }

    /// Whether it is in memory that other containers of the pod share: those of the same user can write there, so
    /// no trust is kept in it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.root().is_ok_and(|root| root.starts_with(MEMORY_DIR))
    }

    /// The CA certificates that were kept, if any.
    #[must_use]
    pub fn ca(&self) -> Option<String> {
        if self.is_shared() {
            return None;
        }
        let bytes = crate::proc::read_bounded(self.root().ok()?.join("ca.pem"), MAX_CA_BYTES as u64).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Keeps CA certificates for the agent's next start.
    pub fn save_ca(&self, pem: &str) -> io::Result<()> {
        if self.is_shared() {
            return Ok(());
        }
        write_synced(&self.root()?.join("ca.pem"), pem.as_bytes())
    }

    fn record_path(&self, capture: &str) -> io::Result<PathBuf> {
        Ok(self.root()?.join("captures").join(format!("{}.json", file_name(capture))))
    }

    fn dir(&self, capture: &str) -> io::Result<PathBuf> {
        Ok(self.root()?.join("slices").join(file_name(capture)))
    }

    fn slice_path(&self, capture: &str, slice: SliceId) -> io::Result<PathBuf> {
        Ok(self.dir(capture)?.join(slice_file(slice)))
    }
}

/// A name for files that no capture's name can steer.
fn file_name(capture: &str) -> String {
    hex(&digest(&SHA256, capture.as_bytes()).as_ref()[..16])
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn read_record(path: &Path) -> Option<Record> {
    let bytes = crate::proc::read_bounded(path, MAX_RECORD_BYTES).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(
            |e| tracing::warn!(file = %path.display(), error = %e, "ignoring a corrupt record in the spool"),
        )
        .ok()
}

/// Replaces a file so that after a crash the old or the new one is there, whole.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    impl Spool {
        fn open(candidates: &[PathBuf]) -> io::Result<Self> {
            let spool = Self::closed(candidates);
            spool.reopen()?;
            Ok(spool)
        }
    }

    use crate::supervisor::captures;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("fleetprof-spool-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn cpu(seq: u32) -> SliceId {
        SliceId::new(ProfileKind::Cpu, seq)
    }

    fn record(capture: &str) -> Record {
        let order = serde_json::json!({"capture": capture, "session": "s", "protocol": 1, "containerId": "c", "profile": "cpu",
            "frequencyHz": 99, "durationMs": 10_000, "sliceMs": 10_000, "startBefore": 5});
        captures::record(&serde_json::from_value(order).unwrap(), CaptureState::Running, 7)
    }

    #[test]
    fn memory_that_a_pod_shares_is_used_only_where_it_is_ours_and_nothing_there_is_trusted() {
        let other = scratch("other");
        let link = scratch("link");
        let _ = fs::remove_file(&link);
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let refused = Spool::open(std::slice::from_ref(&link)).unwrap_err().to_string();
        assert!(refused.contains("belongs to another user"), "{refused}");
        fs::remove_file(link).unwrap();
        fs::remove_dir_all(other).unwrap();

        let name = format!("fleetprof-test-{}", std::process::id());
        let spool = Spool::open(&[Path::new(MEMORY_DIR).join(name)]).unwrap();
        spool.save_ca("forged").unwrap();
        fs::write(spool.root().unwrap().join("ca.pem"), "forged").unwrap();
        assert!(spool.is_shared() && spool.ca().is_none());
        spool.remove();
    }

    #[test]
    fn records_and_slices_survive_and_damage_is_left_out() {
        let spool = Spool::open(&[scratch("records")]).unwrap();
        let hostile = record("../../etc/passwd");
        spool.save(&hostile).unwrap();
        spool.save(&record("b")).unwrap();
        fs::write(spool.root().unwrap().join("captures/torn.json"), b"{\"session\":").unwrap();
        fs::write(spool.root().unwrap().join("captures/half.tmp"), b"x").unwrap();
        let again = Spool::open(&[spool.root().unwrap().to_owned()]).unwrap();
        let mut loaded = again.load();
        loaded.sort_by(|a, b| a.report.capture.cmp(&b.report.capture));
        assert_eq!(loaded, [hostile, record("b")]);
        again.forget("b");
        assert_eq!(again.load().len(), 1);
        spool.remove();
        assert!(!spool.root().unwrap().exists());
    }

    #[test]
    fn only_complete_slices_in_range_are_seen() {
        let spool = Spool::open(&[scratch("slices")]).unwrap();
        let dir = spool.slices_dir("a").unwrap();
        let strange = [".cpu-2.pb.gz.tmp", "cpu-128.pb.gz", "cpu-x.pb.gz", "cpu--1.pb.gz", "1.pb.gz"];
        for name in strange.into_iter().chain(["cpu-1.pb.gz", "wall-0.pb.gz", "cpu-0.pb.gz"]) {
            fs::write(dir.join(name), b"123").unwrap();
        }
        fs::create_dir(dir.join("cpu-3.pb.gz")).unwrap();
        let wall = SliceId::new(ProfileKind::Wall, 0);
        assert_eq!(spool.slices("a"), [(cpu(0), 3), (wall, 3), (cpu(1), 3)]);
        assert_eq!(spool.read_slice("a", wall).unwrap(), b"123");
        assert!(spool.read_slice("a", cpu(3)).is_err() && spool.read_slice("a", cpu(9)).is_err());
        File::create(dir.join("cpu-5.pb.gz")).unwrap().set_len(MAX_SLICE_BYTES as u64 + 1).unwrap();
        assert!(spool.read_slice("a", cpu(5)).unwrap_err().to_string().contains("more than the limit"));
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        spool.remove_slices("a");
        assert_eq!(spool.slices("a"), []);
        spool.remove();
    }

    #[test]
    fn the_first_directory_that_can_be_written_is_taken() {
        let good = scratch("second");
        let spool = Spool::open(&["/proc/nothing".into(), good.clone(), scratch("third")]).unwrap();
        assert_eq!(spool.root().unwrap(), good);
        spool.remove();
        let error = Spool::open(&["/proc/nothing".into()]).unwrap_err().to_string();
        assert!(error.contains("/proc/nothing") && error.contains("make one of them writable"), "{error}");
    }

    #[test]
    fn a_spool_without_room_takes_nothing_until_there_is_room() {
        let dir = scratch("closed");
        fs::write(&dir, "in the way").unwrap();
        let spool = Spool::closed(&[dir.join("spool")]);
        assert!(
            spool.reopen().is_err() && spool.save(&record("a")).is_err() && spool.slices_dir("a").is_err()
        );
        assert!(spool.load().is_empty() && spool.slices("a").is_empty() && spool.ca().is_none());
        spool.remove_slices("a");
        spool.remove();
        fs::remove_file(&dir).unwrap();
        assert!(spool.reopen().unwrap(), "it was closed");
        assert!(!spool.reopen().unwrap(), "it is open");
        spool.save(&record("a")).unwrap();
        assert_eq!(spool.load(), [record("a")]);
        fs::remove_dir_all(dir).unwrap();
    }
}
