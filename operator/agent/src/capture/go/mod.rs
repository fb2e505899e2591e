//! What does a Go program tell of itself? The profiles of `net/http/pprof`, where one of its own listeners
//! serves them.
//!
//! ```text
//! program (names) ─► listeners of the process ─► GET /debug/pprof/ ─► pulls: cpu again and again ───────┐
//!                                                                     alloc, lock, block: begin and end ├► slices
//!                                                                     heap, goroutine: at the end ──────┤
//!                                                 goroutines: wall, several times a second ──────────────┘
//! ```
//! Only a program that holds the handlers is asked, and at its own listeners alone: nothing else in the pod
//! is connected to. Go captures CPU at 100 Hz, and one at a time: where another client does so already, the
//! next collector takes CPU.

mod goroutines;
mod http;
mod program;
mod pulls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

use self::http::Bounds;
use self::pulls::{Pulls, Source};
use super::collector::{Ask, Attached, Attaches, Collector};
use super::protocol::{Failure, FailureReason};
use super::runtime::Runtime;
use super::sight::Sight;
use crate::proc;

/// The page that lists the profiles.
const INDEX: &str = "/debug/pprof/";
/// What it holds, whatever its look: links to the profiles.
const LINKS: [&str; 2] = ["goroutine?debug=1", "heap?debug=1"];
/// Most bytes of the page.
const MAX_INDEX: usize = 64 * 1024;
/// Most listeners that are asked, and how long all of them may take.
const MAX_ASKED: usize = 8;
const ASKED: Duration = Duration::from_secs(1);
/// How long one of them may take.
const ONE_ASKED: Duration = Duration::from_millis(400);
/// The port that the documentation of the package uses.
const USUAL_PORT: u16 = 6060;

/// Whether, and where, a process serves its profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pprof {
    /// It was not looked at.
    #[default]
    Unknown,
    /// Its program cannot.
    Absent,
    /// Its program could, and why it does not.
    Unserved(String),
    /// It does, at this address.
    Served(SocketAddr),
}

/// The collector.
pub struct GoPprof;

/// The row of the table of collectors.
pub const GO_PPROF: GoPprof = GoPprof;

impl Collector for GoPprof {
    fn name(&self) -> &'static str {
        "go-pprof"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        use ProfileKind::{Alloc, Block, Cpu, Goroutine, Heap, Lock, Wall};
        &[Cpu, Wall, Alloc, Heap, Lock, Block, Goroutine]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if !matches!(sight.runtime, Runtime::Go(_)) {
            return Vec::new();
        }
        let problem = match &sight.pprof {
            Pprof::Served(_) => None,
            Pprof::Unserved(why) => Some(format!("{why}; serve net/http/pprof at a port, if only of localhost")),
            Pprof::Absent | Pprof::Unknown => Some(
                "the Go program does not hold net/http/pprof: import the package and serve it at a port, if only \
                 of localhost"
                    .to_owned(),
            ),
        };
        self.offered(problem.as_deref())
    }
}

impl Attaches for GoPprof {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let Pprof::Served(server) = ask.sight.pprof else {
            let message = "the process does not serve net/http/pprof";
            return Err(Failure::new(FailureReason::UnsupportedRuntime, message));
        };
        let Ask { memory, frequency_hz, slice, until, .. } = *ask;
        let source = Source { pid: ask.sight.pid, server, memory, frequency_hz, slice, until };
        let (pulls, refused) = Pulls::begin(source, ask.kinds)?;
        let why = format!("the program serves net/http/pprof at {server}");
        Ok(Attached { method: "go-pprof", why, capture: Box::new(pulls), refused })
    }
}

/// Whether a Go process serves its profiles. Asks its own listeners, for a second at most.
#[must_use]
pub fn look(pid: i32) -> Pprof {
    match program::can_serve(pid) {
        Ok(true) => {}
        Ok(false) => return Pprof::Absent,
        Err(e) => return Pprof::Unserved(format!("the Go program could not be read ({e})")),
    }
    if !proc::shares_network(pid) {
        return Pprof::Unserved("the process is in another network namespace than the agent".to_owned());
    }
    let listeners = match proc::listeners(pid) {
        Ok(listeners) => listeners,
        Err(e) => return Pprof::Unserved(format!("the listeners of the process could not be read ({e})")),
    };
    if listeners.is_empty() {
        return Pprof::Unserved("the process does not listen at any TCP port".to_owned());
    }
    ask(listeners)
}

/// Asks listeners, the likeliest first.
fn ask(mut listeners: Vec<SocketAddr>) -> Pprof {
    listeners
        .sort_by_key(|address| (address.port() != USUAL_PORT, !address.ip().is_loopback(), address.port()));
    listeners.truncate(MAX_ASKED);
    let by = Instant::now() + ASKED;
    let mut why = None;
    for server in listeners.iter().flat_map(|listener| reachable(*listener)) {
        let bounds =
            Bounds { by: by.min(Instant::now() + ONE_ASKED), body: MAX_INDEX, is_aborted: &|| false };
        match http::get(server, INDEX, &bounds) {
            Ok(page) if lists_profiles(&page) => return Pprof::Served(server),
            Ok(_) => why = why.or(Some(format!("the answer of {server} is another page"))),
            Err(error) => why = why.or(Some(format!("{server}: {error}"))),
        }
    }
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Pprof::Unserved(format!("no listener of the process serves {INDEX}{why}"))
}

fn lists_profiles(page: &[u8]) -> bool {
    let text = String::from_utf8_lossy(page);
    LINKS.iter().all(|link| text.contains(link))
}

/// Where a listener is reached from within the pod: one that listens everywhere at the loopback address. An
/// IPv6 socket mostly takes IPv4 connections as well.
fn reachable(listener: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, listener.port());
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]
        }
        _ => vec![listener],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(runtime: Runtime, pprof: Pprof) -> Vec<Offer> {
        GO_PPROF.offers(&Sight { pprof, ..Sight::new(1, runtime) })
    }

    #[test]
    fn everything_is_offered_where_it_is_served_and_nothing_of_other_runtimes() {
        let served = Pprof::Served("127.0.0.1:6060".parse().unwrap());
        let good = offers(Runtime::Go(None), served.clone());
        assert!(good.len() == 7 && good.iter().all(|offer| offer.problem.is_none()));
        assert_eq!(offers(Runtime::Native, served), []);
        for (pprof, wanted) in [
            (Pprof::Absent, "import the package"),
            (Pprof::Unserved("no listener".into()), "no listener; serve net/http/pprof at a port"),
        ] {
            let bad = offers(Runtime::Go(None), pprof);
            let says = |offer: &Offer| offer.problem.as_ref().is_some_and(|p| p.message.contains(wanted));
            assert!(bad.len() == 7 && bad.iter().all(says), "{bad:?}");
        }
    }

    #[test]
    fn a_listener_is_reached_at_an_address_of_the_pod() {
        let cases = [
            ("0.0.0.0:80", vec!["127.0.0.1:80"]),
            ("[::]:6060", vec!["127.0.0.1:6060", "[::1]:6060"]),
            ("10.1.2.3:9", vec!["10.1.2.3:9"]),
            ("[fd00::1]:9", vec!["[fd00::1]:9"]),
        ];
        for (listener, wanted) in cases {
            let reached: Vec<String> =
                reachable(listener.parse().unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(reached, wanted);
        }
    }

    #[test]
    fn only_the_page_of_the_package_counts() {
        assert!(lists_profiles(b"<a href='goroutine?debug=1'>9</a><a href='heap?debug=1'>4</a>"));
        assert!(!lists_profiles(b"<html>every path has this page</html>"));
        assert!(!lists_profiles(b""));
    }
}
