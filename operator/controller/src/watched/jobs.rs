//! How do the Jobs stand that sessions wait for, and what owns them? A copy of the Jobs, of each only
//! what tells.

use std::borrow::Cow;

use fleetprof_core::pod::Workload;
use fleetprof_core::session::JobFacts;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use super::{Cache, Pods, Told};

/// A Job without its pod template, which is most of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobState {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    suspend: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    conditions: Option<Vec<JobCondition>>,
}

impl Resource for JobState {
    type DynamicType = ();
    type Scope = <Job as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Job::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Job::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Job::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Job::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl JobState {
    /// Takes away the metadata that tells nothing.
    pub fn prune(&mut self) {
        let ObjectMeta {
            name, namespace, uid, resource_version, deletion_timestamp, owner_references, ..
        } = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            deletion_timestamp,
            owner_references,
            ..ObjectMeta::default()
        };
    }

    /// What owns it, such as a CronJob; `None` for one of its own.
    #[must_use]
    pub fn owner(&self) -> Option<Workload> {
        Workload::above_job(&self.metadata)
    }

    /// Takes in a change: the pods of a Job are of the workload that owns the Job.
    pub fn note_owner(change: &Told<'_, Self>, pods: &Pods) {
        match change {
            Told::Object { before, now } => {
                let uid = now.uid();
                // Another Job of the same name.
                if let Some(gone) =
                    before.and_then(ResourceExt::uid).filter(|gone| Some(gone) != uid.as_ref())
                {
                    pods.forget_job(&gone);
                }
                if let (Some(namespace), Some(uid), Some(owner)) = (now.namespace(), uid, now.owner()) {
                    pods.set_above_job(&namespace, &uid, owner);
                }
            }
            Told::Gone { uid, .. } => pods.forget_job(uid),
            Told::Unreadable(_) => {}
        }
    }

    /// How it stands.
    #[must_use]
    pub fn facts(&self) -> JobFacts {
        let conditions = self.status.conditions.iter().flatten();
        let holds = |type_: &str| conditions.clone().find(|c| c.type_ == type_ && c.status == "True");
        if holds("Complete").is_some() {
            return JobFacts::Ended("has completed".into());
        }
        if let Some(failed) = holds("Failed") {
            let reason = failed.reason.as_deref().unwrap_or("no reason given");
            return JobFacts::Ended(format!("has failed ({reason})"));
        }
        // A Job that is being deleted starts no more pods.
        if self.metadata.deletion_timestamp.is_some() {
            return JobFacts::Ended("is being deleted".into());
        }
        match self.spec.suspend {
            Some(true) => JobFacts::Suspended,
            _ => JobFacts::Active,
        }
    }
}

impl Cache<JobState> {
    /// How the Job of this name stands.
    #[must_use]
    pub fn facts(&self, namespace: &str, name: &str) -> JobFacts {
        match self.get(namespace, name) {
            Some(job) => job.facts(),
            None if self.is_listed() => JobFacts::Missing,
            None => JobFacts::Unlisted,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::watched::{Guarded, WatchMetrics};
    use kube_runtime::watcher::Event;

    fn job(spec: Value, conditions: Value) -> Guarded<JobState> {
        let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "c", "controller": true});
        let meta = json!({"name": "load", "namespace": "shop", "uid": "j", "labels": {"team": "a"}, "ownerReferences": [owner]});
        let job = json!({"metadata": meta, "spec": spec, "status": {"conditions": conditions}});
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_job_ends_with_its_conditions_alone() {
        let spec = |suspend| json!({"suspend": suspend, "template": {}});
        let facts = |spec: Value, conditions: Value| job(spec, conditions).0.unwrap().facts();
        let cases = [
            (facts(spec(false), json!([])), JobFacts::Active),
            (facts(json!({"template": {}}), json!(null)), JobFacts::Active),
            (facts(spec(true), json!([{"type": "Suspended", "status": "True"}])), JobFacts::Suspended),
            (facts(spec(false), json!([{"type": "SuccessCriteriaMet", "status": "True"}])), JobFacts::Active),
            (facts(spec(false), json!([{"type": "Complete", "status": "False"}])), JobFacts::Active),
            (
                facts(spec(false), json!([{"type": "Complete", "status": "True"}])),
                JobFacts::Ended("has completed".into()),
            ),
            (
                facts(
                    spec(false),
                    json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]),
                ),
                JobFacts::Ended("has failed (DeadlineExceeded)".into()),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_job_is_missing_only_once_all_were_listed() {
        let (jobs, mut writer) = Cache::<JobState>::new(WatchMetrics::default());
        let facts = || jobs.facts("shop", "load");
        assert_eq!(facts(), JobFacts::Unlisted);
        writer.take(Event::Init, &|_| {});
        writer.take(Event::InitDone, &|_| {});
        assert_eq!(facts(), JobFacts::Missing);
        writer.take(Event::Apply(job(json!({}), json!([]))), &|_| {});
        assert_eq!(facts(), JobFacts::Active);
    }

    #[test]
    fn little_is_kept_of_a_job() {
        let mut job = job(json!({}), json!([])).0.unwrap();
        job.prune();
        assert_eq!(job.owner().map(|w| w.to_string()).as_deref(), Some("CronJob/tick"));
        assert_eq!((job.metadata.labels, job.metadata.name.as_deref()), (None, Some("load")));
    }
}
