//! Which collector samples a process? The one for its runtime, and what the kernel allows.

use super::native::{self, Shared};
use super::protocol::{Collector, Failure, FailureReason, Started};
use super::python::PythonSampler;
use super::runtime::{self, Runtime};
use super::session::{Sampler, unix_nanos};
use crate::proc;

/// What to sample, and how.
pub struct Ask<'a> {
    /// The process.
    pub pid: i32,
    /// Which collector to use.
    pub collector: Collector,
    /// Samples a second of CPU time.
    pub frequency_hz: u32,
    /// How many processes share what the kernel lends for sampling.
    pub sharers: usize,
    /// Attempts to find an interpreter: a process that starts may not have its own yet.
    pub attempts: u64,
    /// Whether machine code will do where an interpreter cannot be read.
    pub settle_for_native: bool,
    /// What the native collectors of a capture have in common.
    pub shared: &'a Shared,
}

/// How the process is sampled, and the sampler.
pub type Attached = (Started, Box<dyn Sampler>);

/// The collector for the request and the process's runtime.
pub fn attach(ask: &Ask<'_>) -> Result<Attached, Failure> {
    choose(ask).map_err(|failure| match failure.reason {
        FailureReason::PermissionDenied if proc::is_dumpable(ask.pid) == Some(false) => {
            not_dumpable(ask.pid, &failure)
        }
        _ => failure,
    })
}

fn choose(ask: &Ask<'_>) -> Result<Attached, Failure> {
    let runtime = runtime::detect(ask.pid);
    match (ask.collector, &runtime) {
        (Collector::Python, _) => python(ask, &runtime),
        (Collector::Auto, Runtime::Python(_)) => {
            python(ask, &runtime).or_else(|failure| match failure.reason {
                // An interpreter that is too new or too odd for py-spy still runs machine code.
                FailureReason::UnsupportedRuntime if ask.settle_for_native => {
                    native(ask, &runtime, Some(&failure))
                }
                _ => Err(failure),
            })
        }
        _ => native(ask, &runtime, None),
    }
}

fn python(ask: &Ask<'_>, runtime: &Runtime) -> Result<Attached, Failure> {
    let sampler = PythonSampler::attach(ask.pid, ask.frequency_hz, ask.attempts)?;
    let why = format!("the target runs CPython {}", sampler.version());
    Ok((started(runtime, Collector::Python, "py-spy", why), Box::new(sampler)))
}

fn native(ask: &Ask<'_>, runtime: &Runtime, instead_of: Option<&Failure>) -> Result<Attached, Failure> {
    let chosen = native::choose(ask.pid, ask.frequency_hz, ask.sharers, ask.shared)?;
    let why = match instead_of {
        Some(failure) => format!("{}; sampling native code instead: {}", failure.message, chosen.why),
        None => chosen.why,
    };
    Ok((started(runtime, Collector::Native, chosen.method, why), chosen.sampler))
}

fn started(runtime: &Runtime, collector: Collector, method: &str, why: String) -> Started {
    Started {
        runtime: runtime.to_string(),
        collector,
        method: method.to_owned(),
        why,
        start_nanos: unix_nanos(),
    }
}

/// The same user is not enough for a process that gave up the rights of another one.
fn not_dumpable(pid: i32, refusal: &Failure) -> Failure {
    let text = format!(
        "process {pid} is not dumpable, so the kernel lets only root with CAP_SYS_PTRACE look at it: it \
         changed its user (setuid) and did not start a program after that, or its program has file \
         capabilities or is not readable. Start the program after the change of user (setpriv, gosu, su-exec) \
         or call prctl(PR_SET_DUMPABLE, 1) after it ({refusal})"
    );
    Failure::new(FailureReason::NotDumpable, text)
}
