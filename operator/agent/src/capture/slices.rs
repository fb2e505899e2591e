//! How does a slice get to disk so that a file with its final name is always complete?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use fleetprof_crds::wire::SliceId;
use fleetprof_profile::{Frame, Label, LocationId, Profile, ProfileBuilder, ProfileKind, encode};
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::fsync;

use super::process_names::KEY;
use super::protocol::{Failure, FailureReason, SliceWritten, slice_file};
use super::schedule::saturating_nanos;
use super::wall;

/// The slices of one stretch of time: one for each kind that is captured.
pub struct Slices<'a>(Vec<Slice<'a>>);

impl<'a> Slices<'a> {
    /// Empty slices of these kinds, each with its start in nanoseconds since 1970. Samples of kinds that are
    /// taken at a rate are `period_nanos` apart, those of wall time at least 50 ms.
    pub fn new(
        kinds: &[ProfileKind],
        period_nanos: u64,
        start_nanos: impl Fn(ProfileKind) -> u64,
        labels: &[Label<'a>],
    ) -> Self {
        let period = |kind: ProfileKind| match kind {
            ProfileKind::Wall => period_nanos.max(saturating_nanos(wall::SHORTEST)),
            kind if kind.is_sampled() => period_nanos,
            _ => 1,
        };
        let slice =
            |kind: &ProfileKind| Slice::new(*kind, period(*kind), start_nanos(*kind), labels.to_vec());
        Self(kinds.iter().map(slice).collect())
    }

    /// The slice of a kind.
    ///
    /// # Errors
    /// The kind is not captured, so that a collector must not bring it.
    pub fn kind(&mut self, kind: ProfileKind) -> Result<&mut Slice<'a>, Failure> {
        let found = self.0.iter_mut().find(|slice| slice.kind == kind);
        found.ok_or_else(|| Failure::internal(format!("a collector brought {kind}, which is not captured")))
    }

    /// Adds all that a profile of another program holds of a kind, with our labels in place of its own.
    ///
    /// # Errors
    /// The profile does not count what the kind counts, or the kind is not captured.
    pub fn merge(&mut self, kind: ProfileKind, profile: &Profile) -> Result<(), Failure> {
        self.kind(kind)?.merge(profile)
    }

    /// What is added from now on is of a process with this label.
    pub fn of_process(&mut self, label: &str) {
        self.0.iter_mut().for_each(|slice| label.clone_into(&mut slice.process));
    }

    /// Samples of all kinds.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.0.iter().map(|slice| slice.samples).fold(0, u64::saturating_add)
    }

    /// CPU time in the slice of that kind, in nanoseconds.
    #[must_use]
    pub fn cpu_nanos(&self) -> u64 {
        self.0.iter().find(|slice| slice.kind == ProfileKind::Cpu).map_or(0, |slice| slice.worth)
    }

    /// Each slice.
    pub fn into_each(self) -> impl Iterator<Item = Slice<'a>> {
        self.0.into_iter()
    }
}

/// The stacks of one slice.
pub struct Slice<'a> {
    builder: ProfileBuilder,
    labels: Vec<Label<'a>>,
    process: String,
    more: Vec<Label<'static>>,
    /// What it counts.
    pub kind: ProfileKind,
    /// Samples in it.
    pub samples: u64,
    /// The sum of its last value: nanoseconds of CPU time, bytes of memory.
    pub worth: u64,
    start_nanos: u64,
}

impl<'a> Slice<'a> {
    /// An empty slice of that kind that starts at `start_nanos` since 1970.
    pub fn new(kind: ProfileKind, period_nanos: u64, start_nanos: u64, labels: Vec<Label<'a>>) -> Self {
        let builder = ProfileBuilder::new(kind, signed(period_nanos), signed(start_nanos));
        let (process, more) = (String::new(), Vec::new());
        Self { kind, builder, labels, process, more, samples: 0, worth: 0, start_nanos }
    }

    /// The builder, to make mappings and locations known.
    pub fn builder(&mut self) -> &mut ProfileBuilder {
        &mut self.builder
    }

    /// Has what is added by `add` these labels as well.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn labelled(
        &mut self,
        labels: Vec<Label<'static>>,
        add: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.more = labels;
        let added = add(self);
        self.more.clear();
        added
    }

    /// Adds samples of a stack of frames, leaf first, worth `nanos` of CPU time together.
    pub fn add(&mut self, stack: &[Frame<'_>], samples: u64, nanos: u64) -> Result<(), Failure> {
        let labels = labels(&self.labels, &self.process, &self.more);
        let added = self.builder.add(stack, &[signed(samples), signed(nanos)], &labels);
        self.note(added, samples, nanos)
    }

    /// Adds samples of a stack of known locations, leaf first, worth `nanos` of CPU time together.
    pub fn add_locations(&mut self, stack: &[LocationId], samples: u64, nanos: u64) -> Result<(), Failure> {
        let labels = labels(&self.labels, &self.process, &self.more);
        let added = self.builder.add_locations(stack, &[signed(samples), signed(nanos)], &labels);
        self.note(added, samples, nanos)
    }

    fn merge(&mut self, profile: &Profile) -> Result<(), Failure> {
        let labels = labels(&self.labels, &self.process, &self.more);
        let adopted = self.builder.adopt(profile, &labels).map_err(|e| {
            Failure::new(
                FailureReason::UnsupportedRuntime,
                format!("a profile of the target is of no use: {e}"),
            )
        })?;
        self.samples = self.samples.saturating_add(adopted.samples);
        self.worth = self.worth.saturating_add(adopted.worth);
        Ok(())
    }

    fn note(
        &mut self,
        added: Result<(), fleetprof_profile::BuildError>,
        samples: u64,
        nanos: u64,
    ) -> Result<(), Failure> {
        added.map_err(|e| Failure::internal(format!("failed to add a sample to the profile: {e}")))?;
        self.samples = self.samples.saturating_add(samples);
        self.worth = self.worth.saturating_add(nanos);
        Ok(())
    }
}

/// The labels of a sample.
fn labels<'b>(of_capture: &[Label<'b>], process: &'b str, more: &[Label<'b>]) -> Vec<Label<'b>> {
    let process = (!process.is_empty()).then(|| Label::text(KEY, process));
    of_capture.iter().chain(more).cloned().chain(process).collect()
}

/// Pprof numbers are signed.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Writes slices into one directory; those of each kind are numbered from 0.
pub struct SliceWriter {
    directory: OwnedFd,
    next: BTreeMap<ProfileKind, u32>,
}

impl SliceWriter {
    /// Opens the directory; it is held open, so that its path does not matter any more.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(|e| {
            Failure::internal(format!(
                "failed to open the output directory {} ({e}); create it before the capture",
                path.display()
            ))
        })?;
        Ok(Self { directory, next: BTreeMap::new() })
    }

    /// Slices of all kinds written so far.
    pub fn written(&self) -> u32 {
        self.next.values().sum()
    }

    /// Writes a slice and syncs it; one without samples is left out.
    pub fn write(&mut self, slice: Slice<'_>, duration_nanos: u64) -> Result<Option<SliceWritten>, Failure> {
        let Slice { builder, kind, samples, start_nanos, .. } = slice;
        if samples == 0 {
            return Ok(None);
        }
        let profile = builder.finish(signed(duration_nanos), &[]);
        let (slice, bytes) = self.write_profile(kind, &profile)?;
        Ok(Some(SliceWritten { slice, bytes, samples, start_nanos, duration_nanos, cover: None }))
    }

    /// Writes a profile as the next slice of a kind and syncs it. Gives back which one that is, and its bytes.
    pub fn write_profile(&mut self, kind: ProfileKind, profile: &Profile) -> Result<(SliceId, u64), Failure> {
        let bytes = encode(profile)
            .map_err(|e| Failure::internal(format!("failed to encode a {kind} slice: {e}")))?;
        let next = self.next.entry(kind).or_default();
        let slice = SliceId::new(kind, *next);
        store(&self.directory, slice, &bytes).map_err(|e| {
            Failure::internal(format!(
                "failed to write {slice} to the spool ({e}); check that the volume has space"
            ))
        })?;
        *next += 1;
        Ok((slice, bytes.len() as u64))
    }
}

fn store(directory: &OwnedFd, slice: SliceId, bytes: &[u8]) -> io::Result<()> {
    let name = slice_file(slice);
    let temporary = format!(".{name}.tmp");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(directory, temporary.as_str(), flags, Mode::from_bits_truncate(0o640))?);
    file.write_all(bytes)?;
    file.sync_all()?;
    renameat(directory, temporary.as_str(), directory, name.as_str())?;
    Ok(fsync(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetprof_profile::{Limits, decode_valid};

    #[test]
    fn slices_of_each_kind_are_numbered_and_empty_ones_are_left_out() {
        use ProfileKind::{Cpu, Wall};
        let dir = std::env::temp_dir().join(format!("fleetprof-slices-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut writer = SliceWriter::open(&dir).unwrap();
        assert_eq!(writer.write(Slice::new(Cpu, 10, 5, vec![]), 7), Ok(None));
        for (kind, seq) in [(Cpu, 0), (Wall, 0), (Cpu, 1)] {
            let mut slice = Slice::new(kind, 10, 5, vec![Label::text("team", "payments")]);
            "python3".clone_into(&mut slice.process);
            slice.add(&[Frame::named("f", "f.py", 3)], 2, 21).unwrap();
            assert_eq!((slice.samples, slice.worth), (2, 21));
            let written = writer.write(slice, 7).unwrap().unwrap();
            let id = SliceId::new(kind, seq);
            let wanted = SliceWritten {
                slice: id,
                bytes: written.bytes,
                samples: 2,
                start_nanos: 5,
                duration_nanos: 7,
                cover: None,
            };
            assert_eq!(written, wanted);
            let bytes = std::fs::read(dir.join(slice_file(id))).unwrap();
            let profile = decode_valid(&bytes, &Limits::default()).unwrap();
            assert_eq!(fleetprof_profile::sample_types(&profile), kind.sample_types());
            assert_eq!(profile.sample[0].value, [2, 21]);
            assert_eq!(profile.sample[0].label.len(), 2);
        }
        assert_eq!((writer.written(), std::fs::read_dir(&dir).unwrap().count()), (3, 3));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn labels_of_some_samples_are_not_those_of_the_others() {
        let mut slice = Slice::new(ProfileKind::Wall, 10, 5, vec![Label::text("team", "payments")]);
        let frames = [Frame::named("f", "f.py", 3)];
        let blocked = vec![Label::text("thread_state", "blocked")];
        slice.labelled(blocked, |slice| slice.add(&frames, 1, 7)).unwrap();
        slice.add(&frames, 1, 5).unwrap();
        let fresh = ProfileBuilder::new(ProfileKind::Wall, 10, 0);
        let profile = std::mem::replace(slice.builder(), fresh).finish(1, &[]);
        let seen: Vec<(i64, usize)> = profile.sample.iter().map(|s| (s.value[1], s.label.len())).collect();
        assert_eq!(seen, [(7, 2), (5, 1)]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let failure = SliceWriter::open(Path::new("/does/not/exist")).map(|_| ()).unwrap_err();
        assert!(failure.message.contains("/does/not/exist"), "{failure}");
    }
}
