//! What does Java tell of itself? CPU, allocations and locks, by its flight recorder (JFR), what its threads
//! do, and what its heap holds.
//!
//! ```text
//! attach (socket in the process's /tmp) ─► recorder (JFR.start, JFR.stop) ─► capture: a recording for each slice
//!      │  └─ place: files in that /tmp        └─ settings: which events           └─► profiles
//!      ├─► threads (Thread.print): wall time, several times a second
//!      └─► heap (GC.class_histogram): objects by class, once
//! ```

mod attach;
mod capture;
mod heap;
mod own_threads;
mod place;
mod recorder;
mod settings;
mod threads;

use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

use self::attach::{Attach, Deadline};
use self::capture::Recordings;
pub use self::heap::JVM_HEAP;
pub use self::threads::JVM_THREADS;
use super::collector::{Ask, Attached, Attaches, Collector};
use super::protocol::Failure;
use super::runtime::Runtime;
use super::sight::Sight;

/// Java that may not be sent SIGQUIT, which has it listen. With -Xrs it listens from its start.
const NO_SIGNALS: &str = "Java does not listen for commands, nor does it handle SIGQUIT, which would have it listen: \
                          it is still starting";
/// Java that was told not to listen.
const DISABLED: &str = "Java does not listen for commands: it runs with -XX:+DisableAttachMechanism; start it \
                        without";

/// The collector.
pub struct Jfr;

/// The row of the table of collectors.
pub const JFR: Jfr = Jfr;

impl Collector for Jfr {
    fn name(&self) -> &'static str {
        "jfr"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &settings::KINDS
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Jvm {
            return Vec::new();
        }
        self.offered(obstacle(sight))
    }
}

impl Attaches for Jfr {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let (capture, version) = Recordings::begin(ask)?;
        let how =
            if version >= settings::CPU_TIME_SAMPLES { "by CPU time" } else { "threads that run Java code" };
        let why = format!("Java {version} records itself; CPU samples are of {how}");
        Ok(Attached { method: "jfr", why, capture: Box::new(capture), refused: Vec::new() })
    }
}

/// What Java answers to a command of `jcmd`, within so long.
///
/// # Errors
/// Java does not accept commands, or does not know this one.
pub fn ask(pid: i32, command: &str, most: Duration) -> Result<String, Failure> {
    let deadline = Deadline { by: Instant::now() + most, is_aborted: &|| false };
    Attach::open(pid, deadline)?.command(command, deadline)
}

/// Why Java accepts no commands, as far as its command line says.
fn obstacle(sight: &Sight) -> Option<&'static str> {
    sight.arguments.hold("-XX:+DisableAttachMechanism").then_some(DISABLED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::sight::Arguments;

    fn offers(arguments: &[u8]) -> Vec<Offer> {
        JFR.offers(&Sight { arguments: Arguments::parse(arguments), ..Sight::new(1, Runtime::Jvm) })
    }

    #[test]
    fn java_is_offered_where_it_accepts_commands() {
        for arguments in [b"java\0-jar\0app.jar".as_slice(), b"java\0-Xrs"] {
            let good = offers(arguments);
            assert!(good.len() == 3 && good.iter().all(|offer| offer.problem.is_none()), "{good:?}");
        }
        assert_eq!(JFR.offers(&Sight::new(1, Runtime::Node)), []);
    }

    #[test]
    fn java_that_does_not_listen_is_a_problem_that_says_what_to_change() {
        let bad = offers(b"java\0-XX:+DisableAttachMechanism");
        let says =
            |offer: &Offer| offer.problem.as_ref().is_some_and(|p| p.message.contains("start it without"));
        assert!(bad.len() == 3 && bad.iter().all(says), "{bad:?}");
    }
}
