//! How does the agent send commands to a .NET process, and read the stream of a session?
//!
//! ```text
//! connect ─► command ─► answer            one connection a command
//! connect ─► Start ─► number ─► stream …  until Stop comes over a second connection, or the client is gone
//! ```
//! The runtime answers one command after another, and ends a session only while its stream is read.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_profile::read::nettrace::{Event, Limits, Reader};
use socket2::Socket;

use super::ipc::{self, Answer, Command, HEADER, Session};
use super::socket::{Absent, Listener};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::room;
use crate::capture::sight::is_young;
use crate::capture::target_socket::is_passing;
use crate::capture::undo::{Undo, on_timeout};

/// How long a .NET process that has just started may take to listen.
const STARTS: Duration = Duration::from_secs(3);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long one step of a connection may take before it is looked whether to give up.
const STEP: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Bytes of a stream that are read at a time.
const PART: usize = 64 * 1024;
/// Megabytes of events that the runtime may keep, and which part of the memory that its container has left.
const MOST_OF_METHODS: u32 = 256;
const MOST_OF_LIVE: u32 = 16;
const ROOM_SHARE: u64 = 4;
/// How long the watchdog may take to end a session.
const UNDONE: Duration = Duration::from_secs(1);

/// A .NET process that answers.
#[derive(Debug)]
pub struct Port {
    listener: Arc<Listener>,
}

impl Port {
    /// The diagnostics of a process; one that has just started is waited for.
    ///
    /// # Errors
    /// It has no socket, or none that this user may connect to.
    pub fn open(pid: i32) -> Result<Self, Failure> {
        let by = Instant::now() + STARTS;
        loop {
            match Listener::find(pid) {
                Ok(listener) => return Ok(Self { listener: Arc::new(listener) }),
                Err(Absent::Missing) if is_young(pid) && Instant::now() < by => std::thread::sleep(LOOK),
                Err(absent) => return Err(unsupported(absent.sentence())),
            }
        }
    }

    /// The runtime's version, such as `8.0.4`.
    ///
    /// # Errors
    /// It does not answer in time, or is older than .NET 6.
    pub fn version(&self, by: Instant) -> Result<String, Failure> {
        let (_socket, answer) = self.command(Command::Describe, by).map_err(|failure| {
            unsupported(format!("{failure}; .NET 6 or newer is needed to name managed methods"))
        })?;
        ipc::version(&answer).ok_or_else(|| unsupported("the .NET runtime does not tell its version"))
    }

    /// Begins a session. It ends with the result, and the watchdog ends it as well.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer in time.
    pub fn start(&self, session: Session, limits: Limits, by: Instant) -> Result<Stream, Failure> {
        let pid = self.listener.pid();
        let command = Command::Start(session, megabytes(session, room::left(pid)));
        let (socket, answer) = self.command(command, by)?;
        let number = ipc::session(&answer).ok_or_else(|| unsupported("the .NET runtime named no session"))?;
        let undo = on_timeout(move || undo(pid, number));
        let (listener, reader) = (Arc::clone(&self.listener), Reader::new(limits));
        Ok(Stream { listener, socket, number, reader, is_over: false, stopped: false, _undo: undo })
    }

    /// Sends a command. Gives back the connection, and what the answer holds.
    fn command(&self, command: Command, by: Instant) -> Result<(Socket, Vec<u8>), Failure> {
        let pid = self.listener.pid();
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::PermissionDenied => unsupported(Absent::Refused.sentence()),
            _ => unsupported(format!("the .NET runtime of process {pid} did not answer ({e})")),
        };
        let mut socket = self.listener.connect(STEP).map_err(failed)?;
        socket.write_all(&command.message()).map_err(failed)?;
        let mut header = [0; HEADER];
        read_exact(&mut socket, &mut header, by).map_err(failed)?;
        let answer = Answer::parse(&header).filter(|answer| answer.rest <= MAX_ANSWER);
        let answer = answer.ok_or_else(|| unsupported("what answers is not a .NET runtime"))?;
        let mut payload = vec![0; answer.rest];
        read_exact(&mut socket, &mut payload, by).map_err(failed)?;
        if answer.is_good {
            return Ok((socket, payload));
        }
        let code = ipc::code(&payload);
        Err(unsupported(format!("the .NET runtime of process {pid} refused a command with 0x{code:08x}")))
    }
}

/// Megabytes that the runtime may take for events that are not sent yet, where the container of the process has
/// so many bytes of memory left. The runtime takes no more than it needs: all its methods together, 350 bytes for
/// each, and drops what is beyond the limit.
fn megabytes(session: Session, left: Option<u64>) -> u32 {
    let most = match session {
        Session::Methods => MOST_OF_METHODS,
        Session::Live { .. } | Session::Threads => MOST_OF_LIVE,
    };
    let share = left.map_or(u64::MAX, |left| (left >> 20) / ROOM_SHARE).max(1);
    u32::try_from(share).unwrap_or(u32::MAX).min(most)
}

/// The stream of a session. The session ends with it.
pub struct Stream {
    listener: Arc<Listener>,
    socket: Socket,
    number: u64,
    reader: Reader,
    is_over: bool,
    stopped: bool,
    _undo: Undo,
}

impl Stream {
    /// Reads what comes until `until`, or until the stream is over; says whether it is.
    ///
    /// # Errors
    /// The stream is damaged or of another version.
    pub fn read(&mut self, until: Instant, sink: &mut dyn FnMut(Event<'_>)) -> Result<bool, Failure> {
        let mut part = vec![0; PART];
        while !self.is_over {
            match self.socket.read(&mut part) {
                Ok(0) => self.is_over = true,
                Ok(n) => {
                    let bytes = part.get(..n).unwrap_or_default();
                    self.reader.push(bytes, sink).map_err(unsupported)?;
                }
                Err(e) if is_passing(e.kind()) => {}
                // The process has ended.
                Err(_) => self.is_over = true,
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(self.is_over)
    }

    /// Ends the session, and reads what the runtime still sends of it until `by`.
    ///
    /// # Errors
    /// The runtime does not end it in time, or the stream is damaged; the connection closes in any case,
    /// which ends the session at its next event.
    pub fn stop(
        &mut self,
        by: Instant,
        is_aborted: &dyn Fn() -> bool,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        if std::mem::replace(&mut self.stopped, true) || self.is_over {
            return Ok(());
        }
        let asked = send_stop(&self.listener, self.number);
        let mut asked =
            asked.map_err(|e| unsupported(format!("the .NET runtime did not end a session ({e})")))?;
        while Instant::now() < by && !is_aborted() {
            if self.read(Instant::now() + STEP, sink)? {
                // It comes when all is sent. Nobody depends on it.
                let _answered = read_exact(&mut asked, &mut [0; HEADER], Instant::now());
                return Ok(());
            }
        }
        Err(unsupported("the .NET runtime did not end a session in time"))
    }

    /// Whether the stream has come to its end as it should.
    pub fn is_whole(&self) -> bool {
        self.reader.is_over()
    }
}

impl Drop for Stream {
    /// A session that nobody has ended would last until its next event.
    fn drop(&mut self) {
        let _ended = self.stop(Instant::now() + UNDONE, &|| false, &mut |_| {});
    }
}

/// Asks for the end of a session. The connection must stay open until the runtime has read what was written.
fn send_stop(listener: &Listener, number: u64) -> io::Result<Socket> {
    let mut socket = listener.connect(STEP)?;
    socket.write_all(&Command::Stop(number).message())?;
    Ok(socket)
}

/// Ends a session of a process. For the watchdog, which cannot reach the stream.
fn undo(pid: i32, number: u64) {
    let Ok(listener) = Listener::find(pid) else { return };
    let Ok(mut socket) = send_stop(&listener, number) else { return };
    let _answered = read_exact(&mut socket, &mut [0; HEADER], Instant::now() + UNDONE);
}

fn read_exact(socket: &mut Socket, bytes: &mut [u8], by: Instant) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match socket.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if is_passing(e.kind()) && Instant::now() < by => {}
            Err(e) if is_passing(e.kind()) => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn unsupported(text: impl std::fmt::Display) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A process, this one, whose socket answers each command with what `answer` gives and then closes.
    fn answering(answer: impl Fn(&mut UnixStream) + Send + 'static) -> Port {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleetprof-diagnostic-{}-{number}", std::process::id());
        let server = UnixListener::bind(std::env::temp_dir().join(&name)).unwrap();
        std::thread::spawn(move || {
            for mut client in server.incoming().flatten() {
                let mut header = [0; HEADER];
                if client.read_exact(&mut header).is_ok() {
                    answer(&mut client);
                }
            }
        });
        Port { listener: Arc::new(Listener::of_this_process(&std::env::temp_dir(), name)) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(300)
    }

    /// For what is sure to answer.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn says(bytes: &'static [u8]) -> impl Fn(&mut UnixStream) + Send + 'static {
        move |client| {
            let _sent = client.write_all(bytes);
        }
    }

    #[test]
    fn events_take_a_part_of_the_memory_that_is_left() {
        let live = Session::Live { allocations: true };
        let cases = [
            (Session::Methods, None, 256),
            (Session::Methods, Some(400 << 20), 100),
            (live, None, 16),
            (live, Some(40 << 20), 10),
            (live, Some(0), 1),
        ];
        for (session, left, wanted) in cases {
            assert_eq!(megabytes(session, left), wanted, "{session:?} {left:?}");
        }
    }

    #[test]
    fn whatever_answers_is_bounded_in_time_and_size() {
        let refusal = b"DOTNET_IPC_V1\0\x18\0\xff\xff\0\0\x85\x13\x13\x80";
        let cases: [(Port, &str); 4] = [
            (answering(says(b"HTTP/1.1 400 Bad Request\r\n")), "is not a .NET runtime"),
            (answering(says(refusal)), "refused a command with 0x80131385; .NET 6 or newer"),
            (answering(says(b"DOTNET")), "did not answer"),
            (answering(says(b"DOTNET_IPC_V1\0\xff\xff\xff\0\0\0few")), "did not answer"),
        ];
        let answers = cases.map(|(port, wanted)| (port, wanted, later()));
        let hangs = answering(|_| std::thread::sleep(Duration::from_secs(60)));
        for (port, wanted, by) in answers.into_iter().chain([(hangs, "did not answer (timed out)", soon())]) {
            let start = Instant::now();
            let failure = port.version(by).unwrap_err();
            assert_eq!(failure.reason, FailureReason::UnsupportedRuntime);
            assert!(failure.message.contains(wanted), "{failure}");
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn a_stream_that_is_none_is_an_error_and_one_that_never_ends_is_left() {
        let started = b"DOTNET_IPC_V1\0\x1c\0\xff\0\0\0\x07\0\0\0\0\0\0\0";
        let junk = answering(move |client| {
            let _sent = client.write_all(started).and_then(|()| client.write_all(b"junk"));
        });
        let mut stream = junk.start(Session::Methods, Limits::default(), later()).unwrap();
        let failure = stream.read(later(), &mut |_| {}).unwrap_err();
        assert!(failure.message.contains("does not begin with Nettrace"), "{failure}");

        let hangs = answering(move |client| {
            let _sent = client.write_all(started);
            std::thread::sleep(Duration::from_secs(60));
        });
        let mut stream = hangs.start(Session::Methods, Limits::default(), later()).unwrap();
        let start = Instant::now();
        let failure = stream.stop(soon(), &|| false, &mut |_| {}).unwrap_err();
        assert!(failure.message.contains("in time"), "{failure}");
        assert!(!stream.is_whole());
        drop(stream);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
