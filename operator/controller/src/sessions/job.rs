//! How does the Job stand that a session waits for? Asked for only while no pod of it runs.

use fleetprof_core::session::JobFacts;
use fleetprof_crds::ProfileSession;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt};

use super::{Context, Error};

/// Asks the API server for the Job of this name in the namespace of `session`.
///
/// # Errors
/// When it cannot be asked; the session waits on.
pub async fn look(session: &ProfileSession, name: &str, context: &Context) -> Result<JobFacts, Error> {
    let api = Api::<Job>::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    match api.get_opt(name).await {
        Ok(job) => Ok(job.map_or(JobFacts::Missing, |job| facts(&job))),
        // A role of an older chart: the session's own deadline must apply anyway.
        Err(kube::Error::Api(answer)) if answer.code == 403 => Ok(JobFacts::Hidden),
        Err(error) => Err(error.into()),
    }
}

fn facts(job: &Job) -> JobFacts {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let holds =
        |type_: &str| conditions.into_iter().flatten().find(|c| c.type_ == type_ && c.status == "True");
    if holds("Complete").is_some() {
        return JobFacts::Ended("has completed".into());
    }
    if let Some(failed) = holds("Failed") {
        return JobFacts::Ended(format!(
            "has failed ({})",
            failed.reason.as_deref().unwrap_or("no reason given")
        ));
    }
    // A Job that is being deleted starts no more pods.
    if job.metadata.deletion_timestamp.is_some() {
        return JobFacts::Ended("is being deleted".into());
    }
    match job.spec.as_ref().and_then(|s| s.suspend) {
        Some(true) => JobFacts::Suspended,
        _ => JobFacts::Active,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(spec: Value, conditions: Value) -> JobFacts {
        let job = json!({"metadata": {"name": "load"}, "spec": spec, "status": {"conditions": conditions}});
        facts(&serde_json::from_value(job).unwrap())
    }

    #[test]
    fn a_job_ends_with_its_conditions_alone() {
        let spec = |suspend| json!({"suspend": suspend, "template": {}});
        let cases = [
            (job(spec(false), json!([])), JobFacts::Active),
            (job(spec(true), json!([{"type": "Suspended", "status": "True"}])), JobFacts::Suspended),
            (job(spec(false), json!([{"type": "SuccessCriteriaMet", "status": "True"}])), JobFacts::Active),
            (job(spec(false), json!([{"type": "Complete", "status": "False"}])), JobFacts::Active),
            (
                job(spec(false), json!([{"type": "Complete", "status": "True"}])),
                JobFacts::Ended("has completed".into()),
            ),
            (
                job(spec(false), json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}])),
                JobFacts::Ended("has failed (DeadlineExceeded)".into()),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
