//! How does the status of many targets stay small? What targets of one phase have in common is written once.
//!
//! ```text
//! in memory: each target has every field          in etcd: shared[] has what most targets of a phase say,
//!            shared[] is empty           ◄──────► and targets[] only what differs from it
//! ```
//! A field of a target that is not written has the value that `shared` has for the target's phase. Objects of older
//! versions have no `shared`, and every field in their targets.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ProfileSessionStatus, StoredProfile, TargetPhase, TargetStatus};
use crate::names::{MAX_TARGETS, SHORT_CONTAINER_ID};
use crate::{Duration, ProfileKind, Reason};

/// Fewest targets of one phase whose facts are written once: fewer are easier to read with everything beside them.
pub const FEWEST: usize = 5;
/// What stands for the name of the pod in the shared key of profiles.
const POD: &str = "{pod}";

/// What targets of one phase have in common. A field that a target does not have is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedFacts {
    /// The phase of these targets.
    pub phase: TargetPhase,
    /// What the names of all of their nodes end with, such as `.eu-central-1.compute.internal`; `node` of a target is what
    /// precedes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_domain: String,
    /// Workload of the pod, as in `Deployment/orders`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Revision of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The captured container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// What the idempotency keys of all of these captures begin with; `capture` of a target is the rest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture: String,
    /// Runtime of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Collector used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
    /// Number of pods of the workload that were running when the target was picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_pods: Option<i32>,
    /// How long the targets are captured, where `sampling.samplesPerHour` needs less than `spec.duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_duration: Option<Duration>,
    /// Sampling frequency in Hz, where `sampling.samplesPerHour` needs less than `spec.frequencyHz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_frequency_hz: Option<i32>,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Human-readable message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Number of the container's processes that have samples in the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<i32>,
    /// CPU throttling during the capture, in % of the CPU limit's periods in which the container ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_percent: Option<i32>,
    /// When the target got its slot in the budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_time: Option<Time>,
    /// When the capture started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the capture ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Types of profiles that were ordered, where these are not all of `spec.profiles`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordered: Vec<ProfileKind>,
    /// The other types, and why they cannot be captured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub left_out: String,
    /// Stored profiles, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<SharedProfile>,
}

/// What stored profiles of one type have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedProfile {
    /// Type of the profiles.
    #[serde(rename = "type")]
    pub kind: ProfileKind,
    /// Their key; `{pod}` in it stands for the name of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Destinations that hold them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
}

/// A value that a target can leave to what is shared.
trait Fact: Clone + Default + PartialEq {
    fn is_absent(&self) -> bool;
}

impl Fact for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Clone + PartialEq> Fact for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Clone + PartialEq> Fact for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Calls `$each!(field)` for every field of a target that is shared as it is.
macro_rules! for_each_fact {
    ($each:ident) => {
        $each!(workload);
        $each!(revision);
        $each!(container);
        $each!(runtime);
        $each!(collector);
        $each!(workload_pods);
        $each!(effective_duration);
        $each!(effective_frequency_hz);
        $each!(reason);
        $each!(message);
        $each!(processes);
        $each!(throttled_percent);
        $each!(slot_time);
        $each!(start_time);
        $each!(end_time);
        $each!(ordered);
        $each!(left_out);
    };
}

impl Serialize for ProfileSessionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.targets.len() < FEWEST {
            true => Self::serialize(self, serializer),
            false => Self::serialize(&share(self.clone()), serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ProfileSessionStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer).map(spread)
    }
}

/// The status as it is written.
fn share(mut status: ProfileSessionStatus) -> ProfileSessionStatus {
    let mut phases: Vec<TargetPhase> = status.targets.iter().map(|target| target.phase).collect();
    phases.sort_unstable();
    phases.dedup();
    for phase in phases {
        let of_phase = status.targets.iter_mut().filter(|target| target.phase == phase);
        let mut targets: Vec<&mut TargetStatus> = of_phase.collect();
        if targets.len() >= FEWEST {
            status.shared.push(facts(phase, &mut targets));
        }
    }
    status
}

/// The status as it is worked with: every target has its facts.
fn spread(mut status: ProfileSessionStatus) -> ProfileSessionStatus {
    for facts in std::mem::take(&mut status.shared) {
        // No session has more: what else an object claims must not be multiplied.
        let targets = status.targets.iter_mut().take(MAX_TARGETS);
        targets.filter(|target| target.phase == facts.phase).for_each(|target| give(&facts, target));
    }
    status
}

/// Takes what the targets have in common out of them.
fn facts(phase: TargetPhase, targets: &mut [&mut TargetStatus]) -> SharedFacts {
    let mut facts = SharedFacts { phase, ..SharedFacts::default() };
    facts.profiles = profiles(targets);
    facts.capture = captures(targets);
    facts.node_domain = node_domain(targets);
    if phase.is_terminal() {
        targets.iter_mut().for_each(|target| cut_id(&mut target.container_id));
    }
    macro_rules! take {
        ($field:ident) => {
            let own: Vec<_> = targets.iter_mut().map(|target| &mut target.$field).collect();
            facts.$field = most_frequent(own.iter().map(|value| &**value)).unwrap_or_default();
            leave_out(own, &facts.$field);
        };
    }
    for_each_fact!(take);
    facts
}

/// Gives a target what it left to what is shared.
fn give(facts: &SharedFacts, target: &mut TargetStatus) {
    macro_rules! take {
        ($field:ident) => {
            if target.$field.is_absent() {
                target.$field = facts.$field.clone();
            }
        };
    }
    for_each_fact!(take);
    if !facts.capture.is_empty() {
        target.capture.insert_str(0, &facts.capture);
    }
    target.node.push_str(&facts.node_domain);
    for profile in &mut target.profiles {
        let of_kind = |shared: &&SharedProfile| shared.kind.is_known() && shared.kind == profile.kind;
        let Some(shared) = facts.profiles.iter().find(of_kind) else { continue };
        if profile.uri.is_empty() {
            profile.uri = shared.uri.replacen(POD, &target.pod, 1);
        }
        if profile.destinations.is_empty() {
            profile.destinations.clone_from(&shared.destinations);
        }
    }
}

/// The value that most targets have; `None` where one has none, which could not be told from leaving it out, or where
/// no two agree.
fn most_frequent<'a, T: Fact + 'a>(values: impl Iterator<Item = &'a T>) -> Option<T> {
    let mut counts: Vec<(&T, usize)> = Vec::new();
    for value in values {
        if value.is_absent() {
            return None;
        }
        match counts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((value, 1)),
        }
    }
    let (value, count) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
    (count > 1).then(|| value.clone())
}

fn leave_out<T: Fact>(values: Vec<&mut T>, shared: &T) {
    values.into_iter().filter(|value| **value == *shared).for_each(|value| *value = T::default());
}

/// Takes what all keys of captures begin with out of them: all up to the last `-`, where it is the same for all.
fn captures(targets: &mut [&mut TargetStatus]) -> String {
    let begin =
        |target: &TargetStatus| target.capture.rfind('-').map(|end| target.capture[..=end].to_owned());
    let Some(shared) = targets.first().and_then(|first| begin(first)) else { return String::new() };
    if !targets.iter().all(|target| begin(target).as_ref() == Some(&shared)) {
        return String::new();
    }
    for target in targets {
        target.capture.drain(..shared.len());
    }
    shared
}

/// Takes what all names of nodes end with out of them: all from the first `.` on, where it is the same for all.
fn node_domain(targets: &mut [&mut TargetStatus]) -> String {
    let end = |target: &TargetStatus| target.node.find('.').map(|from| target.node[from..].to_owned());
    let Some(shared) = targets.first().and_then(|first| end(first)) else { return String::new() };
    if !targets.iter().all(|target| end(target).as_ref() == Some(&shared)) {
        return String::new();
    }
    for target in targets {
        let rest = target.node.len().saturating_sub(shared.len());
        target.node.truncate(rest);
    }
    shared
}

/// Keeps as much of the id of a container that nothing will be ordered of any more as the tools of a node print and
/// take.
fn cut_id(id: &mut String) {
    if id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        id.truncate(SHORT_CONTAINER_ID);
    }
}

/// Takes what the profiles of each type have in common out of them.
fn profiles(targets: &mut [&mut TargetStatus]) -> Vec<SharedProfile> {
    let mut kinds: Vec<ProfileKind> =
        targets.iter().flat_map(|target| &target.profiles).map(|profile| profile.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().filter(|kind| kind.is_known()).map(|kind| profiles_of(kind, targets)).collect()
}

fn profiles_of(kind: ProfileKind, targets: &mut [&mut TargetStatus]) -> SharedProfile {
    let mut own: Vec<(String, &mut StoredProfile)> = Vec::new();
    for target in targets {
        let TargetStatus { pod, profiles, .. } = &mut **target;
        let of_kind = profiles.iter_mut().filter(|profile| profile.kind == kind);
        own.extend(of_kind.map(|profile| (template(&profile.uri, pod), profile)));
    }
    let uri = most_frequent(own.iter().map(|(template, _)| template)).unwrap_or_default();
    let destinations =
        most_frequent(own.iter().map(|(_, profile)| &profile.destinations)).unwrap_or_default();
    for (template, profile) in own {
        if !uri.is_empty() && template == uri {
            profile.uri.clear();
        }
        if profile.destinations == destinations {
            profile.destinations.clear();
        }
    }
    SharedProfile { kind, uri, destinations }
}

/// The key with `{pod}` for the name of the pod; empty where replacing it back would not give the key.
fn template(uri: &str, pod: &str) -> String {
    let file = uri.rfind('/').map_or(0, |slash| slash.saturating_add(1));
    let template = match pod.is_empty() {
        true => uri.to_owned(),
        false => format!("{}{}", &uri[..file], uri[file..].replacen(pod, POD, 1)),
    };
    if template.replacen(POD, pod, 1) == uri { template } else { String::new() }
}

#[cfg(test)]
mod tests;
