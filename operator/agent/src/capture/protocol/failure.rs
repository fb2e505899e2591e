//! Why can a target not be captured? A reason that a session's status has, and a sentence.

use std::fmt;

use fleetprof_crds::Reason;
use serde::{Deserialize, Serialize};

/// Why a capture failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The target is not there.
    NoSuchProcess,
    /// The target ended before anything was sampled.
    TargetExited,
    /// The kernel does not let the worker look at the target.
    PermissionDenied,
    /// The kernel does not let anybody without SYS_PTRACE look at the target.
    NotDumpable,
    /// Another profiler is at work in the target.
    OtherProfiler,
    /// The container used CPU, and nothing of it was sampled.
    LowCoverage,
    /// No collector can read the target.
    UnsupportedRuntime,
    /// The collector failed by its own fault.
    CollectorCrashed,
    /// The target used no CPU.
    NoSamples,
    /// Something else failed that is fleetprof's own fault.
    Internal,
}

impl FailureReason {
    /// The reason in a session's status.
    #[must_use]
    pub const fn as_reason(self) -> Reason {
        match self {
            Self::NoSuchProcess | Self::TargetExited => Reason::TargetExited,
            Self::PermissionDenied => Reason::PermissionDenied,
            Self::NotDumpable => Reason::NotDumpable,
            Self::OtherProfiler => Reason::OtherProfiler,
            Self::LowCoverage => Reason::LowCoverage,
            Self::UnsupportedRuntime => Reason::UnsupportedRuntime,
            Self::CollectorCrashed => Reason::CollectorCrashed,
            Self::NoSamples => Reason::NoSamples,
            Self::Internal => Reason::Internal,
        }
    }
}

/// A failure on its way to the supervisor: reason and sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The reason.
    pub reason: FailureReason,
    /// Human-readable message.
    pub message: String,
}

impl Failure {
    /// A failure with a reason and a sentence.
    pub fn new(reason: FailureReason, message: impl fmt::Display) -> Self {
        Self { reason, message: bounded(message.to_string(), 2000) }
    }

    /// The kernel lets this user read no memory of a process; `cause` is what it answered.
    pub fn unreadable(runtime: &str, pid: i32, cause: &str) -> Self {
        let text = format!(
            "no permission to read the memory of {runtime} process {pid} ({cause}); run the agent as the target's \
             user (securityContext.runAsUser); this is not sufficient if kernel.yama.ptrace_scope is 1 or higher"
        );
        Self::new(FailureReason::PermissionDenied, text)
    }

    /// A failure that is fleetprof's own fault.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(FailureReason::Internal, message)
    }
}

/// Cuts a text to at most `max` bytes, at a character boundary.
pub(crate) fn bounded(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(bounded("aé".into(), 2), "a");
        assert_eq!(bounded("aé".into(), 3), "aé");
    }
}
