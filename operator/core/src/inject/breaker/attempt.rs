//! What has to be known of a pod that is about to get an agent? Anybody can post one, so what is remembered of it
//! has one size, whatever the pod says.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hash::{Key, key, short_name};
use crate::pod::{controller, workload};
use crate::view::PolicyView;

/// The label of a revision's pods where one owner serves all revisions.
const REVISION: &str = "controller-revision-hash";
/// Most bytes of an owner's UID, kind or name: the API server takes none that is longer.
const LONGEST: usize = 253;
/// Bytes that the API server takes of `generateName`, and those that it puts behind them.
const GENERATED: (usize, usize) = (58, 5);

/// A pod of a workload that is about to get an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its namespace.
    pub(super) namespace: Key,
    /// The pod's controller, such as a ReplicaSet, by namespace and UID: events name it.
    pub(super) owner: Key,
    /// The workload, and all that another pod would be refused for as well: revision, policy and image.
    pub(super) of: Key,
    /// What the names of the workload's pods have in common, by namespace: events name the pod.
    pub(super) stem: Key,
    /// The image of the agent.
    pub(super) image: Key,
}

impl Attempt {
    /// The attempt on a pod; `None` for a pod without a controller, whose creator gets the refusal as an answer.
    #[must_use]
    pub fn of(
        (pod, namespace): (&Value, &str),
        (policy, image): (&PolicyView<'_>, &str),
        now: Timestamp,
    ) -> Option<Self> {
        let meta = ObjectMeta::deserialize(pod.get("metadata")?).ok()?;
        // A run of a CronJob is known by the minute in its name, beside which its pod was made.
        let creation_timestamp = meta.creation_timestamp.clone().or(Some(Time(now)));
        let typed = Pod { metadata: ObjectMeta { creation_timestamp, ..meta }, ..Pod::default() };
        let owner = controller(&typed).filter(|owner| is_possible(owner))?;
        let of = workload(&typed);
        let generation = policy.generation.map(|n| n.to_string()).unwrap_or_default();
        let revision = revision(owner, &typed.metadata, &pod["spec"]);
        let terms = [policy.uid, &generation, &revision, image];
        Some(Self {
            namespace: key(&[namespace]),
            owner: key(&[namespace, &owner.uid]),
            of: key(&[&[namespace, &of.kind, &of.name][..], &terms].concat()),
            stem: key(&[namespace, stem_of(&typed.metadata)]),
            image: key(&[image]),
        })
    }
}

fn is_possible(owner: &OwnerReference) -> bool {
    !owner.uid.is_empty() && [&owner.uid, &owner.kind, &owner.name].iter().all(|text| text.len() <= LONGEST)
}

/// What is another one once the workload's template changed: the owner that is made for each revision, else the
/// label. Each run of a CronJob has a Job of its own, so that only what the pod itself asks for tells.
fn revision(owner: &OwnerReference, meta: &ObjectMeta, spec: &Value) -> String {
    if owner.kind == "Job" {
        let parts = ["containers", "initContainers", "securityContext", "resources"].map(|key| &spec[key]);
        return short_name(&[&json!(parts).to_string()]);
    }
    let label = meta.labels.as_ref().and_then(|labels| labels.get(REVISION)).map_or("", String::as_str);
    short_name(&[&owner.name, label])
}

/// What names of the workload's pods have in common, told by the pod before it has a name of its own.
fn stem_of(meta: &ObjectMeta) -> &str {
    match meta.generate_name.as_deref().filter(|base| !base.is_empty()) {
        Some(base) => stem(base.get(..GENERATED.0).unwrap_or(base)),
        None => stem(meta.name.as_deref().unwrap_or_default()),
    }
}

/// The same told by the name of a pod, whose last letters may have been generated.
pub(super) fn stems(pod: &str) -> impl Iterator<Item = &str> {
    let generated = pod.len().checked_sub(GENERATED.1).and_then(|end| pod.get(..end));
    [generated, Some(pod)].into_iter().flatten().map(stem).filter(|stem| !stem.is_empty())
}

/// A name without what differs from pod to pod: the ordinal, the index in a Job, the minute of a CronJob's run.
fn stem(name: &str) -> &str {
    let mut stem = name.trim_end_matches('-');
    while let Some((before, digits)) = stem.rsplit_once('-')
        && !before.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        stem = before;
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_one_workload_have_names_with_one_stem() {
        let long = format!("{}-5d8f6c7b-", "web".repeat(25));
        let cut = format!("{}abcde", &long[..58]);
        let cases = [
            ("", "db-0", "db-11"),
            ("web-5d8f6c7b-", "", "web-5d8f6c7b-x2x9k"),
            ("log-", "", "log-2xk4q"),
            ("tick-29930536-", "", "tick-29930537-24567"),
            ("index-3-", "", "index-4-x2x9k"),
            ("tick-29930536-3-", "", "tick-29930599-0-x2x9k"),
            (long.as_str(), "", cut.as_str()),
        ];
        for (base, name, later) in cases {
            let meta = ObjectMeta {
                generate_name: Some(base.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            };
            assert!(stems(later).any(|stem| stem == stem_of(&meta)), "{base}{name} {later}");
        }
        let other = ObjectMeta { generate_name: Some("web-6667b-".to_owned()), ..ObjectMeta::default() };
        assert!(stems("web-5d8f6c7b-x2x9k").all(|stem| stem != stem_of(&other)), "another revision");
        assert_eq!(stems("").count() + stems("---").count(), 0);
    }
}
