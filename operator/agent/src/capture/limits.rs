//! What keeps a worker harmless? Limits of the kernel, a kill timer, the target's user, and signals that end
//! it in order.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Gid, Uid, getppid, setgid, setgroups, setuid};

use super::protocol::{CaptureRequest, Cover, Event, Failed, Failure, FailureReason};
use super::undo;
use crate::proc::{self, ProcTree};

/// Time after the end of a capture in which the last slice must be written.
pub const GRACE: Duration = Duration::from_secs(20);
/// How long the kill timer waits for what is undone in targets.
const UNDO: Duration = Duration::from_secs(2);
/// How often the kill timer looks at clock and parent.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Address space of a worker: programs and debug information that are mapped count, though they are not
/// resident.
const ADDRESS_SPACE: u64 = 32 << 30;
/// Memory of a worker's own: what it allocates. Ten times of what captures of large programs took.
pub const DATA: u64 = 512 << 20;
/// Open files: one perf event for each thread and CPU, two files for each thread.
const OPEN_FILES: u64 = 65_536;
/// Largest file that a worker writes.
const FILE_SIZE: u64 = 64 << 20;

static STOP: AtomicBool = AtomicBool::new(false);
static PROGRESS: OnceLock<Progress> = OnceLock::new();

/// What the kill timer reports when it has to end a worker.
#[derive(Default)]
pub struct Progress {
    /// Samples in complete slices.
    pub samples: std::sync::atomic::AtomicU64,
    /// Complete slices.
    pub slices: std::sync::atomic::AtomicU32,
    cover: Mutex<Option<Cover>>,
}

impl Progress {
    /// What the complete slices cover.
    pub fn cover(&self) -> Option<Cover> {
        *self.cover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, again.
    pub fn set_cover(&self, cover: Cover) {
        *self.cover.lock().unwrap_or_else(PoisonError::into_inner) = Some(cover);
    }
}

/// The counts of this worker.
pub fn progress() -> &'static Progress {
    PROGRESS.get_or_init(Progress::default)
}

/// Whether the worker was asked to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

extern "C" fn on_stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Lets SIGTERM and SIGINT end the capture with its last slice.
#[allow(unsafe_code)]
pub fn catch_stop_signals() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Bounds what the worker may use. What is bounded more tightly already stays so.
pub fn bound_resources(request: &CaptureRequest) -> nix::Result<()> {
    let seconds = request.duration_ms / 1000;
    let bounds = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, ADDRESS_SPACE),
        (Resource::RLIMIT_DATA, request.memory_bytes.map_or(DATA, |bytes| bytes.min(DATA))),
        (Resource::RLIMIT_CPU, 30 + seconds / 2),
        (Resource::RLIMIT_FSIZE, FILE_SIZE),
    ];
    for (resource, bound) in bounds {
        let (_, hard) = getrlimit(resource)?;
        let bound = bound.min(hard);
        setrlimit(resource, bound, bound)?;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard)
}

/// Ends the worker when it overstays its time or its parent is gone.
///
/// `PR_SET_PDEATHSIG` is not used: it fires when the *thread* that started the worker ends, and the
/// threads of a supervisor's pool do end. So the worker looks for itself whether its parent changed.
pub fn start_watchdog(request: &CaptureRequest) -> std::io::Result<()> {
    let (parent, start) = (getppid(), Instant::now());
    let allowed = Duration::from_millis(request.duration_ms) + GRACE;
    let name = std::thread::Builder::new().name("watchdog".into());
    name.spawn(move || {
        loop {
            std::thread::sleep(WATCH_INTERVAL);
            if getppid() != parent {
                undo::all(UNDO);
                std::process::exit(3);
            }
            if start.elapsed() > allowed {
                report_timeout(allowed);
                undo::all(UNDO);
                std::process::exit(2);
            }
        }
    })
    .map(drop)
}

/// Writes the final event past the lock of stdout, which the hanging thread may hold.
fn report_timeout(allowed: Duration) {
    let message = format!(
        "the worker did not finish within {} s and was stopped; the target is unaffected",
        allowed.as_secs()
    );
    let event = Event::Failed(Failed {
        reason: FailureReason::CollectorCrashed,
        message,
        samples: progress().samples.load(Ordering::Relaxed),
        slices: progress().slices.load(Ordering::Relaxed),
        cover: progress().cover(),
    });
    let line = serde_json::to_string(&event).unwrap_or_default() + "\n";
    if let Ok(mut out) = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/1") {
        let _unreported = out.write_all(line.as_bytes());
    }
}

/// Whether the container can only be captured by a worker that stays root, and one that is root may: it has
/// processes of several users, or some that not even their own user may look at.
pub fn needs_root(request: &CaptureRequest) -> bool {
    let may = request.owner.is_none() && proc::may_trace_all();
    let Some(user) = proc::owner(request.pid).ok().filter(|_| may) else {
        return false;
    };
    let tree = ProcTree::new("/proc");
    let inside = |p: &proc::Process| p.container.is_some() && p.container == request.container;
    let others = tree.processes().unwrap_or_default().into_iter().filter(inside).map(|p| p.pid);
    std::iter::once(request.pid)
        .chain(others)
        .any(|pid| proc::is_dumpable(pid) == Some(false) || proc::owner(pid).is_ok_and(|o| o.uid != user.uid))
}

/// As root, becomes the user that the request names, or that of its target, see [`assume`].
pub fn assume_user(request: &CaptureRequest) -> Result<(), Failure> {
    let pid = request.pid;
    let owner = request.owner.map_or_else(|| proc::owner(pid), Ok).map_err(|e| {
        Failure::new(
            FailureReason::NoSuchProcess,
            format!("failed to read the user of process {pid} ({e}); it may have ended"),
        )
    })?;
    assume(owner, &request.output_dir)
}

/// As root, becomes another user, so that the kernel's "same user" rules hold without capabilities.
///
/// `output_dir` goes to that user first: without capabilities root's own files are out of reach.
fn assume(owner: proc::Owner, output_dir: &Path) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    if !Uid::effective().is_root() || uid.is_root() {
        return Ok(());
    }
    let step =
        |what: &str, result: nix::Result<()>| {
            result.map_err(|e| {
            let advice = "give the agent the runtime's default capabilities, or run it as the target's user \
                          (securityContext.runAsUser)";
            Failure::new(FailureReason::PermissionDenied, format!("{what} failed while switching to user \
                                                                   {uid} ({e}); {advice}"))
        })
        };
    step("chown of the output directory", nix::unistd::chown(output_dir, Some(uid), Some(gid)))?;
    step("setgroups", setgroups(&[]))?;
    step("setgid", setgid(gid))?;
    step("setuid", setuid(uid))
}

/// Makes the worker unreadable for other processes of its user, the target among them.
pub fn hide_from_target() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)
}
