//! How is a recording of Java begun and ended so that nothing of it stays in the process?
//!
//! ```text
//! JFR.start  settings=<a file that is removed at once>  disk=false   in memory only: no directory of chunks
//!            duration=<slice + 30 s>  filename=/dev/null             ends by itself, and leaves no file
//! JFR.stop   filename=<a file of the agent>                          written once, read, removed
//! ```

use std::io::Write;
use std::time::{Duration, Instant};

use fleetprof_profile::ProfileKind;
use fleetprof_profile::read::jfr::Limits;

use super::attach::{Attach, Deadline, said};
use super::settings::{OLDEST, period, settings};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::room;
use crate::capture::session::unix_nanos;

/// What the names of fleetprof's recordings begin with.
const NAME: &str = "fleetprof-";
/// How much longer than a slice Java records if nobody stops it: that of a worker that was killed.
const OVERTIME: Duration = Duration::from_secs(30);
/// Frames of a stack; 64 are too few for the frameworks of today. Java takes the number at its first recording.
const STACK_DEPTH: u32 = 256;
/// How long an answer to a short command may take: the first one has Java start what answers.
const ANSWERS: Duration = Duration::from_secs(10);
/// Memory that must be free below the container's limit: twice what was seen with Java 11 to 25, which keeps it.
const NEEDED: u64 = 64 << 20;
/// Libraries of profilers that use the same signals and timers.
const PROFILERS: [&str; 2] = ["/libasyncProfiler", "/libjavaProfiler"];

/// What to record, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples a second.
    pub frequency_hz: u32,
    /// Length of a slice.
    pub slice: Duration,
}

/// Records one Java process.
#[derive(Debug)]
pub struct Recorder {
    attach: Attach,
    /// Java's version, such as 21.
    pub version: u32,
    plan: Plan,
    settings: String,
    origin: u64,
    number: u32,
}

impl Recorder {
    /// Begins a recording. What a killed worker left is ended and removed first.
    ///
    /// # Errors
    /// Java cannot record, or something else records already.
    pub fn begin(
        pid: i32,
        kinds: &[ProfileKind],
        plan: Plan,
        is_aborted: &dyn Fn() -> bool,
    ) -> Result<Self, Failure> {
        let deadline = || Deadline { by: Instant::now() + ANSWERS, is_aborted };
        let attach = Attach::open(pid, deadline())?;
        let version = parse_version(&attach.command("VM.version", deadline())?);
        let version = version.filter(|version| *version >= OLDEST).ok_or_else(too_old)?;
        has_room(pid)?;
        if let Some(library) = loaded_profiler(pid) {
            return Err(other(&format!("the library {library} of another profiler is loaded")));
        }
        for ours in foreign_and_ours(&attach.command("JFR.check", deadline())?)? {
            let _ended = attach.command(&format!("JFR.stop name={ours}"), deadline());
        }
        // Only before the first recording; later it changes nothing.
        let _kept = attach.command(&format!("JFR.configure stackdepth={STACK_DEPTH}"), deadline());
        let settings = settings(kinds, version, plan.frequency_hz);
        let mut recorder = Self { attach, version, plan, settings, origin: unix_nanos(), number: 0 };
        recorder.start(deadline())?;
        Ok(recorder)
    }

    /// What a CPU sample is worth, in nanoseconds.
    pub fn period_nanos(&self) -> u64 {
        u64::try_from(period(self.version, self.plan.frequency_hz).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Begins the next recording.
    ///
    /// # Errors
    /// Java cannot.
    pub fn start(&mut self, deadline: Deadline<'_>) -> Result<(), Failure> {
        self.number += 1;
        let file = self.file("jfc");
        let mut made = self.attach.place.make(&file)?;
        let written = made.file().write_all(self.settings.as_bytes());
        written.map_err(|e| unsupported(format!("failed to write settings for Java into /tmp ({e})")))?;
        let command = format!(
            "JFR.start name={} settings=/tmp/{file} disk=false duration={}s filename=/dev/null dumponexit=false",
            self.name(),
            (self.plan.slice + OVERTIME).as_secs()
        );
        match self.attach.command(&command, deadline) {
            Ok(answer) if answer.contains("Started recording") => Ok(()),
            Ok(answer) => Err(refused(&answer)),
            Err(failure) => {
                // It may have begun all the while that the answer was waited for.
                let soon = Deadline { by: Instant::now() + Duration::from_secs(1), ..deadline };
                let _ended = self.attach.command(&format!("JFR.stop name={}", self.name()), soon);
                Err(failure)
            }
        }
    }

    /// Ends the recording and gives back what it holds.
    ///
    /// # Errors
    /// It was ended by somebody else, or Java could not write it.
    pub fn stop(&self, deadline: Deadline<'_>) -> Result<Vec<u8>, Failure> {
        let file = self.file("jfr");
        let mut made = self.attach.place.make(&file)?;
        let command = format!("JFR.stop name={} filename=/tmp/{file}", self.name());
        let answer = self.attach.command(&command, deadline)?;
        if !answer.contains("Stopped recording") {
            return Err(refused(&answer));
        }
        let most = u64::try_from(Limits::default().bytes).unwrap_or(u64::MAX);
        made.content(most).map_err(|e| unsupported(format!("the recording of Java could not be read ({e})")))
    }

    /// Name of the recording under way. No other one ever has it: one that ended by itself stays in Java's list.
    fn name(&self) -> String {
        format!("{NAME}{}-{}", self.origin, self.number)
    }

    /// Name of a file; the same for every capture of the process, so that the next one removes what was left.
    fn file(&self, kind: &str) -> String {
        format!(".{NAME}{}.{kind}", self.attach.place.inner)
    }
}

/// Ends all recordings of fleetprof in a process and removes their files. For the watchdog, which cannot reach the
/// recorder.
pub fn undo(pid: i32, most: Duration) {
    let by = Instant::now() + most;
    let deadline = Deadline { by, is_aborted: &|| false };
    let Ok(attach) = Attach::open(pid, deadline) else {
        return;
    };
    for kind in ["jfc", "jfr"] {
        attach.place.remove(&format!(".{NAME}{}.{kind}", attach.place.inner));
    }
    let answer = attach.command("JFR.check", deadline).unwrap_or_default();
    for ours in recordings(&answer).filter(|recording| recording.runs && recording.name.starts_with(NAME)) {
        let _ended = attach.command(&format!("JFR.stop name={}", ours.name), deadline);
    }
}

/// A recording in Java's list.
struct Listed<'a> {
    name: &'a str,
    runs: bool,
}

/// `Recording 2: name=fleetprof-1-1 duration=40s (running)`.
fn recordings(list: &str) -> impl Iterator<Item = Listed<'_>> {
    list.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("Recording ")?.split_once(": ")?.1;
        let name = rest.strip_prefix("name=")?.split(' ').next()?;
        let over = ["(stopped)", "(closed)"];
        Some(Listed { name, runs: !over.iter().any(|state| line.trim_end().ends_with(state)) })
    })
}

/// Names of fleetprof's recordings that run.
///
/// # Errors
/// One of somebody else does, or Java cannot record.
fn foreign_and_ours(list: &str) -> Result<Vec<&str>, Failure> {
    let cannot = ["Module jdk.jfr not found", "Flight Recorder is disabled", "can not be enabled"];
    if cannot.iter().any(|said| list.contains(said)) {
        let text = format!(
            "Java has no flight recorder ({}): add the module jdk.jfr to the image (jlink --add-modules jdk.jfr)",
            said(list)
        );
        return Err(unsupported(text));
    }
    let (ours, others): (Vec<Listed<'_>>, Vec<_>) =
        recordings(list).filter(|r| r.runs).partition(|r| r.name.starts_with(NAME));
    match others.first() {
        Some(found) => Err(other(&format!("the recording \"{}\" runs", said(found.name)))),
        None => Ok(ours.iter().map(|recording| recording.name).collect()),
    }
}

/// Major version in an answer to `VM.version`: the line `JDK 17.0.15`, or `JDK 8.0_412`.
fn parse_version(answer: &str) -> Option<u32> {
    let version = answer.lines().find_map(|line| line.trim().strip_prefix("JDK "))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn loaded_profiler(pid: i32) -> Option<String> {
    let maps = crate::proc::maps(pid).unwrap_or_default();
    let mut files = maps.iter().filter_map(crate::proc::Mapping::file);
    let found = files.find(|file| PROFILERS.iter().any(|name| file.contains(name)))?;
    Some(said(found.rsplit('/').next().unwrap_or(found)))
}

fn other(what: &str) -> Failure {
    let text = format!(
        "another profiler is at work in the Java process: {what}. Each would \
         record the events of the other; stop it, or use what it records"
    );
    Failure::new(FailureReason::OtherProfiler, text)
}

/// # Errors
/// The container is so near to its limit that a recording could have it killed.
fn has_room(pid: i32) -> Result<(), Failure> {
    match room::left(pid) {
        Some(left) if left < NEEDED => Err(unsupported(format!(
            "the container has {} MB of memory left, and a recording of Java needs {} MB: raise its limit of \
             memory",
            left >> 20,
            NEEDED >> 20
        ))),
        _ => Ok(()),
    }
}

fn too_old() -> Failure {
    unsupported(format!("Java {OLDEST} or newer is needed: this version cannot record, or was never tried"))
}

fn refused(answer: &str) -> Failure {
    unsupported(format!("Java refused to record: {}", said(answer)))
}

fn unsupported(text: impl std::fmt::Display) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_of_every_age() {
        let version = |line: &str| parse_version(&format!("OpenJDK 64-Bit Server VM version x\n{line}\n"));
        assert_eq!(version("JDK 17.0.15"), Some(17));
        assert_eq!(version("JDK 25.0.3"), Some(25));
        assert_eq!(version("JDK 8.0_412"), Some(8));
        assert_eq!(version("OpenJ9"), None);
    }

    #[test]
    fn a_running_recording_of_somebody_else_is_told_from_ours_and_from_ended_ones() {
        assert!(
            foreign_and_ours("No available recordings.\n\nUse jcmd 1 JFR.start to start\n")
                .unwrap()
                .is_empty()
        );
        let ended = "Recording 1: name=nightly duration=1s (stopped)\n";
        let ours = "Recording 2: name=fleetprof-5-1 duration=40s (running)\n";
        assert_eq!(foreign_and_ours(&format!("{ended}{ours}")).unwrap(), ["fleetprof-5-1"]);
        for state in ["running", "delayed", "a new one"] {
            let theirs = format!("{ours}Recording 3: name=1 maxsize=250.0MB ({state})\n");
            let failure = foreign_and_ours(&theirs).unwrap_err();
            assert_eq!(failure.reason, FailureReason::OtherProfiler);
            assert!(failure.message.contains("the recording \"1\" runs"), "{failure}");
        }
    }

    #[test]
    fn java_without_a_recorder_says_what_to_add() {
        for answer in [
            "Module jdk.jfr not found.\nFlight Recorder can not be enabled.\n",
            "Flight Recorder is disabled.\n\n",
        ] {
            let failure = foreign_and_ours(answer).unwrap_err();
            assert_eq!(failure.reason, FailureReason::UnsupportedRuntime);
            assert!(failure.message.contains("jdk.jfr to the image"), "{failure}");
        }
    }
}
