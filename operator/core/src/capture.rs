//! What is a capture of, for the gateway's checks and the profile's labels?

use std::collections::BTreeMap;

use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::wire::MAX_SLICE_BYTES;
use fleetprof_crds::{DEFAULT_DESTINATION, ProfileKind, ProfileSession, Rate};
use jiff::Timestamp;

/// What a capture is of and who may upload for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureScope {
    /// The capture's idempotency key, as in its order.
    pub capture: String,
    /// Uid of the session.
    pub session_uid: String,
    /// Namespace of the session and of the pod.
    pub session_namespace: String,
    /// Name of the session.
    pub session_name: String,
    /// Uid of the pod; only its agent may upload.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Name of the node.
    pub node: String,
    /// Workload of the pod, such as `Deployment/orders`.
    pub workload: String,
    /// Name of the container.
    pub container: String,
    /// The runtime's id of the container, without its prefix.
    pub container_id: String,
    /// What is captured: at least one kind, none of them twice.
    pub profiles: Vec<ProfileKind>,
    /// The first destination of its session, which is to hold its profiles.
    pub destination: String,
    /// Labels for every sample.
    pub labels: BTreeMap<String, String>,
    /// How much of the workload the session captures.
    pub weight: Weight,
    /// Most bytes of its slices together, as they are uploaded.
    pub max_bytes: u64,
    /// When the capture was ordered.
    pub started: Timestamp,
}

/// How much of a workload a session captures: what a profile says of it times `pods` is what the whole workload does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Pods of the workload that were running when the targets were picked; 0 where that is not known.
    pub pods: i32,
    /// Targets of the session among them.
    pub targets: i32,
}

/// What the stacks of one tick may take in a slice, in bytes: 32 running threads with 32 bytes each, compressed.
const TICK: u64 = 32 * 32;
/// What a slice takes beside its stacks, in bytes: names of functions and files.
const NAMES: u64 = 512 << 10;
/// Length of a slice in seconds, at least.
const SLICE: u64 = 10;

/// Most bytes of the slices of a capture: they follow from its length, its rate and its kinds. Kinds that are not
/// sampled by a clock may fill each slice.
fn most_bytes(rate: Rate, kinds: &[ProfileKind]) -> u64 {
    let seconds = u64::from(rate.seconds);
    let slices = seconds.div_ceil(SLICE) + 1;
    let ticks = seconds * u64::from(rate.frequency_hz);
    let full = slices * MAX_SLICE_BYTES as u64;
    let of = |kind: &ProfileKind| match kind.is_sampled() {
        true => (slices * NAMES + ticks * TICK).min(full),
        false => full,
    };
    kinds.iter().map(of).sum()
}

impl CaptureScope {
    /// The scope of the capture of one target, of so many of its workload.
    #[must_use]
    pub fn of(session: &ProfileSession, target: &TargetStatus, targets: i32, started: Timestamp) -> Self {
        let (meta, spec) = (&session.metadata, &session.spec);
        let profiles = kinds(session, target);
        Self {
            capture: target.capture.clone(),
            session_uid: meta.uid.clone().unwrap_or_default(),
            session_namespace: meta.namespace.clone().unwrap_or_default(),
            session_name: meta.name.clone().unwrap_or_default(),
            pod_uid: target.pod_uid.clone(),
            pod_name: target.pod.clone(),
            node: target.node.clone(),
            workload: target.workload.clone(),
            container: target.container.clone(),
            container_id: target.container_id.clone(),
            max_bytes: most_bytes(rate(session, target), &profiles),
            profiles,
            destination: spec.destinations.first().cloned().unwrap_or_else(|| DEFAULT_DESTINATION.to_owned()),
            labels: labels(session, target),
            weight: Weight { pods: target.workload_pods.unwrap_or(0), targets },
            started,
        }
    }
}

/// The kinds that are captured of a target: those that were ordered, else all of the session that this version
/// knows. Nothing is captured in place of another.
#[must_use]
pub fn kinds(session: &ProfileSession, target: &TargetStatus) -> Vec<ProfileKind> {
    let wanted = if target.ordered.is_empty() { &session.spec.profiles } else { &target.ordered };
    wanted.iter().copied().filter(|kind| kind.is_known()).collect()
}

/// For how long and how often a target is sampled: as its session asks, or less where the policy has a goal for
/// samples.
#[must_use]
pub fn rate(session: &ProfileSession, target: &TargetStatus) -> Rate {
    let spec = &session.spec;
    let duration = target.effective_duration.map_or(spec.duration, |less| less.min(spec.duration));
    let hz = target.effective_frequency_hz.map_or(spec.frequency_hz, |less| less.min(spec.frequency_hz));
    Rate { seconds: duration.as_secs(), frequency_hz: u32::try_from(hz).unwrap_or(99) }
}

/// The session's own labels, the trace that it was asked for, and the target's revision where the session
/// captures two of them.
fn labels(session: &ProfileSession, target: &TargetStatus) -> BTreeMap<String, String> {
    let mut labels = session.spec.labels.clone();
    if session.spec.compare.is_some() && !target.revision.is_empty() {
        labels.insert("revision".into(), target.revision.clone());
    }
    let context = session.spec.context.clone().unwrap_or_default();
    for (key, value) in [("trace_id", context.trace_id), ("span_id", context.span_id)] {
        if let Some(value) = value {
            labels.insert(key.into(), value);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_capture_may_upload_follows_from_its_length_rate_and_kinds() {
        use ProfileKind::{Cpu, Heap, Wall};
        const MIB: u64 = 1 << 20;
        // Two minutes at 99 Hz are 11.6 MiB of stacks and 6.5 MiB of names in 13 slices.
        let of = |seconds, frequency_hz, kinds: &[ProfileKind]| {
            most_bytes(Rate { seconds, frequency_hz }, kinds) / MIB
        };
        let cases = [
            ("the shortest and slowest", of(10, 1, &[Cpu]), 1),
            ("a default session", of(120, 99, &[Cpu]), 18),
            ("two kinds", of(120, 99, &[Cpu, Wall]), 36),
            ("no more than full slices", of(360, 1000, &[Cpu]), 148),
            ("a kind without a rate", of(120, 99, &[Heap]), 52),
            ("no kind", of(120, 99, &[]), 0),
        ];
        for (name, got, wanted) in cases {
            assert_eq!(got, wanted, "{name}");
        }
    }
}
