//! How is .NET profiled? CPU by its machine code, with the names of methods that the runtime tells, and the
//! lines that their debug information does; allocations by the runtime's own events.
//!
//! ```text
//! socket (in the process's TMPDIR) ─► session (start, read, stop) ─► thread: methods, allocations ┐
//! native (perf, else ptrace) ─► stacks of addresses ──────────────────────────────────────────────┼► slices
//! sessions of the sampler, for some ticks ─► stacks of threads (wall) ───────────────────────────┘
//! program ─► symbols (PDB beside the assembly, or in it) ─► lines
//! ```
//! The runtime has a sampler of its own. For CPU it is not used: it stops all threads at each tick, and
//! counts those that wait like those that run. That is what wall time needs.

mod capture;
mod ipc;
mod program;
mod session;
mod socket;
mod symbols;
mod threads;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

use self::capture::DotNetCapture;
use self::socket::{Absent, Listener};
use super::collector::{Ask, Attached, Attaches, Collector};
use super::protocol::Failure;
use super::runtime::Runtime;
use super::sight::Sight;

/// The collector.
pub struct EventPipe;

/// The row of the table of collectors.
pub const EVENT_PIPE: EventPipe = EventPipe;

/// What is known of the diagnostics of a .NET process before it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Option<Absent>);

/// Whether a .NET process has diagnostics; does nothing to it.
#[must_use]
pub fn look(pid: i32) -> Diagnostics {
    Diagnostics(Listener::find(pid).err())
}

impl Collector for EventPipe {
    fn name(&self) -> &'static str {
        "eventpipe"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu, ProfileKind::Wall, ProfileKind::Alloc]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::DotNet {
            return Vec::new();
        }
        self.offered(obstacle(sight))
    }
}

impl Attaches for EventPipe {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        DotNetCapture::begin(ask)
    }
}

/// Why a .NET process is out of reach. One that has just started may still open its socket.
pub(super) fn obstacle(sight: &Sight) -> Option<&'static str> {
    let absent = sight.diagnostics.0.as_ref()?;
    (!sight.is_young || *absent != Absent::Missing).then(|| absent.sentence())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(absent: Option<Absent>, is_young: bool) -> Option<String> {
        let diagnostics = Diagnostics(absent);
        let offers = EVENT_PIPE.offers(&Sight { diagnostics, is_young, ..Sight::new(1, Runtime::DotNet) });
        assert_eq!(offers.len(), 3);
        offers[1].problem.clone().map(|problem| problem.message)
    }

    #[test]
    fn dotnet_is_offered_where_it_has_a_socket_or_may_still_open_one() {
        assert_eq!(problem(None, false), None);
        assert_eq!(problem(Some(Absent::Missing), true), None);
        assert_eq!(EVENT_PIPE.offers(&Sight::new(1, Runtime::Native)), []);
    }

    #[test]
    fn dotnet_without_a_socket_says_what_to_change() {
        let missing = problem(Some(Absent::Missing), false).unwrap();
        assert!(missing.contains("mount an emptyDir at /tmp"), "{missing}");
        let disabled = problem(Some(Absent::Disabled), true).unwrap();
        assert!(disabled.contains("DOTNET_EnableDiagnostics is 0; remove"), "{disabled}");
    }
}
