//! What does the status of a policy say, and which events go with it?

use fleetprof_core::pod::Owner;
use fleetprof_core::policy::Step;
use fleetprof_core::policy::news::News;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ProfilingPolicyStatus, Reason, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::apply::Applied;
use super::restart::Next;
use super::{Context, Error};
use crate::triggers;
use crate::watched::PolicyObject;

/// What was decided, with how restarts and triggers stand; a round that no namespace took has not begun.
fn status(
    policy: &PolicyView<'_>,
    step: &Step,
    restart: &Next,
    applied: &Applied,
    triggers: &triggers::Context,
) -> ProfilingPolicyStatus {
    let mut status = step.status.clone();
    restart.fill(policy, &mut status, step.now);
    triggers::fill(policy, &mut status, step.now, triggers);
    if applied.refused_round {
        status.last_session_time = policy.status.and_then(|s| s.last_session_time.clone());
    }
    status
}

/// Writes the status when it differs, over the version that it was decided on, and an event when `Ready` or a
/// link changed.
///
/// # Errors
/// When the API server refuses, or the policy has changed meanwhile.
pub async fn write<P: PolicyObject>(
    policy: &P,
    step: &Step,
    restart: &Next,
    applied: &Applied,
    context: &Context,
) -> Result<(), Error> {
    let status = status(&policy.view(), step, restart, applied, &context.triggers);
    if policy.view().status == Some(&status) {
        return Ok(());
    }
    let api = policy.api(context.client.clone());
    let body = json!({
        "apiVersion": P::api_version(&()), "kind": P::kind(&()),
        "metadata": {"name": policy.name_any(), "uid": policy.uid(), "resourceVersion": policy.resource_version()},
        "status": status,
    });
    let written = api
        .patch_status(
            &policy.name_any(),
            &PatchParams::apply(names::FIELD_MANAGER).force(),
            &Patch::Apply(body),
        )
        .await;
    match written {
        Ok(_) => context.metrics.status_written("policy"),
        // Deleted meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => return Err(Error::Changed),
        Err(error) => return Err(error.into()),
    }
    announce(policy, &status, context).await;
    announce_links(policy, step, context).await;
    Ok(())
}

/// An event for each app that has come to a reason that a person would ask about: on the policy and on the
/// app itself.
async fn announce_links<P: PolicyObject>(policy: &P, step: &Step, context: &Context) {
    for news in &step.news {
        let owner = reference(news, context).await;
        for about in [&policy.object_ref(&()), &owner] {
            if news.warning {
                context.events.warning(about, news.reason, "Link", news.note.clone()).await;
            } else {
                context.events.normal(about, news.reason, "Link", news.note.clone()).await;
            }
        }
    }
}

/// The object that `kubectl describe` is asked for. Pods of a Deployment name its ReplicaSet alone, so its
/// uid is looked up; where that fails, the ReplicaSet is told.
async fn reference(news: &News, context: &Context) -> ObjectReference {
    let Owner { mut api_version, mut kind, mut name, mut uid } = news.owner.clone();
    if news.workload.kind == "Deployment" {
        let api = Api::<Deployment>::namespaced(context.client.clone(), &news.namespace);
        match api.get_metadata(&news.workload.name).await {
            Ok(found) => {
                uid = found.metadata.uid.unwrap_or_default();
                api_version = "apps/v1".into();
                (kind, name) = (news.workload.kind.clone(), news.workload.name.clone());
            }
            Err(error) => {
                tracing::debug!(
                    %error,
                    k8s.deployment.name = news.workload.name,
                    "failed to get Deployment"
                )
            }
        }
    }
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind),
        namespace: Some(news.namespace.clone()),
        name: Some(name),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

/// An event when `Ready` or its reason changed.
async fn announce<P: PolicyObject>(policy: &P, status: &ProfilingPolicyStatus, context: &Context) {
    let of = |all: &[Condition]| {
        all.iter()
            .find(|c| c.type_ == "Ready")
            .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    let before = policy.view().status.and_then(|s| of(&s.conditions));
    let Some((ready, reason, message)) = of(&status.conditions) else { return };
    if before.is_some_and(|(s, r, _)| s == ready && r == reason) {
        return;
    }
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == reason).unwrap_or(Reason::Internal);
    let about = policy.object_ref(&());
    if ready == "True" {
        context.events.normal(&about, reason, "Link", message).await;
    } else {
        context.events.warning(&about, reason, "Link", message).await;
    }
}
