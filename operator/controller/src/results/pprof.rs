//! What is in a slice, and how do many profiles become one?
//!
//! Slices come from agents, so every byte is hostile: each is decoded within limits and validated before it
//! is kept, and a merge stops at [`MERGE_BUDGET`] of memory whatever the slices hold.

use std::collections::BTreeSet;

use bytes::Bytes;
use fleetprof_core::capture::{CaptureScope, Weight};
use fleetprof_crds::session_status::TopFunction;
use fleetprof_crds::wire::{MAX_SLICE_BYTES, MAX_SLICE_UNPACKED};
use fleetprof_profile::{
    Limits, MergeError, Merger, Overlap, Profile, ProfileKind, Top, TopRow, decode_valid, encode, fold_idle,
    retain_labelled, retain_labels, sample_types, set_comment, set_labels, top, total,
};

use super::error::ResultsError;
use super::read::Stacks;

/// Most memory of what a merge has taken in, in bytes; the last profile that fits may cross it.
const MERGE_BUDGET: usize = 96 << 20;
/// What of it a comparison leaves to what it holds of the other session: functions and nodes of a call tree,
/// some 50 MiB when its profiles are hostile.
const HELD_OF_ANOTHER: usize = 32 << 20;

/// The label with the name of the process that a sample is of; the agent's.
const PROCESS: &str = "process";
/// Most names of processes that are told to a reader.
const MAX_PROCESSES: usize = 16;

/// What one slice may hold.
const fn slice_limits() -> Limits {
    Limits {
        compressed_bytes: MAX_SLICE_BYTES,
        uncompressed_bytes: MAX_SLICE_UNPACKED,
        samples: 100_000,
        strings: 200_000,
        string_length: 16 << 10,
        entries: 500_000,
        list_length: 2_048,
        memory_bytes: 96 << 20,
    }
}

/// What a stored profile may hold: whatever a merge within its budget can make, with labels added.
pub(super) const fn profile_limits() -> Limits {
    Limits {
        compressed_bytes: 256 << 20,
        uncompressed_bytes: 512 << 20,
        samples: 4_000_000,
        strings: 8_000_000,
        string_length: 32 << 10,
        entries: 16_000_000,
        list_length: 8_192,
        memory_bytes: 1 << 30,
    }
}

/// Checks a slice and counts its samples.
///
/// # Errors `Rejected`: it is not gzip, not pprof, too large, or counts something else than `profile`.
pub(super) fn check_slice(body: &[u8], profile: ProfileKind) -> Result<i64, ResultsError> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Err(ResultsError::Rejected("the slice is not compressed: use gzip".to_owned()));
    }
    let slice =
        decode_valid(body, &slice_limits()).map_err(|error| ResultsError::Rejected(error.to_string()))?;
    let wanted = profile.sample_types();
    let types = sample_types(&slice);
    if types != wanted {
        let types: String = types
            .iter()
            .map(|(name, unit)| format!("{name}/{unit} "))
            .collect::<String>()
            .chars()
            .take(120)
            .collect();
        return Err(ResultsError::Rejected(format!(
            "the slice contains {} but the order is for a {} profile: send the sample types of the order",
            types.trim_end().escape_debug(),
            profile.name()
        )));
    }
    Ok(total(&slice, 0))
}

/// Adds profiles to one another until the budget is spent.
pub(super) struct Merge {
    merger: Merger,
    limits: Limits,
    labels: bool,
    idle: Idle,
    /// Only the samples of processes of this name, and the other names that there are.
    process: Option<String>,
    processes: BTreeSet<String>,
    budget: usize,
    /// `None` once a profile does not say how long it was captured.
    nanos: Option<i64>,
}

/// What becomes of the waits of threads that have nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// They are one frame, [`fleetprof_profile::IDLE`].
    #[default]
    Folded,
    /// They are shown as they were captured.
    Shown,
}

impl Merge {
    /// A merge of the slices of one capture, which follow one another.
    pub(super) fn of_slices() -> Self {
        Self {
            merger: Merger::new(Overlap::Sequential),
            limits: slice_limits(),
            labels: true,
            idle: Idle::Shown,
            process: None,
            processes: BTreeSet::new(),
            budget: MERGE_BUDGET,
            nanos: Some(0),
        }
    }

    /// A merge of the profiles of one session, which were captured side by side.
    pub(super) fn of_profiles() -> Self {
        Self { merger: Merger::new(Overlap::Parallel), limits: profile_limits(), ..Self::of_slices() }
    }

    /// The same without labels: the same stacks of different pods become one.
    pub(super) fn of_stacks(idle: Idle) -> Self {
        Self { labels: false, idle, ..Self::of_profiles() }
    }

    /// The same, beside what a comparison holds of another merge.
    pub(super) fn beside_another(self) -> Self {
        Self { budget: MERGE_BUDGET - HELD_OF_ANOTHER, ..self }
    }

    /// The same of processes of one name alone, if one is named.
    pub(super) fn of_process(self, process: Option<String>) -> Self {
        Self { process, ..self }
    }

    /// Adds stored bytes; `false` when the budget is spent and they were left out.
    ///
    /// # Errors `Io`: the stored file is not a profile.
    pub(super) fn add(&mut self, bytes: &[u8], name: &str) -> Result<bool, ResultsError> {
        if self.merger.memory() > self.budget {
            return Ok(false);
        }
        let mut profile = read(bytes, &self.limits, name)?;
        let nanos = Some(profile.duration_nanos).filter(|nanos| *nanos > 0);
        self.nanos = self.nanos.zip(nanos).map(|(sum, nanos)| sum.saturating_add(nanos));
        if let Some(process) = &self.process {
            let others = retain_labelled(&mut profile, PROCESS, process);
            self.processes.extend(others.into_iter().take(MAX_PROCESSES));
        }
        if self.idle == Idle::Folded {
            // By the labels, so before they are removed.
            fold_idle(&mut profile);
        }
        if !self.labels {
            retain_labels(&mut profile, |_| false);
        }
        self.merger.add(&profile).map_err(|error| damaged(name, &error))?;
        Ok(true)
    }

    /// The merged profile, and for how long its parts were captured.
    ///
    /// # Errors
    /// `Missing`: nothing was added. `NoProcess`: no sample is of a process of that name.
    pub(super) fn finish_stacks(self) -> Result<Stacks, ResultsError> {
        self.has_process()?;
        let pod_nanos = self.nanos;
        Ok(Stacks { profile: self.finish()?, pod_nanos })
    }

    /// The merged profile, packed: in less memory than both one after the other.
    ///
    /// # Errors
    /// As [`finish_stacks`](Self::finish_stacks).
    pub(super) fn finish_packed(self) -> Result<Bytes, ResultsError> {
        self.has_process()?;
        self.merger.encode().map(Bytes::from).map_err(|error| match error {
            MergeError::Encode(_) => ResultsError::Io(error.to_string()),
            _ => ResultsError::Missing(error.to_string()),
        })
    }

    /// The merged profile.
    ///
    /// # Errors
    /// `Missing`: nothing was added.
    pub(super) fn finish(self) -> Result<Profile, ResultsError> {
        self.merger.finish().map_err(|error| ResultsError::Missing(error.to_string()))
    }

    fn has_process(&self) -> Result<(), ResultsError> {
        match self.process.as_ref().filter(|_| self.merger.is_empty()) {
            Some(process) => Err(no_process(process, &self.processes)),
            None => Ok(()),
        }
    }
}

fn no_process(process: &str, others: &BTreeSet<String>) -> ResultsError {
    let process = bounded(process, 64);
    let others: Vec<String> = others.iter().take(MAX_PROCESSES).map(|name| bounded(name, 64)).collect();
    ResultsError::NoProcess(match others.as_slice() {
        [] => format!("the profiles do not tell processes apart: omit process={process:?}"),
        others => format!("no sample is of a process {process:?}: use one of {}", others.join(", ")),
    })
}

pub(super) fn read(bytes: &[u8], limits: &Limits, name: &str) -> Result<Profile, ResultsError> {
    decode_valid(bytes, limits).map_err(|error| damaged(name, &error))
}

fn damaged(name: &str, error: &dyn std::error::Error) -> ResultsError {
    ResultsError::Io(format!(
        "the stored file {name} is not a valid profile ({error}): check the results volume for corruption"
    ))
}

/// The samples of a stored slice or profile.
///
/// # Errors `Io`: the stored file is not a profile.
pub(super) fn samples(bytes: &[u8], name: &str) -> Result<i64, ResultsError> {
    Ok(total(&read(bytes, &profile_limits(), name)?, 0))
}

/// Packs a profile.
///
/// # Errors
/// `Io`, which has no cause in practice.
pub(super) fn pack(profile: &Profile) -> Result<Bytes, ResultsError> {
    encode(profile).map(Bytes::from).map_err(|error| ResultsError::Io(error.to_string()))
}

/// Writes on every sample whose it is. What the cluster knows wins over a session's own labels, and both over
/// what the agent says.
pub(super) fn label(profile: &mut Profile, scope: &CaptureScope, cluster: &str) {
    let service = scope.workload.split_once('/').map_or(scope.workload.as_str(), |(_, name)| name);
    let known = [
        ("service_name", service),
        ("namespace", &scope.session_namespace),
        ("pod", &scope.pod_name),
        ("container", &scope.container),
        ("node", &scope.node),
        ("cluster", cluster),
    ];
    let own = scope.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let of_samples = of_samples(profile);
    let own = own.filter(|(key, _)| known.iter().all(|(taken, _)| taken != key) && !of_samples.contains(key));
    let labels: Vec<(&str, &str)> = known.into_iter().chain(own).collect();
    set_labels(profile, &labels);
}

/// What a comment begins with that says how much of a workload was captured.
const WEIGHT: &str = "fleetprof.dev/weight: ";

/// Writes into a comment of how many pods of the workload the profile is one, and how many the session captures, so
/// that profiles of several workloads compare. A label would part the series of a workload whenever it is scaled.
pub(super) fn weigh(profile: &mut Profile, scope: &CaptureScope) {
    let Weight { pods, targets } = scope.weight;
    let weight = format!("workload={} pods={} targets={targets}", scope.workload, pods.max(targets));
    set_comment(profile, WEIGHT, &weight);
}

/// The labels of single samples: each belongs to its sample, and a session's would blot it out.
fn of_samples(profile: &Profile) -> Vec<&'static str> {
    let text = |index: i64| {
        usize::try_from(index)
            .ok()
            .and_then(|index| profile.string_table.get(index))
            .map_or("", String::as_str)
    };
    let keys = ["trace_id", "span_id", "profile_id", "thread_state", "waits_for"];
    let used = |key: &&str| {
        profile.sample.iter().flat_map(|sample| &sample.label).any(|label| text(label.key) == *key)
    };
    keys.into_iter().filter(used).collect()
}

/// The `n` hottest functions by the time that they used themselves.
pub(super) fn hottest(profile: &Profile, n: usize) -> Top {
    top(profile, fleetprof_profile::default_value_index(profile), n)
}

/// A row for a status: `cards.py:42`, `87.3`. Names come from targets, so they are printable and bounded.
#[must_use]
pub fn top_function(row: &TopRow) -> TopFunction {
    let file = row.file.rsplit(['/', '\\']).next().unwrap_or_default();
    let location = match (file, row.line) {
        ("", _) => String::new(),
        (file, 0) => bounded(file, 128),
        (file, line) => format!("{}:{line}", bounded(file, 128)),
    };
    TopFunction { name: bounded(&row.name, 256), location, self_percent: format!("{:.1}", row.self_percent) }
}

/// At most `max` characters, without control characters.
fn bounded(text: &str, max: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(max + 1).collect();
    match clean.char_indices().nth(max.saturating_sub(1)) {
        Some((end, _)) if clean.chars().count() > max => format!("{}…", &clean[..end]),
        _ => clean,
    }
}

#[cfg(test)]
mod tests;
