//! What do the agent and its workers do before anything else? They log, go first where memory is short, and are
//! read by nobody.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Prepares the process. What fails is logged, and keeps nothing from starting.
pub fn prepare() {
    log();
    // Whatever runs out of memory, the agent goes before the app. Only possible while the process is dumpable.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::warn!(%error, "failed to raise the OOM score; the app may be killed before the agent");
    }
    // No other process may read the token, environment and memory, not even one with the same user id.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "failed to make the process undumpable; other processes of its user can read its memory");
    }
}

/// Blocks of at least so many bytes go back to the kernel when they are freed.
const LARGE: libc::c_int = 64 * 1024;

/// Has memory that is freed given back at once, in a process that mostly waits. Call it before there are threads.
///
/// Left alone, the allocator takes the largest block that was ever freed for the usual size, and keeps about twice as
/// much for the next one: after a capture each agent held on to the size of its slices.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn hold_little() {
    for (what, value) in
        [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE), (libc::M_ARENA_MAX, 1)]
    {
        // SAFETY: it sets a number of the allocator's, and there is no other thread that could read it meanwhile.
        let is_set = unsafe { libc::mallopt(what, value) };
        debug_assert_eq!(is_set, 1);
    }
}

/// Other allocators have other settings.
#[cfg(not(target_env = "gnu"))]
pub const fn hold_little() {}

/// JSON lines on stderr; `FLEETPROF_LOG` is a level, or levels by module such as
/// `info,fleetprof_agent=debug`.
fn log() {
    let default = || {
        Targets::new()
            .with_default(tracing::Level::INFO)
            .with_targets([("py_spy", tracing::Level::ERROR), ("remoteprocess", tracing::Level::ERROR)])
    };
    let targets =
        std::env::var("FLEETPROF_LOG").ok().and_then(|l| l.parse::<Targets>().ok()).unwrap_or_else(default);
    let lines = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(targets).with(lines).init();
}
