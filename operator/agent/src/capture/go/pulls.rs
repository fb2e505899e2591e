//! How are the profiles of a Go program pulled, and when?
//!
//! CPU is recorded while a request waits, so it is pulled again and again, up to 15 s at a time; a request
//! that is given up stops the recording. Heap and goroutines are as they are at the end of the capture: taken
//! once, since each profile of them stands for a moment; for wall time goroutines are asked for again and again
//! ([`super::goroutines`]). Allocations, locks and blocking are counted from the
//! start of the program: they are taken at the begin and at the end, and what was added is the profile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleetprof_profile::{Limits, Profile, ProfileKind, decode_valid, growth};

use super::goroutines::Goroutines;
use super::http::{Bounds, Error, get};
use crate::capture::collector::{Capture, Tally};
use crate::capture::looks::Looks;
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::recording::{Line, Recording};
use crate::capture::slices::Slices;

/// Longest pull of CPU, in seconds.
const LONGEST: u64 = 15;
/// Go writes the profile a moment after the recording has ended.
const WRITTEN: Duration = Duration::from_secs(3);
/// How long a profile that is not recorded first may take.
const TAKEN: Duration = Duration::from_secs(4);
/// Within this a refusal to record CPU comes, such as that another client does so already.
const REFUSED: Duration = Duration::from_millis(200);
/// A recording that ends later than this after the capture is given up.
const SOON: Duration = Duration::from_secs(2);
/// A recording that ends sooner than asked for by more than this was none.
const EARLY: Duration = Duration::from_millis(500);
/// Shortest pause after a pull that failed, so that a server in trouble is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// Most bytes of a profile as it is sent.
pub const MAX_SENT: usize = 8 << 20;

/// Where and how much is pulled.
#[derive(Clone, Copy)]
pub struct Source {
    /// The process.
    pub pid: i32,
    /// Where the program serves its profiles.
    pub server: SocketAddr,
    /// Most bytes of memory that a profile may take.
    pub memory: usize,
    /// Looks a second, for wall time.
    pub frequency_hz: u32,
    /// Length of a slice.
    pub slice: Duration,
    /// When the capture ends.
    pub until: Instant,
}

/// The pulls of one process.
pub struct Pulls {
    recordings: Vec<Recording>,
    looks: Option<Looks>,
    kinds: Vec<ProfileKind>,
}

/// Kinds that could not be begun, and why.
type Refused = Vec<(ProfileKind, Failure)>;

impl Pulls {
    /// Begins to pull the kinds. CPU and wall time that are refused at once are left to others.
    ///
    /// # Errors
    /// None of the kinds could be begun.
    pub fn begin(source: Source, kinds: &[ProfileKind]) -> Result<(Self, Refused), Failure> {
        let (timed, others): (Vec<ProfileKind>, Vec<_>) =
            kinds.iter().copied().partition(|kind| kind.is_sampled());
        let mut begun = Self { recordings: Vec::new(), looks: None, kinds: kinds.to_vec() };
        let mut refused = Vec::new();
        if !others.is_empty() {
            begun.recordings.push(Recording::start(move |line| take_at_end(line, source, &others))?);
        }
        for kind in timed {
            if let Err(failure) = begun.begin_timed(kind, source) {
                refused.push((kind, failure));
            }
        }
        match refused.first() {
            Some((_, failure)) if begun.recordings.is_empty() && begun.looks.is_none() => {
                Err(failure.clone())
            }
            _ => Ok((begun, refused)),
        }
    }

    fn begin_timed(&mut self, kind: ProfileKind, source: Source) -> Result<(), Failure> {
        if kind == ProfileKind::Wall {
            self.looks = Some(Looks::begin(Goroutines(source), source.frequency_hz)?);
            return Ok(());
        }
        let recording = Recording::start(move |line| pull_cpu(line, source))?;
        match recording.failure_within(kind, REFUSED) {
            None => self.recordings.push(recording),
            Some(failure) => return Err(failure),
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Recording> {
        self.recordings.iter().chain(self.looks.as_ref().map(Looks::recording))
    }
}

impl Capture for Pulls {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.recordings.iter_mut().try_for_each(|recording| recording.drain(into))?;
        self.looks.as_ref().map_or(Ok(()), |looks| looks.drain(into))
    }

    fn tally(&self) -> Tally {
        let taken = self.recordings.iter().map(Recording::samples).fold(0, u64::saturating_add);
        let failures = self.recordings.iter().flat_map(Recording::failures).collect();
        let advice = self.kinds.iter().filter_map(|kind| Some((*kind, advice(*kind)?.to_owned()))).collect();
        let mut tally = Tally { expected: Some(taken), taken, failures, advice, ..Tally::default() };
        if let Some(looks) = &self.looks {
            tally.add(looks.tally());
        }
        tally
    }

    fn ending(&mut self) {
        self.all().for_each(Recording::ending);
    }

    fn stop(&mut self, by: Instant) {
        self.all().for_each(|recording| recording.stop(by));
    }
}

/// What a program has to do so that Go counts a kind.
const fn advice(kind: ProfileKind) -> Option<&'static str> {
    match kind {
        ProfileKind::Lock => {
            Some("Go counts locks only in programs that call runtime.SetMutexProfileFraction")
        }
        ProfileKind::Block => {
            Some("Go counts blocking only in programs that call runtime.SetBlockProfileRate")
        }
        _ => None,
    }
}

/// Pulls CPU until the capture ends.
fn pull_cpu(line: &Line, source: Source) {
    while !line.is_ending() {
        let left = source.until.saturating_duration_since(Instant::now());
        let seconds = whole_seconds(left, source.slice);
        if seconds == 0 {
            return;
        }
        let due = Instant::now() + Duration::from_secs(seconds);
        let given_up = || line.is_aborted() || (line.is_ending() && Instant::now() + SOON < due);
        let bounds = Bounds { by: due + WRITTEN, body: MAX_SENT, is_aborted: &given_up };
        let path = format!("/debug/pprof/profile?seconds={seconds}");
        match get(source.server, &path, &bounds) {
            Ok(_) if Instant::now() + EARLY < due => {
                let error = Error::Malformed("it came before the recording can have ended");
                line.fail(ProfileKind::Cpu, failed(source.server, &path, &error));
                line.wait(Instant::now() + PAUSE);
            }
            Ok(bytes) => give(line, ProfileKind::Cpu, source, bytes, None),
            Err(Error::Aborted) => return,
            Err(error) => {
                line.fail(ProfileKind::Cpu, failed(source.server, &path, &error));
                line.wait(Instant::now() + PAUSE);
            }
        }
    }
}

/// How long the next pull takes: a slice, and no longer than the capture. Half a second may be lost at the
/// end, or come late.
fn whole_seconds(left: Duration, slice: Duration) -> u64 {
    let rounded = (left + Duration::from_millis(500)).as_secs();
    rounded.min(slice.as_secs().clamp(1, LONGEST))
}

/// Takes what is counted from the start of the program, waits for the end of the capture, and takes all.
fn take_at_end(line: &Line, source: Source, kinds: &[ProfileKind]) {
    let mut before = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| is_counted(*kind)) {
        match take(line, source, kind) {
            Ok(bytes) => before.push((kind, bytes)),
            Err(failure) => line.fail(kind, failure),
        }
    }
    line.wait(source.until);
    for kind in kinds.iter().copied() {
        let known = before.iter().position(|(of, _)| *of == kind).map(|at| before.swap_remove(at).1);
        if is_counted(kind) && known.is_none() {
            continue;
        }
        match take(line, source, kind) {
            Ok(bytes) => give(line, kind, source, bytes, known),
            Err(failure) => line.fail(kind, failure),
        }
    }
}

/// Whether a profile counts from the start of the program.
const fn is_counted(kind: ProfileKind) -> bool {
    matches!(kind, ProfileKind::Alloc | ProfileKind::Lock | ProfileKind::Block)
}

fn take(line: &Line, source: Source, kind: ProfileKind) -> Result<Vec<u8>, Failure> {
    let path = match kind {
        ProfileKind::Alloc => "/debug/pprof/allocs",
        ProfileKind::Lock => "/debug/pprof/mutex",
        ProfileKind::Block => "/debug/pprof/block",
        ProfileKind::Goroutine => "/debug/pprof/goroutine",
        _ => "/debug/pprof/heap",
    };
    let is_aborted = || line.is_aborted();
    let bounds = Bounds { by: Instant::now() + TAKEN, body: MAX_SENT, is_aborted: &is_aborted };
    get(source.server, path, &bounds).map_err(|error| failed(source.server, path, &error))
}

/// Why something was not fetched.
pub fn failed(server: SocketAddr, path: &str, error: &Error) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, format!("GET http://{server}{path} failed: {error}"))
}

/// Hands over the bytes of a profile, or of what was added since `before`.
fn give(line: &Line, kind: ProfileKind, source: Source, bytes: Vec<u8>, before: Option<Vec<u8>>) {
    let limits = limits(source.memory);
    let read = move |bytes: &[u8]| -> Result<Profile, Failure> {
        let invalid = |e| format!("the {kind} profile of the program is of no use: {e}");
        let read = decode_valid(bytes, &limits).map_err(invalid);
        read.map_err(|text| Failure::new(FailureReason::UnsupportedRuntime, text))
    };
    line.give(
        kind,
        Box::new(move || {
            let profile = read(&bytes)?;
            match before {
                None => Ok(profile),
                Some(before) => Ok(growth(&read(&before)?, profile)),
            }
        }),
    );
}

/// Limits of one profile, of which two may be in memory at a time, and what is made of them.
pub fn limits(memory: usize) -> Limits {
    Limits {
        compressed_bytes: MAX_SENT,
        uncompressed_bytes: (memory / 4).min(32 << 20),
        memory_bytes: memory,
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_takes_a_slice_and_no_longer_than_the_capture() {
        let cases = [
            (120_000, 10_000, 10),
            (120_000, 60_000, 15),
            (9_700, 10_000, 10),
            (9_400, 10_000, 9),
            (4_000, 1_500, 1),
            (400, 10_000, 0),
            (4_000, 100, 1),
        ];
        for (left, slice, wanted) in cases {
            let of = |ms| Duration::from_millis(ms);
            assert_eq!(whole_seconds(of(left), of(slice)), wanted, "{left} {slice}");
        }
    }
}
