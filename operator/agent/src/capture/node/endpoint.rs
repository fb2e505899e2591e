//! How does one get to the inspector of a process? It may be open already; a signal opens it.
//!
//! ```text
//! asked for (--inspect)  ─► it is left open
//! open at its usual port ─► left behind by an agent that was killed: used, and closed afterwards
//! closed                 ─► SIGUSR1, only where Node.js handles it ─► a new listener ─► closed afterwards
//! ```
//! Listeners are those among the process's own files: at the same port another process may listen.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::websocket::{connect, fill, read_head};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::sight::Sight;
use crate::proc;

/// Where Node.js opens its inspector if nobody says otherwise.
const USUAL_PORT: u16 = 9229;
/// How long another process may hold the port before it is an obstacle: a capture by this agent moves on at once.
const PORT_IN_USE: Duration = Duration::from_secs(3);
/// How long an inspector takes to open. A signal is served between two functions, so at once but for long
/// system calls.
const OPENS: Duration = Duration::from_secs(5);
/// How long a process that has just started may take until it handles the signal.
const STARTS: Duration = Duration::from_secs(3);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a listener may take to say what it is.
const ANSWERS: Duration = Duration::from_secs(2);
/// Most listeners that are asked.
const MAX_ASKED: usize = 4;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// Processes that were signalled and did not open their inspector: they handle the signal themselves, and are
/// not sent it a second time.
static SIGNALLED: Mutex<BTreeSet<(i32, u64)>> = Mutex::new(BTreeSet::new());

/// An open inspector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path of its WebSocket.
    pub path: String,
    /// Whether its user asked for it, so that it stays open.
    pub is_asked_for: bool,
    /// The port at which it opens by itself.
    pub port: u16,
}

/// Why a process has no way to an inspector, as far as its arguments and signals tell. One that has just started
/// may come to handle the signal.
pub fn obstacle(sight: &Sight) -> Option<String> {
    if is_asked_for(sight) {
        return None;
    }
    if sight.host_network {
        return Some(EXPOSED.to_owned());
    }
    let may_come = sight.is_young && !sight.arguments.hold("--disable-sigusr1");
    (!is_handled(sight) && !may_come).then(deaf)
}

fn is_handled(sight: &Sight) -> bool {
    sight.caught.holds(Signal::SIGUSR1 as i32)
}

fn is_handled_now(pid: i32) -> bool {
    proc::caught_signals(pid).is_some_and(|caught| caught.holds(Signal::SIGUSR1 as i32))
}

/// Why the inspector is not opened in a pod that shares the node's network.
const EXPOSED: &str = "the pod shares the node's network (hostNetwork), where every process of the node could run \
                       code in it through its inspector, so that it is not opened: start it with \
                       --inspect=127.0.0.1:9229 if that is wanted";

fn deaf() -> String {
    "the process does not handle SIGUSR1, which opens the inspector of Node.js, and would end by it: it has just \
     started, or runs with --disable-sigusr1; start it with --inspect=127.0.0.1:9229"
        .to_owned()
}

fn is_asked_for(sight: &Sight) -> bool {
    sight.arguments.begin("--inspect") && !sight.arguments.begin("--inspect-port")
}

/// The port that the arguments name, or the usual one.
fn port_of(sight: &Sight) -> u16 {
    let flags = ["--inspect-port=", "--inspect=", "--inspect-brk=", "--inspect-wait="];
    let named = flags.iter().find_map(|flag| sight.arguments.after(flag));
    named.map_or(USUAL_PORT, port_in)
}

/// `9230`, `host:9230`, `[::1]:9230`; a host alone has the usual port.
fn port_in(text: &str) -> u16 {
    text.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(USUAL_PORT)
}

/// The inspector of a process; opened where it is not open, at the latest after eleven seconds.
///
/// # Errors
/// There is no way to it, or somebody else uses it.
pub fn open(sight: &Sight) -> Result<Endpoint, Failure> {
    let pid = sight.pid;
    if !proc::shares_network(pid) {
        return Err(refused(format!(
            "the inspector of process {pid} is only reached from its own network namespace: profile it with \
             an agent in its pod"
        )));
    }
    let (port, is_asked_for) = (port_of(sight), is_asked_for(sight));
    let listeners = listeners(pid)?;
    // Port 0 is any.
    let is_likely = |at: &&SocketAddr| at.port() == port || port == 0 && is_asked_for;
    match inspector_among(listeners.iter().filter(is_likely).copied()) {
        Some((address, path)) => free(pid, Endpoint { address, path, is_asked_for, port }),
        None => opened(sight, port, &listeners),
    }
}

/// Opens the inspector and finds it.
fn opened(sight: &Sight, port: u16, before: &[SocketAddr]) -> Result<Endpoint, Failure> {
    // It may have been asked for, and closed since.
    let exposed = sight.host_network.then(|| EXPOSED.to_owned());
    if let Some(reason) = exposed.or_else(|| obstacle(sight)) {
        return Err(refused(reason));
    }
    signal(sight, port)?;
    let by = Instant::now() + OPENS;
    let mut found = None;
    while found.is_none() && Instant::now() < by {
        std::thread::sleep(LOOK);
        let new = listeners(sight.pid)?.into_iter().filter(|at| !before.contains(at));
        found = inspector_among(new);
    }
    // An agent that was killed may have left it at a port of its own.
    let is_left = |at: &SocketAddr| at.ip().is_loopback() && at.port() != port;
    let found = found.or_else(|| inspector_among(before.iter().copied().filter(is_left)));
    let (address, path) = found.ok_or_else(|| stays_closed(sight.pid))?;
    unsignalled(sight.pid);
    free(sight.pid, Endpoint { address, path, is_asked_for: false, port })
}

/// The first of some listeners that is an inspector, and the path of its WebSocket.
fn inspector_among(listeners: impl Iterator<Item = SocketAddr>) -> Option<(SocketAddr, String)> {
    listeners.take(MAX_ASKED).find_map(|at| Some((at, ask(at)?)))
}

/// An inspector that nobody is connected to.
fn free(pid: i32, endpoint: Endpoint) -> Result<Endpoint, Failure> {
    match proc::clients(pid, endpoint.address) {
        0 => Ok(endpoint),
        _ => Err(refused(format!(
            "a debugger is connected to the inspector of process {pid} at {}: disconnect it",
            endpoint.address
        ))),
    }
}

/// Sends the signal that opens it, to the process that was seen and to no other.
fn signal(sight: &Sight, port: u16) -> Result<(), Failure> {
    let pid = sight.pid;
    let by = Instant::now() + PORT_IN_USE;
    while proc::is_listened_at(pid, port) {
        if Instant::now() > by {
            return Err(refused(format!(
                "port {port}, at which process {pid} would open its inspector, is in use by another process \
                 of the pod: give one of them another port (--inspect-port)"
            )));
        }
        std::thread::sleep(LOOK);
    }
    let stat = proc::stat(pid).map_err(|e| gone(pid, &e))?;
    if matches!(stat.state, b'T' | b't') {
        return Err(refused(format!("process {pid} is stopped, so that its inspector cannot open")));
    }
    if !SIGNALLED.lock().unwrap_or_else(PoisonError::into_inner).insert((pid, stat.start_ticks)) {
        return Err(stays_closed(pid));
    }
    // Looked at last of all: another program in the same process may not handle the signal.
    let by = Instant::now() + STARTS;
    while !is_handled_now(pid) {
        if !sight.is_young || Instant::now() > by {
            unsignalled(pid);
            return Err(refused(deaf()));
        }
        std::thread::sleep(LOOK);
    }
    kill(Pid::from_raw(pid), Signal::SIGUSR1).map_err(|e| {
        let text = format!("SIGUSR1 could not be sent to process {pid} ({e}): run the agent as its user");
        Failure::new(FailureReason::PermissionDenied, text)
    })
}

/// The process was not sent the signal, or opened its inspector after it.
fn unsignalled(pid: i32) {
    SIGNALLED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != pid);
}

fn listeners(pid: i32) -> Result<Vec<SocketAddr>, Failure> {
    proc::listeners(pid).map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            let text =
                format!("the files of process {pid} may not be looked at ({e}): run the agent as its user");
            Failure::new(FailureReason::PermissionDenied, text)
        }
        _ => gone(pid, &e),
    })
}

fn gone(pid: i32, error: &std::io::Error) -> Failure {
    Failure::new(FailureReason::NoSuchProcess, format!("process {pid} is not there any more: {error}"))
}

/// A failure after which another collector may take the process.
pub fn refused(text: String) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

fn stays_closed(pid: i32) -> Failure {
    refused(format!(
        "process {pid} did not open its inspector within {} s of SIGUSR1: it handles the signal itself, runs \
         with --permission, or is in a long system call; start it with --inspect=127.0.0.1:9229",
        OPENS.as_secs()
    ))
}

/// One entry of what an inspector says of itself.
#[derive(Deserialize)]
struct Target {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The path of the WebSocket of a listener that is an inspector of Node.js.
pub fn ask(address: SocketAddr) -> Option<String> {
    let by = Instant::now() + ANSWERS;
    let body = get(address, by).ok()?;
    path_in(&body)
}

fn get(address: SocketAddr, by: Instant) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(address, by)?;
    let ask = format!("GET /json/list HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, ask.as_bytes())?;
    let (head, mut body) = read_head(&mut stream, by)?;
    // The connection may stay open, so that the length alone tells the end.
    let length = length_in(&head).filter(|length| *length <= MAX_ANSWER);
    let length = length.ok_or_else(|| std::io::Error::other("it does not say how long its answer is"))?;
    while body.len() < length {
        if !fill(&mut stream, &mut body, by)? {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
    }
    body.truncate(length);
    Ok(body)
}

fn length_in(head: &str) -> Option<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

/// The path of the first target, if it is one of Node.js.
fn path_in(body: &[u8]) -> Option<String> {
    let targets: Vec<Target> = serde_json::from_slice(body).ok()?;
    let id = targets.into_iter().find(|target| target.kind == "node")?.id;
    let is_plain = id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (is_plain && !id.is_empty()).then(|| format!("/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::runtime::Runtime;
    use crate::capture::sight::Arguments;

    fn sight(caught: &str, arguments: &[&str]) -> Sight {
        Sight {
            caught: proc::parse_caught(&format!("SigCgt:\t{caught}\n")).unwrap(),
            arguments: Arguments::parse(arguments.join("\0").as_bytes()),
            ..Sight::new(7, Runtime::Node)
        }
    }

    #[test]
    fn only_a_signal_that_is_handled_is_sent() {
        // Bit 9 is signal 10, SIGUSR1.
        let cases: [(&str, &[&str], bool); 6] = [
            ("0000000100004602", &["node", "app.js"], true),
            ("0000000100004402", &["node", "--disable-sigusr1", "app.js"], false),
            ("0000000000000000", &["node"], false),
            ("0000000000000000", &["node", "--inspect", "app.js"], true),
            ("0000000000000000", &["node", "--inspect-brk=0.0.0.0:9230", "app.js"], true),
            ("0000000000000000", &["node", "--inspect-port=9230", "app.js"], false),
        ];
        for (caught, arguments, wanted) in cases {
            let obstacle = self::obstacle(&sight(caught, arguments));
            assert_eq!(obstacle.is_none(), wanted, "{arguments:?}: {obstacle:?}");
            let young = Sight { is_young: true, ..sight(caught, arguments) };
            let may_come = !arguments.contains(&"--disable-sigusr1");
            assert_eq!(self::obstacle(&young).is_none(), may_come, "{arguments:?}");
        }
    }

    #[test]
    fn no_inspector_is_opened_where_the_whole_node_would_reach_it() {
        let cases: [(&[&str], bool); 3] = [
            (&["node", "app.js"], false),
            (&["node", "--inspect"], true),
            (&["node", "--inspect-port=0"], false),
        ];
        for (arguments, wanted) in cases {
            let sight = Sight { host_network: true, is_young: true, ..sight("0000000100004602", arguments) };
            let obstacle = obstacle(&sight);
            assert_eq!(obstacle.is_none(), wanted, "{arguments:?}: {obstacle:?}");
            assert!(obstacle.is_none_or(|text| text.contains("hostNetwork")));
        }
    }

    #[test]
    fn the_port_is_what_the_arguments_say() {
        for (argument, wanted) in [
            ("app.js", 9229),
            ("--inspect", 9229),
            ("--inspect=9230", 9230),
            ("--inspect-brk=0.0.0.0:9231", 9231),
            ("--inspect=[::1]:9232", 9232),
            ("--inspect=localhost", 9229),
            ("--inspect-port=9233", 9233),
        ] {
            assert_eq!(port_of(&sight("0", &["node", argument])), wanted, "{argument}");
        }
    }

    #[test]
    fn an_inspector_is_told_by_its_answer() {
        let of = |body: &str| path_in(body.as_bytes());
        assert_eq!(of(r#"[ {"id":"bb3a-7","type":"node","title":"app.js"} ]"#).as_deref(), Some("/bb3a-7"));
        for strange in [
            "",
            "[]",
            "{}",
            r#"[{"id":"x","type":"page"}]"#,
            r#"[{"id":"a/../b","type":"node"}]"#,
            r#"[{"id":"a b","type":"node"}]"#,
            r#"[{"id":"","type":"node"}]"#,
        ] {
            assert_eq!(of(strange), None, "{strange}");
        }
        assert_eq!(length_in("HTTP/1.0 200 OK\r\ncontent-length: 12\r\n\r\n"), Some(12));
        assert_eq!((length_in("HTTP/1.0 200 OK\r\n\r\n"), length_in("Content-Length: -1")), (None, None));
    }

    #[test]
    fn an_endless_answer_is_not_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = b"HTTP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n";
            let _sent = std::io::Write::write_all(&mut stream, &[head.as_slice(), &[b'x'; 999_999]].concat());
        });
        assert_eq!(ask(address), None);
    }
}
