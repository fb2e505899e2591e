//! What do supervisor and worker say to each other? One JSON request on stdin, JSON lines on stdout.
//!
//! The events of a worker are, in this order: `started`?, `slice`*, then one of `finished` and `failed`.
//! A worker that ends without either has crashed; the slices it wrote are complete nevertheless.

mod failure;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::SliceId;
use serde::{Deserialize, Serialize};

pub(crate) use self::failure::bounded;
pub use self::failure::{Failure, FailureReason};
use super::findings::Findings;
use crate::proc::Owner;

/// Most bytes of a request.
pub const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// Most labels of a request.
pub const MAX_LABELS: usize = 32;
/// Most notes in [`Finished`].
pub const MAX_NOTES: usize = 8;

/// What to capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureRequest {
    /// The target, as the worker sees it.
    pub pid: i32,
    /// Start time of the target (field 22 of `/proc/PID/stat`), so that a reused pid is noticed.
    #[serde(default)]
    pub start_ticks: Option<u64>,
    /// Runtime id of the container whose processes are captured; without it, the target alone is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What to capture: at least one kind, none of them twice.
    pub profiles: Vec<ProfileKind>,
    /// Name of the collector to use; without it, each kind is captured by the first one that offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
    /// How long, in milliseconds, 100 to 3,600,000.
    pub duration_ms: u64,
    /// Samples a second of CPU time, 1 to 1000.
    pub frequency_hz: u32,
    /// Length of a slice, in milliseconds, 1,000 to 60,000.
    pub slice_ms: u64,
    /// An existing directory for the slices.
    pub output_dir: PathBuf,
    /// Labels of every sample; at most [`MAX_LABELS`].
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// As root, become the target's user before touching it.
    #[serde(default)]
    pub assume_target_uid: bool,
    /// Most bytes that the worker may allocate; less than its own bound, or that.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Of the container, the processes of this user and group alone. The worker is then one of several, which
    /// leaves the verdict to the one that asked it: see [`Finished::findings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl CaptureRequest {
    /// Checks the kinds and the ranges; the error names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Failure> {
        let captured = super::collector::kinds();
        let strange = |kind: &&ProfileKind| !captured.contains(kind);
        if let Some(kind) = self.profiles.iter().find(strange) {
            let message = format!("no collector of this agent captures {kind} profiles");
            return Err(Failure::new(FailureReason::UnsupportedRuntime, message));
        }
        if self.profiles.is_empty() {
            return Err(Failure::internal(
                "profiles is empty in the capture request; give at least one kind",
            ));
        }
        let ranges = [
            ("pid", u64::try_from(self.pid).unwrap_or(0), 1, i32::MAX as u64),
            ("durationMs", self.duration_ms, 100, 3_600_000),
            ("frequencyHz", u64::from(self.frequency_hz), 1, 1000),
            ("sliceMs", self.slice_ms, 1000, 60_000),
        ];
        for (field, value, low, high) in ranges {
            if value < low || value > high {
                return Err(Failure::internal(format!(
                    "{field} is {value} in the capture request; must be {low} to {high}"
                )));
            }
        }
        if self.labels.len() > MAX_LABELS {
            let n = self.labels.len();
            return Err(Failure::internal(format!(
                "the capture request has {n} labels; at most {MAX_LABELS} are allowed"
            )));
        }
        Ok(())
    }
}

/// How much of the container is in the slices so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cover {
    /// Processes with samples.
    pub processes: u32,
    /// CPU time in the slices, nanoseconds.
    pub cpu_nanos: u64,
    /// CPU time that the container's cgroup counted meanwhile, nanoseconds; `None` where that is not captured.
    pub used_nanos: Option<u64>,
}

/// One line on the worker's stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// Sampling has started.
    Started(Started),
    /// A slice is on disk.
    Slice(SliceWritten),
    /// Sampling is over.
    Finished(Finished),
    /// Sampling failed.
    Failed(Failed),
}

/// How the target is sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Runtime of the target, such as `Python 3.11`.
    pub runtime: String,
    /// Names of the collectors, such as `native`.
    pub collector: String,
    /// What they capture with, such as `py-spy`, `perf` or `ptrace`.
    pub method: String,
    /// Why these methods were chosen.
    pub why: String,
    /// When sampling started, nanoseconds since 1970.
    pub start_nanos: u64,
}

/// A slice that was written, synced and renamed to [`slice_file`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceWritten {
    /// What it counts, and its number among those of its kind: from 0, without gaps.
    #[serde(flatten)]
    pub slice: SliceId,
    /// Bytes of the file.
    pub bytes: u64,
    /// Samples in it.
    pub samples: u64,
    /// When it starts, nanoseconds since 1970.
    pub start_nanos: u64,
    /// How long it is, nanoseconds.
    pub duration_nanos: u64,
    /// What is covered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover: Option<Cover>,
}

/// What was captured in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// Samples in all slices, of all kinds together.
    pub samples: u64,
    /// Samples that should have been taken. perf: the target's CPU time divided by the period; others: turns
    /// of the schedule.
    pub expected: u64,
    /// Of these, how many were taken.
    pub taken: u64,
    /// Samples that were taken but lost: a full ring buffer, a stack that could not be read.
    pub lost: u64,
    /// Slices written.
    pub slices: u32,
    /// The target ended during the capture.
    pub target_exited: bool,
    /// The worker was asked to stop.
    pub stopped: bool,
    /// What a person should know of the quality; at most [`MAX_NOTES`] sentences.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What is covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover: Option<Cover>,
    /// Why the profile holds little of what the container did, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<String>,
    /// What a profile that stands for the container left out, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is to be judged, of a worker of one user of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Box<Findings>>,
}

/// Why nothing (more) was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The reason.
    pub reason: FailureReason,
    /// Human-readable message.
    pub message: String,
    /// Samples in the slices that were written before.
    pub samples: u64,
    /// Slices that were written before; they are complete.
    pub slices: u32,
    /// What is covered by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover: Option<Cover>,
}

/// The name of a complete slice in the output directory.
#[must_use]
pub fn slice_file(slice: SliceId) -> String {
    format!("{}-{}.pb.gz", slice.kind, slice.seq)
}

/// The slice that the file of this name is; `None` for any other file.
#[must_use]
pub fn slice_id(file: &str) -> Option<SliceId> {
    let (kind, seq) = file.strip_suffix(".pb.gz")?.split_once('-')?;
    let slice = SliceId::new(kind.parse().ok()?, seq.parse().ok()?);
    (slice_file(slice) == file).then_some(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CaptureRequest {
        serde_json::from_str(
            r#"{"pid":7,"profiles":["cpu"],"durationMs":10000,"frequencyHz":99,"sliceMs":10000,"outputDir":"/tmp"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_short_request_has_defaults() {
        let r = request();
        assert_eq!((r.collector.as_deref(), r.assume_target_uid, r.start_ticks), (None, false, None));
        assert_eq!(r.validate(), Ok(()));
    }

    #[test]
    fn a_field_out_of_range_is_named() {
        type Change = fn(&mut CaptureRequest);
        let cases: [(&str, Change); 6] = [
            ("profiles", |r| r.profiles.clear()),
            ("pid", |r| r.pid = -1),
            ("durationMs", |r| r.duration_ms = 99),
            ("frequencyHz", |r| r.frequency_hz = 1001),
            ("sliceMs", |r| r.slice_ms = 999),
            ("labels", |r| r.labels = (0..40).map(|i| (i.to_string(), String::new())).collect()),
        ];
        for (field, change) in cases {
            let mut r = request();
            change(&mut r);
            let failure = r.validate().unwrap_err();
            assert!(failure.message.contains(field), "{failure}");
            assert_eq!(failure.reason, FailureReason::Internal);
        }
    }

    #[test]
    fn a_kind_that_no_collector_captures_is_refused_and_not_replaced() {
        for kind in ProfileKind::ALL.into_iter().chain([ProfileKind::Unknown]) {
            let refused = CaptureRequest { profiles: vec![kind], ..request() }.validate();
            let reason = refused.err().map(|failure| failure.reason);
            let captured = crate::capture::collector::kinds().contains(&kind);
            assert_eq!(reason, (!captured).then_some(FailureReason::UnsupportedRuntime), "{kind}");
        }
    }

    #[test]
    fn a_slice_is_told_by_its_file() {
        for kind in ProfileKind::ALL {
            let slice = SliceId::new(kind, 12);
            assert_eq!(slice_id(&slice_file(slice)), Some(slice));
        }
        for file in [
            "12.pb.gz",
            "cpu-.pb.gz",
            "cpu-01.pb.gz",
            "cpu--1.pb.gz",
            "x-1.pb.gz",
            "cpu-1",
            "unknown-1.pb.gz",
        ] {
            assert_eq!(slice_id(file), None, "{file}");
        }
    }

    #[test]
    fn a_slice_event_says_its_kind() {
        let slice = SliceId::new(ProfileKind::Wall, 3);
        let event = Event::Slice(SliceWritten {
            slice,
            bytes: 5,
            samples: 1,
            start_nanos: 2,
            duration_nanos: 3,
            cover: None,
        });
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.starts_with(r#"{"slice":{"seq":3,"kind":"wall","bytes":5,"#), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn events_are_lines_with_their_name_as_key() {
        let event = Event::Failed(Failed {
            reason: FailureReason::NoSamples,
            message: "m".into(),
            samples: 0,
            slices: 0,
            cover: None,
        });
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"failed":{"reason":"NoSamples","message":"m","samples":0,"slices":0}}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
