//! How does the agent send commands to a running Java process? By HotSpot's attach mechanism, as `jcmd` does.
//!
//! ```text
//! .attach_pidN in /tmp + SIGQUIT ─► Java listens at .java_pidN in /tmp
//! connect ─► "1", "jcmd", command, "", "" ─► a code, a line end, and the text; one connection a command
//! ```
//! SIGQUIT ends a process that does not handle it, and has OpenJ9 write a dump, so it is sent only where neither
//! is so.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::Socket;

use super::place::Place;
use crate::capture::protocol::{Failure, FailureReason, bounded};
use crate::capture::sight::is_young;
use crate::capture::target_socket::{connect, is_passing};
use crate::proc;

/// How long Java that has just started may take to be ready.
const STARTS: Duration = Duration::from_secs(3);
/// How long Java may take to listen, after SIGQUIT.
const LISTENS: Duration = Duration::from_secs(6);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long one step of a connection may take before it is looked whether to give up.
const STEP: Duration = Duration::from_millis(100);
/// Most bytes of a short answer.
const MAX_ANSWER: usize = 1 << 20;
/// Most bytes of an answer that a failure shows.
const MAX_SAID: usize = 300;
/// Most entries of /tmp that are looked at.
const MAX_ENTRIES: usize = 4_096;
/// Most bytes of the file in which Java describes itself; it usually has half of that.
const MAX_PERF_DATA: u64 = 64 * 1024;
/// The name before the flags there; the first flag says whether Java accepts commands.
const CAPABILITIES: &[u8] = b"sun.rt.jvmCapabilities\0";

/// What bounds a conversation.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    /// When it must be over.
    pub by: Instant,
    /// Whether it is to be given up.
    pub is_aborted: &'a dyn Fn() -> bool,
}

impl Deadline<'_> {
    fn left(&self) -> Option<Duration> {
        let left = self.by.saturating_duration_since(Instant::now());
        (!left.is_zero() && !(self.is_aborted)()).then_some(left)
    }
}

/// A Java process that answers.
#[derive(Debug)]
pub struct Attach {
    pid: i32,
    /// Its `/tmp`.
    pub place: Place,
}

impl Attach {
    /// Has a Java process listen, where it does not yet.
    ///
    /// # Errors
    /// It cannot or will not, or the process belongs to another user.
    pub fn open(pid: i32, deadline: Deadline<'_>) -> Result<Self, Failure> {
        let attach = Self { pid, place: Place::open(pid)? };
        if attach.listens(deadline) {
            return Ok(attach);
        }
        attach.may_be_signalled()?;
        let trigger = attach.place.make(&format!(".attach_pid{}", attach.place.inner))?;
        kill(Pid::from_raw(pid), Signal::SIGQUIT).map_err(|errno| {
            let text = format!("failed to signal Java process {pid} ({})", errno.desc());
            Failure::new(FailureReason::PermissionDenied, text)
        })?;
        let by = deadline.by.min(Instant::now() + LISTENS);
        while (Deadline { by, ..deadline }).left().is_some() {
            if attach.connect().is_ok() {
                drop(trigger);
                return Ok(attach);
            }
            std::thread::sleep(LOOK);
        }
        Err(unsupported(format!(
            "Java process {pid} does not listen for commands within {} s",
            LISTENS.as_secs()
        )))
    }

    /// Whether Java listens already. One that has just started is waited for until it does, or handles the
    /// signal that has it listen.
    fn listens(&self, deadline: Deadline<'_>) -> bool {
        let starts = Deadline { by: deadline.by.min(Instant::now() + STARTS), ..deadline };
        while self.connect().is_err() {
            let handles = proc::caught_signals(self.pid).is_some_and(|all| all.holds(libc::SIGQUIT));
            if handles || !is_young(self.pid) || starts.left().is_none() {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// Whether SIGQUIT has Java listen, and does nothing else.
    fn may_be_signalled(&self) -> Result<(), Failure> {
        let maps = proc::maps(self.pid).unwrap_or_default();
        let has = |part: &str| maps.iter().filter_map(proc::Mapping::file).any(|file| file.contains(part));
        if has("/libj9vm") || !has("/libjvm.so") {
            return Err(unsupported("only HotSpot is supported: this Java virtual machine is another one"));
        }
        if !proc::caught_signals(self.pid).unwrap_or_default().holds(libc::SIGQUIT) {
            return Err(unsupported(super::NO_SIGNALS));
        }
        if self.is_disabled() {
            return Err(unsupported(super::DISABLED));
        }
        Ok(())
    }

    /// Whether Java says of itself that it accepts no commands; then SIGQUIT has it print all its stacks.
    fn is_disabled(&self) -> bool {
        let directory = std::fs::read_dir(self.place.path(".")).into_iter().flatten().flatten();
        let names = directory.take(MAX_ENTRIES).filter_map(|entry| entry.file_name().into_string().ok());
        let mut data = names
            .filter(|name| name.starts_with("hsperfdata_"))
            .take(64)
            .filter_map(|name| self.place.read(&format!("{name}/{}", self.place.inner), MAX_PERF_DATA).ok());
        data.any(|data| says_disabled(&data))
    }

    /// What Java answers to a command of `jcmd`.
    ///
    /// # Errors
    /// There is no answer in time, or Java does not know the command.
    pub fn command(&self, command: &str, deadline: Deadline<'_>) -> Result<String, Failure> {
        self.long_command(command, MAX_ANSWER, deadline)
    }

    /// The same for an answer of so many bytes at most.
    ///
    /// # Errors
    /// There is no answer in time, it is longer, or Java does not know the command.
    pub fn long_command(
        &self,
        command: &str,
        most: usize,
        deadline: Deadline<'_>,
    ) -> Result<String, Failure> {
        let failed = |e: io::Error| {
            unsupported(format!("Java process {} did not answer {} ({e})", self.pid, name_of(command)))
        };
        let answer = self.exchange(command, most, deadline).map_err(failed)?;
        if answer.is_empty() {
            let text = format!(
                "Java process {} refused a connection: it accepts commands of its own user and group only; set \
                 securityContext.runAsUser and runAsGroup of the container",
                self.pid
            );
            return Err(Failure::new(FailureReason::PermissionDenied, text));
        }
        let (code, text) = answer.split_once('\n').unwrap_or((answer.as_str(), ""));
        match code.trim() {
            "0" => Ok(text.to_owned()),
            _ => Err(unsupported(format!(
                "Java process {} refused {}: {}",
                self.pid,
                name_of(command),
                said(text)
            ))),
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        let path = self.place.path(&format!(".java_pid{}", self.place.inner));
        connect(&path, self.pid, STEP)
    }

    fn exchange(&self, command: &str, most: usize, deadline: Deadline<'_>) -> io::Result<String> {
        let mut socket = self.connect()?;
        let request = format!("1\0jcmd\0{command}\0\0\0");
        socket.write_all(request.as_bytes())?;
        let (mut answer, mut part) = (Vec::new(), [0; 16 * 1024]);
        loop {
            if deadline.left().is_none() {
                let _closed = socket.shutdown(Shutdown::Both);
                return Err(io::ErrorKind::TimedOut.into());
            }
            match socket.read(&mut part) {
                Ok(0) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
                Ok(n) if answer.len() + n > most => {
                    return Err(io::Error::other("the answer is too long"));
                }
                Ok(n) => answer.extend_from_slice(part.get(..n).unwrap_or_default()),
                Err(e) if is_passing(e.kind()) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// The first word of a command.
fn name_of(command: &str) -> &str {
    command.split(' ').next().unwrap_or_default()
}

/// What Java says, on one line, without what could fool a terminal.
pub fn said(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    bounded(words.join(" "), MAX_SAID)
}

fn unsupported(text: impl std::fmt::Display) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

/// Whether the flags in a file of `hsperfdata` begin with 0.
fn says_disabled(data: &[u8]) -> bool {
    let at = data.windows(CAPABILITIES.len()).position(|window| window == CAPABILITIES);
    let flags = at.and_then(|at| data.get(at + CAPABILITIES.len()..));
    flags.and_then(|flags| flags.iter().take(16).find(|byte| **byte != 0)) == Some(&b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_says_whether_it_accepts_commands() {
        let with = |flags: &[u8]| [b"\xca\xfe\xc0\xc0junk".as_slice(), CAPABILITIES, flags].concat();
        assert!(says_disabled(&with(b"0100000")));
        assert!(says_disabled(&with(b"\0\0\0\x000100000")));
        assert!(!says_disabled(&with(b"1100000")));
        assert!(!says_disabled(&with(b"")));
        assert!(!says_disabled(b"0"));
    }

    #[test]
    fn what_java_says_is_one_short_line() {
        assert_eq!(said("a\nb\t\x1b[31m c\r\n"), "a b [31m c");
        assert_eq!(said(&"x".repeat(1000)).len(), MAX_SAID);
    }

    #[test]
    fn a_process_without_java_is_not_signalled() {
        let me = i32::try_from(std::process::id()).unwrap();
        let deadline = Deadline { by: Instant::now() + STEP, is_aborted: &|| false };
        let failure = Attach::open(me, deadline).unwrap_err();
        assert!(failure.message.contains("only HotSpot"), "{failure}");
    }
}
