//! What does a worker process do? Reads one request, bounds itself, captures, reports, ends.

use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use nix::sys::signal::{SigSet, Signal};

use super::container::Container;
use super::limits;
use super::protocol::{CaptureRequest, Event, Failed, Failure, FailureReason, Finished, MAX_REQUEST_BYTES};
use super::session::Session;
use super::slices::SliceWriter;
use super::users;
use crate::proc;

/// Runs a worker: request on stdin, events on stdout. Call it before the process has other threads.
pub fn main() -> ExitCode {
    // A crash of a collector is an event, not a wall of text.
    std::panic::set_hook(Box::new(|info| tracing::error!(error = %info, "the collector crashed")));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let crashed = || {
        Failure::new(
            FailureReason::CollectorCrashed,
            "the collector crashed; the target is not affected; see the agent's log for the location",
        )
    };
    match outcome.unwrap_or_else(|_| Err(crashed())) {
        Ok(finished) => {
            emit(&Event::Finished(finished));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let (samples, slices) = (
                limits::progress().samples.load(Ordering::Relaxed),
                limits::progress().slices.load(Ordering::Relaxed),
            );
            emit(&Event::Failed(Failed {
                reason: failure.reason,
                message: failure.message,
                samples,
                slices,
                cover: limits::progress().cover(),
            }));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Finished, Failure> {
    let request = read_request(&mut std::io::stdin().lock())?;
    request.validate()?;
    confine(&request)?;
    let start_ticks = identify(&request)?;
    let mut writer = SliceWriter::open(&request.output_dir)?;
    if let Some(users) = users::Users::of(&request) {
        hide()?;
        return users.capture(&mut writer, &mut emit);
    }
    if request.assume_target_uid && !limits::needs_root(&request) {
        limits::assume_user(&request)?;
    }
    hide()?;
    let (started, mut container) = Container::open(&request, start_ticks)?;
    emit(&Event::Started(started));
    Session::new(&request, &mut writer, &mut emit).run(&mut container)
}

fn hide() -> Result<(), Failure> {
    limits::hide_from_target().map_err(|e| Failure::internal(format!("prctl(PR_SET_DUMPABLE) failed: {e}")))
}

/// The request: the first line of the input.
fn read_request(input: &mut impl BufRead) -> Result<CaptureRequest, Failure> {
    let mut line = Vec::new();
    let read = input.take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line);
    read.map_err(|e| Failure::internal(format!("failed to read the capture request from stdin: {e}")))?;
    serde_json::from_slice(&line)
        .map_err(|e| Failure::internal(format!("invalid capture request on stdin: {e}")))
}

/// Signals, kill timer and limits, before anything of the target is touched.
fn confine(request: &CaptureRequest) -> Result<(), Failure> {
    let failed = |what: &str, e: String| Failure::internal(format!("{what} failed: {e}"));
    // Stops of traced threads arrive as SIGCHLD; every thread must leave it to the tracer.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(|e| failed("blocking SIGCHLD", e.to_string()))?;
    limits::catch_stop_signals().map_err(|e| failed("catching SIGTERM", e.to_string()))?;
    limits::bound_resources(request).map_err(|e| failed("setrlimit", e.to_string()))?;
    limits::start_watchdog(request).map_err(|e| failed("starting the kill timer", e.to_string()))
}

/// The target's start time, which with its pid names it for good.
fn identify(request: &CaptureRequest) -> Result<u64, Failure> {
    let pid = request.pid;
    let missing =
        |why: &str| Failure::new(FailureReason::NoSuchProcess, format!("no such process {pid}: {why}"));
    let start = proc::start_ticks(pid).map_err(|e| missing(&e.to_string()))?;
    match request.start_ticks {
        Some(wanted) if wanted != start => Err(missing("its pid now belongs to another process")),
        _ if proc::has_exited(pid, start) => Err(missing("it has exited (zombie)")),
        _ => Ok(start),
    }
}

/// Writes one event; a supervisor that is gone does not read it, and the kill timer notices that.
fn emit(event: &Event) {
    let line = serde_json::to_string(event).unwrap_or_default() + "\n";
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "failed to write an event to stdout");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line() {
        let text = br#"{"pid":7,"profiles":["cpu"],"durationMs":10000,"frequencyHz":99,"sliceMs":10000,"outputDir":"/tmp"}"#;
        let input = [text.as_slice(), b"\nmore"].concat();
        assert_eq!(read_request(&mut input.as_slice()).unwrap().pid, 7);
        let failure = read_request(&mut b"{}\n".as_slice()).unwrap_err();
        assert!(failure.message.contains("missing field"), "{failure}");
    }

    #[test]
    fn a_reused_pid_is_noticed() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let text = format!(
            r#"{{"pid":{pid},"startTicks":1,"profiles":["cpu"],"durationMs":10000,"frequencyHz":99,"sliceMs":10000,"outputDir":"/tmp"}}"#
        );
        let mut request = read_request(&mut text.as_bytes()).unwrap();
        assert_eq!(identify(&request).unwrap_err().reason, FailureReason::NoSuchProcess);
        request.start_ticks = None;
        assert!(identify(&request).is_ok());
    }
}
