//! Where does a target spend its CPU time and its wall time, by its machine code? Of CPU time perf events
//! tell first, ptrace where these are refused.
//!
//! ```text
//! perf: registers + stack of each sample ─┐
//! ptrace: the same of a stopped thread ───┼─► space (framehop) ─► stacks ─► symbols (blazesym) ─► slice
//! wall: the same, or the stack of one ────┘
//!       that waits, which is not stopped
//! ```

mod elf;
mod go_table;
mod jit_names;
mod lacking;
mod perf;
mod ptrace;
mod registers;
mod rings;
mod segments;
#[cfg(test)]
mod sleeper;
mod space;
mod stacks;
mod symbols;
mod tracer;
mod waiting;
mod wall;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

pub use self::elf::open_below_root;
pub use self::go_table::names as go_names;
pub use self::jit_names::{Compiled, SharedMethods, TellsMethods};
use self::lacking::lacking;
use self::perf::PerfSampler;
use self::ptrace::PtraceSampler;
use self::space::{AddressSpace, Files};
use self::symbols::Symbols;
pub use self::wall::NATIVE_WALL;
use super::collector::{Ask, Attached, Attaches, Collector};
use super::dotnet;
use super::protocol::{Failure, FailureReason};
use super::sight::Sight;

/// What was named once is not named again, whichever process it was for.
type SharedSymbols = Rc<RefCell<Symbols>>;

/// What the samplers of a container's processes have in common: files are opened, and symbols looked up, once
/// for all of them.
#[derive(Default)]
pub struct Shared {
    files: Files,
    symbols: SharedSymbols,
}

/// Machine code.
pub struct Native;

/// The row of the table of collectors. It offers CPU of every process, so it comes last.
pub const NATIVE: Native = Native;

impl Collector for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu]
    }

    fn offers(&self, _sight: &Sight) -> Vec<Offer> {
        self.offered(None)
    }
}

impl Attaches for Native {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        sampler(ask, Compiled { methods: None, advice: dotnet::obstacle(ask.sight) })
    }
}

/// A sampler of the machine code of a process, by what the kernel allows: perf events, else ptrace. For
/// collectors that know what the runtime of the process has `compiled`.
///
/// # Errors
/// The kernel allows neither.
pub fn sampler(ask: &Ask<'_>, compiled: Compiled) -> Result<Attached, Failure> {
    let Ask { sight, frequency_hz, sharers, shared, .. } = *ask;
    let perf_error = match PerfSampler::open(sight, frequency_hz, sharers, shared, compiled.clone()) {
        Ok(sampler) => {
            let time = if sampler.grant().kernel {
                "user and kernel time"
            } else {
                "user time only: kernel time needs CAP_PERFMON"
            };
            let why = format!("perf events of the CPU clock are allowed ({time})");
            return Ok(Attached { capture: Box::new(sampler), method: "perf", why, refused: Vec::new() });
        }
        Err(e) => e,
    };
    let perf_refusal =
        format!("perf_event_open was refused with {} ({})", errno_name(&perf_error), perf_advice());
    match PtraceSampler::open(sight, frequency_hz, shared, compiled) {
        Ok(sampler) => Ok(Attached {
            capture: Box::new(sampler),
            method: "ptrace",
            why: format!("{perf_refusal}; using ptrace"),
            refused: Vec::new(),
        }),
        Err(e) => Err(Failure::new(
            refusal_reason(&e),
            format!(
                "{perf_refusal}, and ptrace was refused with {} ({}); run the agent as the target's user \
                 (securityContext.runAsUser)",
                errno_name(&e),
                ptrace_advice()
            ),
        )),
    }
}

/// Why a capture by ptrace cannot go on.
fn refused_meanwhile(pid: i32, error: &io::Error) -> Failure {
    let text = format!(
        "ptrace of process {pid} was refused during the capture ({error}); check whether another tracer or \
         debugger is attached"
    );
    Failure::new(FailureReason::PermissionDenied, text)
}

/// Why ptrace, the last resort, failed.
fn refusal_reason(error: &io::Error) -> FailureReason {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => FailureReason::NoSuchProcess,
        Some(libc::EPERM | libc::EACCES) => FailureReason::PermissionDenied,
        _ => FailureReason::Internal,
    }
}

/// `EPERM` rather than `Operation not permitted (os error 1)`.
fn errno_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{:?}", nix::errno::Errno::from_raw(code)),
        None => error.to_string(),
    }
}

fn perf_advice() -> String {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match paranoid.trim().parse::<i32>() {
        Ok(level) if level > 2 => format!("kernel.perf_event_paranoid is {level}"),
        _ => "seccomp, different user, or missing capabilities".to_owned(),
    }
}

fn ptrace_advice() -> String {
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match yama.trim().parse::<i32>() {
        Ok(scope) if scope > 0 => {
            format!("kernel.yama.ptrace_scope is {scope}, which requires CAP_SYS_PTRACE")
        }
        _ => "different user, seccomp, or an attached debugger".to_owned(),
    }
}

/// What a person should know of a native capture.
fn notes(space: &AddressSpace, lost: u64, taken: u64) -> Vec<String> {
    let too_large =
        |path: &str| format!("the debug information of {path} is too large; its frames have no line numbers");
    let mut notes: Vec<String> = space.without_debug().take(4).map(too_large).collect();
    if lost * 20 > taken {
        notes.push(format!("{lost} samples were lost, {taken} were taken"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_a_reason_and_a_name() {
        for (code, reason, name) in [
            (libc::EPERM, FailureReason::PermissionDenied, "EPERM"),
            (libc::ESRCH, FailureReason::NoSuchProcess, "ESRCH"),
            (libc::ENOMEM, FailureReason::Internal, "ENOMEM"),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!((refusal_reason(&error), errno_name(&error).as_str()), (reason, name));
        }
    }
}
