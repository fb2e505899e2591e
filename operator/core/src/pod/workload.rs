//! To which workload does a pod belong? Found in what the pod itself carries; the owner of its Job is added
//! where that is known.
//!
//! ```text
//! ReplicaSet web-5d8f, label pod-template-hash: 5d8f             ─► Deployment/web
//! ReplicaSet web-5d8f, label rollouts-pod-template-hash: 5d8f    ─► Rollout/web
//! any controller web-5d8f, label with "hash" in its key: 5d8f    ─► its kind, web
//! ReplicationController web-3, label deploymentconfig: web       ─► DeploymentConfig/web
//! Job tick-29930476, at whose minute the pod was made            ─► CronJob/tick
//! ```
//! What a controller makes for each run or revision has a new name each time. Cooldowns, turns, profiles and
//! metrics go by the workload, so it has to be what stays.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::PodFacts;

/// Labels with the hash in a ReplicaSet's name, and what owns such a ReplicaSet: Argo Rollouts has its own.
const REPLICA_SETS: [(&str, &str); 2] =
    [("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")];
/// The kinds whose revisions are ReplicaSets: what owns one, or one that nothing known owns.
const OF_REPLICA_SETS: [&str; 3] = ["Deployment", "Rollout", "ReplicaSet"];
/// The kinds that replace their pods when the template changes.
const RESTARTED: [&str; 3] = ["DaemonSet", "Deployment", "StatefulSet"];
/// Label of the pods of StatefulSets, DaemonSets and what works as they do, such as a CloneSet.
const CONTROLLER_REVISION: &str = "controller-revision-hash";
/// Kinds whose names people choose: no part of those is a hash, whatever the labels say.
const NAMED: [&str; 4] = ["StatefulSet", "DaemonSet", "Job", "ReplicationController"];
/// Label with the name of OpenShift's DeploymentConfig, which makes a ReplicationController for each version.
const DEPLOYMENT_CONFIG: &str = "deploymentconfig";
/// The minute in the name of a CronJob's Job is when the run was due. A pod of it may be made later, after a
/// missed start or for a retry, but hardly by more than this; a date in a name is decades off.
const LATE: SignedDuration = SignedDuration::from_hours(366 * 24);
/// Two clocks may differ by this: the pod is made before its time.
const EARLY: SignedDuration = SignedDuration::from_mins(-10);

/// A workload: the top-level controller of a pod, or the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl Workload {
    /// The name in `Kind/name`, as displayed by [`Workload`].
    #[must_use]
    pub fn name_of(text: &str) -> &str {
        text.split_once('/').map_or(text, |(_, name)| name)
    }

    /// Whether its pods are replaced, one after another, when its template changes, so that a restart gives
    /// them an agent.
    #[must_use]
    pub fn restarts(&self) -> bool {
        RESTARTED.contains(&self.kind.as_str())
    }

    /// What owns a Job with this metadata, such as a CronJob or a JobSet; `None` for one of its own.
    #[must_use]
    pub fn above_job(job: &ObjectMeta) -> Option<Self> {
        let owner = job.owner_references.iter().flatten().find(|o| o.controller == Some(true))?;
        Some(Self { kind: owner.kind.clone(), name: owner.name.clone() })
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The direct controller of a pod, such as the ReplicaSet of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its API version, such as `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The object that stands for a revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevisionObject {
    /// A ReplicaSet of this name.
    ReplicaSet(String),
    /// A ControllerRevision of this name.
    ControllerRevision(String),
}

impl RevisionObject {
    /// The object that stands for the revision of a workload with this label, as [`PodFacts::revision`] tells it.
    #[must_use]
    pub fn of(workload: &Workload, label: &str) -> Self {
        let name = &workload.name;
        if OF_REPLICA_SETS.contains(&workload.kind.as_str()) {
            return Self::ReplicaSet(format!("{name}-{label}"));
        }
        // A DaemonSet's pods carry the hash, a StatefulSet's the whole name.
        let whole = label.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'));
        Self::ControllerRevision(if whole { label.to_owned() } else { format!("{name}-{label}") })
    }
}

impl PodFacts {
    /// Whether the pod is of this workload, or of this Job or ReplicaSet of it. The kind is compared in any case,
    /// as labels write it.
    #[must_use]
    pub fn is_of(&self, kind: &str, name: &str) -> bool {
        let same = |of_kind: &str, of_name: &str| of_kind.eq_ignore_ascii_case(kind) && of_name == name;
        same(&self.workload.kind, &self.workload.name)
            || self.owner.as_deref().is_some_and(|owner| same(&owner.kind, &owner.name))
    }

    /// Name of the Job that controls the pod; the workload may be what owns the Job.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        let of_batch = |api_version: &str| api_version.starts_with("batch/");
        let job = self.owner.as_deref().filter(|o| o.kind == "Job" && of_batch(&o.api_version))?;
        Some(&job.name)
    }

    /// The revision of its workload that the pod is of, and the object that stands for it; `None` for
    /// workloads without revisions.
    #[must_use]
    pub fn revision(&self) -> Option<(&str, RevisionObject)> {
        let workload = &self.workload.name;
        if let Some(owner) = self.owner.as_deref().filter(|o| o.kind == "ReplicaSet") {
            let hash = owner.name.strip_prefix(workload.as_str())?.strip_prefix('-')?;
            return Some((hash, RevisionObject::ReplicaSet(owner.name.clone())));
        }
        let label = self.labels.get(CONTROLLER_REVISION)?;
        Some((label.as_str(), RevisionObject::of(&self.workload, label)))
    }
}

pub(crate) fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// No other object is needed for it.
pub(crate) fn workload(pod: &Pod) -> Workload {
    let meta = &pod.metadata;
    let Some(owner) = controller(pod) else {
        return Workload { kind: "Pod".into(), name: meta.name.clone().unwrap_or_default() };
    };
    if let Some((kind, name)) = without_hash(meta, owner) {
        return Workload { kind: kind.to_owned(), name: name.to_owned() };
    }
    if let Some(name) = deployment_config(meta, owner) {
        return Workload { kind: "DeploymentConfig".into(), name: name.to_owned() };
    }
    if owner.kind == "Job"
        && let Some(name) = cron_job(&owner.name, meta.creation_timestamp.as_ref().map(|t| t.0))
    {
        return Workload { kind: "CronJob".into(), name: name.to_owned() };
    }
    Workload { kind: owner.kind.clone(), name: owner.name.clone() }
}

/// The workload of a controller whose name ends with the hash in one of the pod's labels.
fn without_hash<'p>(meta: &'p ObjectMeta, owner: &'p OwnerReference) -> Option<(&'p str, &'p str)> {
    let labels = meta.labels.as_ref()?;
    let before = |hash: &String| {
        let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
        (!hash.is_empty() && !name.is_empty()).then_some(name)
    };
    let of_replica_set = || {
        let (name, kind) =
            REPLICA_SETS.iter().find_map(|(key, kind)| Some((labels.get(*key).and_then(before)?, *kind)))?;
        Some((kind, name))
    };
    if owner.kind == "ReplicaSet"
        && let Some(known) = of_replica_set()
    {
        return Some(known);
    }
    if NAMED.contains(&owner.kind.as_str()) {
        return None;
    }
    let name = labels.iter().filter(|(key, _)| key.contains("hash")).find_map(|(_, hash)| before(hash))?;
    Some((owner.kind.as_str(), name))
}

fn deployment_config<'p>(meta: &'p ObjectMeta, owner: &OwnerReference) -> Option<&'p str> {
    let name =
        meta.labels.as_ref()?.get(DEPLOYMENT_CONFIG).filter(|_| owner.kind == "ReplicationController")?;
    let version = owner.name.strip_prefix(name.as_str())?.strip_prefix('-')?;
    version.bytes().all(|b| b.is_ascii_digit()).then_some(name.as_str())
}

/// The CronJob of a Job by its name: `<CronJob>-<minutes since 1970>`, which Kubernetes gives to every run.
fn cron_job(job: &str, pod_created: Option<Timestamp>) -> Option<&str> {
    let (name, minutes) = job.rsplit_once('-')?;
    let digits = minutes.len() <= 9 && minutes.bytes().all(|b| b.is_ascii_digit());
    let due =
        Timestamp::from_second(minutes.parse::<i64>().ok().filter(|_| digits)?.checked_mul(60)?).ok()?;
    let late = pod_created?.duration_since(due);
    (!name.is_empty() && EARLY <= late && late <= LATE).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(owner: Value, labels: Value) -> PodFacts {
        let mut owner = owner;
        (owner["uid"], owner["controller"]) = (json!("o"), json!(true));
        let meta = json!({
            "name": "p", "namespace": "shop", "uid": "u", "labels": labels, "ownerReferences": [owner],
            "creationTimestamp": "2026-11-28T02:16:00Z",
        });
        PodFacts::of(&serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap())
            .unwrap()
    }

    fn of(api_version: &str, kind: &str, name: &str, labels: Value) -> String {
        let owner = json!({"apiVersion": api_version, "kind": kind, "name": name});
        pod(owner, labels).workload.to_string()
    }

    #[test]
    fn what_owns_a_replica_set_is_told_by_the_label_with_the_hash() {
        let cases = [
            ("web-6668595956", json!({"pod-template-hash": "6668595956"}), "Deployment/web"),
            ("web-6668595956", json!({"rollouts-pod-template-hash": "6668595956"}), "Rollout/web"),
            ("my-web-66", json!({"example.com/template-hash": "66", "tier": "web"}), "ReplicaSet/my-web"),
            ("web-blue", json!({"color": "blue"}), "ReplicaSet/web-blue"),
            ("web-66", json!({"pod-template-hash": "77"}), "ReplicaSet/web-66"),
            ("web-", json!({"pod-template-hash": ""}), "ReplicaSet/web-"),
            ("66", json!({"pod-template-hash": "66"}), "ReplicaSet/66"),
            ("web-66", Value::Null, "ReplicaSet/web-66"),
        ];
        for (name, labels, workload) in cases {
            assert_eq!(of("apps/v1", "ReplicaSet", name, labels.clone()), workload, "{name} {labels}");
        }
    }

    #[test]
    fn other_controllers_keep_their_kind_and_lose_a_hash_in_their_name() {
        let revision = |hash: &str| json!({"controller-revision-hash": hash});
        let cases = [
            ("apps/v1", "StatefulSet", "db", revision("db-6d5c"), "StatefulSet/db"),
            ("apps/v1", "DaemonSet", "log", revision("6d5c"), "DaemonSet/log"),
            ("apps.kruise.io/v1alpha1", "CloneSet", "web", revision("web-6d5c"), "CloneSet/web"),
            ("sparkoperator.k8s.io/v1beta2", "SparkApplication", "pi", json!({}), "SparkApplication/pi"),
            ("apps/v1", "StatefulSet", "db-v2", json!({"config-hash": "v2"}), "StatefulSet/db-v2"),
            (
                "v1",
                "ReplicationController",
                "web-3",
                json!({"deploymentconfig": "web", "deployment": "web-3"}),
                "DeploymentConfig/web",
            ),
            ("v1", "ReplicationController", "web-3", json!({}), "ReplicationController/web-3"),
            ("example.com/v1", "Fleet", "web-77", json!({"example.com/pod-hash": "77"}), "Fleet/web"),
        ];
        for (api_version, kind, name, labels, workload) in cases {
            assert_eq!(of(api_version, kind, name, labels), workload);
        }
    }

    #[test]
    fn a_run_of_a_cron_job_is_told_by_the_minute_in_its_name() {
        // The pod is of 2026-11-28T02:16Z, minute 29930536.
        let cases = [
            ("tick-29930536", "CronJob/tick"),
            ("a-b-29930476", "CronJob/a-b"),
            ("tick-29930545", "CronJob/tick"),
            ("tick-29930547", "Job/tick-29930547"),
            ("tick-29500000", "CronJob/tick"),
            ("tick-29400000", "Job/tick-29400000"),
            ("report-20261128", "Job/report-20261128"),
            ("migrate-12", "Job/migrate-12"),
            ("29930536", "Job/29930536"),
            ("-29930536", "Job/-29930536"),
            ("tick-+29930536", "Job/tick-+29930536"),
            ("tick-99999999999999999999", "Job/tick-99999999999999999999"),
        ];
        for (name, workload) in cases {
            assert_eq!(of("batch/v1", "Job", name, json!({})), workload);
        }
    }

    #[test]
    fn a_pod_is_of_its_workload_and_of_the_run_or_revision_in_between() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "tick-29930536"});
        let pod = pod(job, json!({}));
        let cases = [
            ("CronJob", "tick", true),
            ("cronjob", "tick", true),
            ("Job", "tick-29930536", true),
            ("Job", "tick", false),
            ("CronJob", "tick-29930536", false),
        ];
        for (kind, name, is_of) in cases {
            assert_eq!(pod.is_of(kind, name), is_of, "{kind}/{name}");
        }
    }

    #[test]
    fn a_pod_of_a_cron_job_is_still_known_by_its_job() {
        let job =
            |api_version: &str| json!({"apiVersion": api_version, "kind": "Job", "name": "tick-29930536"});
        assert_eq!(pod(job("batch/v1"), json!({})).job(), Some("tick-29930536"));
        assert_eq!(pod(job("batch.volcano.sh/v1alpha1"), json!({})).job(), None);
    }

    #[test]
    fn a_revision_has_an_object_whatever_the_kind_of_its_workload() {
        let replica_set = |name: &str| Some(RevisionObject::ReplicaSet(name.into()));
        let controller = |name: &str| Some(RevisionObject::ControllerRevision(name.into()));
        let revision = |hash: &str| json!({"controller-revision-hash": hash});
        let cases = [
            ("ReplicaSet", "web-66", json!({"pod-template-hash": "66"}), replica_set("web-66")),
            ("ReplicaSet", "web-66", json!({"rollouts-pod-template-hash": "66"}), replica_set("web-66")),
            ("ReplicaSet", "web-66", json!({}), None),
            ("StatefulSet", "db", revision("db-6d5c"), controller("db-6d5c")),
            ("DaemonSet", "log", revision("6d5c"), controller("log-6d5c")),
            ("CloneSet", "web", revision("6d5c"), controller("web-6d5c")),
            ("SparkApplication", "pi", json!({}), None),
        ];
        for (kind, name, labels, object) in cases {
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": name});
            let pod = pod(owner, labels);
            assert_eq!(pod.revision().map(|(_, object)| object), object, "{kind}/{name}");
            // Found again by what a status has of the pod.
            let again = pod.revision().map(|(label, _)| RevisionObject::of(&pod.workload, label));
            assert_eq!(again, object, "{kind}/{name}");
        }
    }
}
