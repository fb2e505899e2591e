//! How do the slices of several workers become one? Those of the same stretch of time are merged, kind by kind.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{MAX_SLICE_BYTES, MAX_SLICES};
use fleetprof_profile::{Limits, MergeError, Merger, Overlap, Profile, decode_valid, sample_types, total};

use super::super::protocol::{Failure, SliceWritten, slice_file};
use super::super::session::unix_nanos;
use super::super::slices::SliceWriter;

/// What waits to be written of a kind.
struct Pending {
    merger: Merger,
    bytes: usize,
    samples: u64,
    /// When the first slice starts and the last one ends, in nanoseconds since 1970.
    start_nanos: u64,
    end_nanos: u64,
}

/// What came of a kind, and what waits.
#[derive(Default)]
struct Kind {
    samples: u64,
    worth: u64,
    /// Until when it has been written, in nanoseconds since 1970.
    written_until: u64,
    pending: Option<Pending>,
    /// What had to make room.
    full: Vec<Pending>,
}

/// The slices of all workers.
pub struct Gathered {
    kinds: BTreeMap<ProfileKind, Kind>,
    /// Slices that each worker has brought.
    brought: BTreeMap<(usize, ProfileKind), u32>,
    /// When the capture began, in nanoseconds since 1970: no slice starts sooner.
    began_nanos: u64,
    memory: usize,
}

impl Gathered {
    /// Nothing yet, of these kinds; what waits of each takes about `memory` bytes at most.
    pub fn new(kinds: &[ProfileKind], memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX) / 2;
        let kinds = kinds.iter().map(|kind| (*kind, Kind::default())).collect();
        Self { kinds, brought: BTreeMap::new(), began_nanos: unix_nanos(), memory }
    }

    /// Takes a slice that worker `number` has written into its directory.
    ///
    /// # Errors
    /// No worker brings such a slice.
    pub fn take(&mut self, number: usize, directory: &Path, written: &SliceWritten) -> Result<(), Failure> {
        let slice = written.slice;
        let strange = |why: &str| Failure::internal(format!("a worker brought {slice}, which {why}"));
        let brought = self.brought.entry((number, slice.kind)).or_default();
        *brought += 1;
        let known = self.kinds.get_mut(&slice.kind).filter(|_| *brought <= MAX_SLICES);
        let known = known.ok_or_else(|| strange("was not asked for"))?;
        let path = directory.join(slice_file(slice));
        let bytes = read(&path).map_err(|error| strange(&format!("cannot be read ({error})")))?;
        let _gone = std::fs::remove_file(&path);
        let limits = Limits { memory_bytes: self.memory, ..Limits::default() };
        let profile =
            decode_valid(&bytes, &limits).map_err(|error| strange(&format!("is not a profile ({error})")))?;
        if sample_types(&profile) != slice.kind.sample_types() {
            return Err(strange("counts something else"));
        }
        // By this process's clock, whatever a worker says.
        let now = unix_nanos();
        let start = written.start_nanos.clamp(self.began_nanos.min(now), now);
        let end = written.start_nanos.saturating_add(written.duration_nanos).clamp(start, now);
        let added = known.add(&profile, (start, end), bytes.len(), self.memory);
        added.map_err(|error| strange(&format!("cannot be merged ({error})")))
    }

    /// Writes the next of what waits; `None` when nothing does.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, writer: &mut SliceWriter) -> Result<Option<SliceWritten>, Failure> {
        let next = self.kinds.iter_mut().find_map(|(kind, of)| Some((*kind, of.next()?)));
        let Some((kind, (pending, start_nanos))) = next else { return Ok(None) };
        let Pending { merger, samples, end_nanos, .. } = pending;
        let merged = merger.finish();
        let mut profile = merged.map_err(|e| Failure::internal(format!("failed to merge {kind}: {e}")))?;
        let duration_nanos = end_nanos.saturating_sub(start_nanos).max(1);
        let signed = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
        (profile.time_nanos, profile.duration_nanos) = (signed(start_nanos), signed(duration_nanos));
        let (slice, bytes) = writer.write_profile(kind, &profile)?;
        Ok(Some(SliceWritten { slice, bytes, samples, start_nanos, duration_nanos, cover: None }))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.kinds.values().all(|of| of.pending.is_none() && of.full.is_empty())
    }

    /// Samples of all kinds.
    pub fn samples(&self) -> u64 {
        self.kinds.values().map(|of| of.samples).fold(0, u64::saturating_add)
    }

    /// Samples of a kind.
    pub fn samples_of(&self, kind: ProfileKind) -> u64 {
        self.kinds.get(&kind).map_or(0, |of| of.samples)
    }

    /// CPU time in all slices of that kind, in nanoseconds.
    pub fn cpu_nanos(&self) -> u64 {
        self.kinds.get(&ProfileKind::Cpu).map_or(0, |of| of.worth)
    }
}

impl Kind {
    fn add(
        &mut self,
        profile: &Profile,
        (start, end): (u64, u64),
        bytes: usize,
        memory: usize,
    ) -> Result<(), MergeError> {
        let is_full = |p: &Pending| p.bytes + bytes > MAX_SLICE_BYTES || p.merger.memory() > memory;
        if self.pending.as_ref().is_some_and(is_full) {
            self.full.extend(self.pending.take());
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            merger: Merger::new(Overlap::Parallel),
            bytes: 0,
            samples: 0,
            start_nanos: start,
            end_nanos: end,
        });
        pending.merger.add(profile)?;
        let count = |index| u64::try_from(total(profile, index)).unwrap_or(0);
        let (samples, worth) = (count(0), count(profile.sample_type.len().saturating_sub(1)));
        pending.bytes += bytes;
        pending.samples = pending.samples.saturating_add(samples);
        pending.start_nanos = pending.start_nanos.min(start);
        pending.end_nanos = pending.end_nanos.max(end);
        self.samples = self.samples.saturating_add(samples);
        self.worth = self.worth.saturating_add(worth);
        Ok(())
    }

    /// What is to be written next, and from when on: slices of different workers lie side by side, and time that
    /// was written already does not count again.
    fn next(&mut self) -> Option<(Pending, u64)> {
        let next = if self.full.is_empty() { self.pending.take()? } else { self.full.remove(0) };
        let start = next.start_nanos.max(self.written_until).min(next.end_nanos);
        self.written_until = self.written_until.max(next.end_nanos);
        Some((next, start))
    }
}

/// The bytes of a slice, which its worker's user can put something else in place of.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let length = file.metadata()?;
    if !length.is_file() || length.len() > MAX_SLICE_BYTES as u64 {
        return Err(std::io::Error::other("it is not a regular file, or too long"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SLICE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fleetprof_crds::wire::SliceId;
    use fleetprof_profile::Frame;

    use super::super::super::slices::Slice;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("fleetprof-users-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn gathered() -> Gathered {
        Gathered::new(&[ProfileKind::Cpu], 64 << 20)
    }

    /// A slice of a worker of ten seconds, as it writes it.
    fn slice(writer: &mut SliceWriter, function: &str, samples: u64, start: u64) -> SliceWritten {
        let mut slice = Slice::new(ProfileKind::Cpu, 10_000_000, start, vec![]);
        slice.add(&[Frame::named(function, "f.c", 3)], samples, samples * 10_000_000).unwrap();
        writer.write(slice, 10 * SECOND).unwrap().unwrap()
    }

    #[test]
    fn slices_of_the_same_time_become_one_that_is_no_longer_than_each() {
        let (out, dirs) = (scratch("out"), [scratch("one"), scratch("other")]);
        let mut all = gathered();
        // The capture began a minute ago.
        all.began_nanos = unix_nanos() - 60 * SECOND;
        let began = all.began_nanos;
        let mut writers = dirs.each_ref().map(|dir| SliceWriter::open(dir).unwrap());
        let mut writer = SliceWriter::open(&out).unwrap();
        // Of each batch the slices: who, and from which second on.
        type Batch<'a> = (&'a [(usize, u64)], u64, u64);
        let batches: [Batch<'_>; 3] =
            [(&[(0, 0), (1, 1), (1, 11)], 0, 21), (&[(0, 10), (0, 20)], 21, 9), (&[(1, 500)], 60, 0)];
        for (batch, from, seconds) in batches {
            for (number, at) in batch {
                let name = ["main", "serve"][*number];
                let written = slice(&mut writers[*number], name, 5, began + at * SECOND);
                all.take(*number, &dirs[*number], &written).unwrap();
            }
            let written = all.write(&mut writer).unwrap().unwrap();
            assert_eq!(written.duration_nanos / SECOND, seconds, "no time counts twice: {written:?}");
            let bytes = std::fs::read(out.join(slice_file(written.slice))).unwrap();
            let profile = decode_valid(&bytes, &Limits::default()).unwrap();
            let starts = (profile.time_nanos as u64 - began) / SECOND;
            // What starts in the future starts now, on a busy machine a while after the first minute.
            assert!(starts == from || from == 60 && starts > 60, "{starts} {from}");
            let folded = fleetprof_profile::fold(&profile, 0);
            assert!(from != 0 || folded.contains("main 5") && folded.contains("serve 10"), "{folded}");
            assert!(all.is_empty() && all.write(&mut writer).unwrap().is_none());
        }
        assert_eq!((all.samples(), all.cpu_nanos(), writer.written()), (30, 300_000_000, 3));
        let left = |dir: &PathBuf| std::fs::read_dir(dir).unwrap().count();
        assert_eq!(dirs.each_ref().map(left), [0, 0], "what was taken is gone");
        for dir in dirs.iter().chain([&out]) {
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn what_no_worker_brings_is_refused() {
        let dir = scratch("strange");
        let good = slice(&mut SliceWriter::open(&dir).unwrap(), "f", 1, 0);
        let with = |kind, seq| SliceWritten { slice: SliceId::new(kind, seq), ..good.clone() };
        let secret = dir.join("secret");
        std::fs::write(&secret, b"not of the worker").unwrap();
        std::os::unix::fs::symlink(&secret, dir.join("cpu-1.pb.gz")).unwrap();
        std::fs::write(dir.join("cpu-2.pb.gz"), b"no profile").unwrap();
        nix::unistd::mkfifo(&dir.join("cpu-3.pb.gz"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut all = gathered();
        for (written, why) in [
            (with(ProfileKind::Wall, 0), "was not asked for"),
            (with(ProfileKind::Cpu, 1), "cannot be read"),
            (with(ProfileKind::Cpu, 2), "is not a profile"),
            (with(ProfileKind::Cpu, 3), "it is not a regular file"),
            (with(ProfileKind::Cpu, 9), "cannot be read"),
        ] {
            let failure = all.take(0, &dir, &written).unwrap_err();
            assert!(failure.message.contains(why), "{failure}");
        }
        assert!(all.is_empty() && secret.exists());
        all.take(0, &dir, &good).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_worker_that_never_stops_bringing_slices_is_refused() {
        let (dir, mut all) = (scratch("endless"), gathered());
        let mut writer = SliceWriter::open(&dir).unwrap();
        for _ in 0..MAX_SLICES {
            let written = slice(&mut writer, "f", 1, 0);
            all.take(0, &dir, &written).unwrap();
        }
        let one_more = slice(&mut writer, "f", 1, 0);
        assert!(all.take(0, &dir, &one_more).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
