//! How does a decision about a policy reach the cluster?

use fleetprof_core::policy::Step;
use fleetprof_crds::{ProfileSession, ProfilingPolicy, Reason, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{Context, Error};

/// Creates the session of the round that is due and deletes those over the limits.
pub async fn rounds(policy: &ProfilingPolicy, step: &Step, context: &Context) -> Result<(), Error> {
    let api = Api::<ProfileSession>::namespaced(context.client.clone(), &policy.namespace().unwrap_or_default());
    for name in &step.delete {
        ignore(api.delete(name, &DeleteParams::default()).await.map(drop), 404)?;
    }
    let Some(session) = &step.create else { return Ok(()) };
    match api.create(&PostParams::default(), session).await {
        Ok(_) => {
            let note =
                format!("Round {} starts as session {}.", session.name_any().rsplit('-').next().unwrap_or_default(), session.name_any());
            context.events.normal(&policy.object_ref(&()), Reason::SessionCreated, "Schedule", note).await;
            Ok(())
        }
        // The round was started before, by this leader or the one before it.
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ignore(result: kube::Result<()>, code: u16) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == code => Ok(()),
        other => other.map_err(Error::from),
    }
}

/// Writes the status when it differs, and an event when `Ready` changed.
pub async fn status(policy: &ProfilingPolicy, step: &Step, context: &Context) -> Result<(), Error> {
    if policy.status.as_ref() == Some(&step.status) {
        return Ok(());
    }
    let api = Api::<ProfilingPolicy>::namespaced(context.client.clone(), &policy.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": ProfilingPolicy::api_version(&()), "kind": ProfilingPolicy::kind(&()),
        "metadata": {"name": policy.name_any(), "uid": policy.uid()},
        "status": step.status,
    });
    let written = api.patch_status(&policy.name_any(), &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(body)).await;
    match written {
        Ok(_) => context.metrics.status_written("policy"),
        // Deleted, or deleted and made anew, meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    announce(policy, step, context).await;
    announce_links(policy, step, context).await;
    Ok(())
}

/// An event for each app that has come to a reason that a person would ask about.
async fn announce_links(policy: &ProfilingPolicy, step: &Step, context: &Context) {
    let before = policy.status.as_ref().map(|s| s.linked_apps.as_slice()).unwrap_or_default();
    let quiet = [Reason::Linked, Reason::AgentStarting, Reason::AttachedOnDemand, Reason::PodNotRunning, Reason::StatusCheckBlocked];
    for app in step.status.linked_apps.iter().filter(|a| !quiet.contains(&a.reason)) {
        if before.iter().any(|b| b.kind == app.kind && b.name == app.name && b.reason == app.reason) {
            continue;
        }
        let about = policy.object_ref(&());
        let note = format!("{}/{}: {} of {} pods can be profiled; {}.", app.kind, app.name, app.linked, app.pods, app.reason.advice());
        if app.linked == app.pods {
            context.events.normal(&about, app.reason, "Link", note).await;
        } else {
            context.events.warning(&about, app.reason, "Link", note).await;
        }
    }
}

/// An event when `Ready` or its reason changed.
async fn announce(policy: &ProfilingPolicy, step: &Step, context: &Context) {
    let of = |all: &[Condition]| all.iter().find(|c| c.type_ == "Ready").map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()));
    let before = policy.status.as_ref().and_then(|s| of(&s.conditions));
    let Some((status, reason, message)) = of(&step.status.conditions) else { return };
    if before.is_some_and(|(s, r, _)| s == status && r == reason) {
        return;
    }
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == reason).unwrap_or(Reason::Internal);
    let about = policy.object_ref(&());
    if status == "True" {
        context.events.normal(&about, reason, "Link", message).await;
    } else {
        context.events.warning(&about, reason, "Link", message).await;
    }
}
