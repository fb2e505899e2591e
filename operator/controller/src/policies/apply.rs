//! How does a decision about a policy reach the cluster?

use fleetprof_core::pod::Owner;
use fleetprof_core::policy::Step;
use fleetprof_core::policy::news::News;
use fleetprof_core::text::advised;
use fleetprof_crds::{ProfileSession, Reason, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Context, Error, PolicyObject};

/// Of this many namespaces that take no session an event tells the reason.
const TOLD: usize = 5;

/// Creates the sessions of the round that is due and deletes those over the limits.
///
/// A namespace that takes no session, such as one that is being deleted, keeps no other from having its own.
/// Where none takes one, the round has not begun: the event tells why, and until its tick counts as missed it
/// is tried again.
pub async fn rounds<P: PolicyObject>(policy: &P, step: &mut Step, context: &Context) -> Result<(), Error> {
    let api = |namespace: &str| Api::<ProfileSession>::namespaced(context.client.clone(), namespace);
    let mut kept = Ok(());
    for (namespace, name) in &step.delete {
        kept = kept.and(ignore(api(namespace).delete(name, &DeleteParams::default()).await.map(drop), 404));
    }
    if let Some(tick) = step.missed {
        let note = advised(format!("The tick of {} passed without a round", tick.at), Reason::TickMissed);
        context.events.warning(&policy.object_ref(&()), Reason::TickMissed, "Schedule", note).await;
    }
    let (mut any, mut refused) = (step.create.is_empty(), Vec::new());
    for session in &step.create {
        match create(policy, session, context).await {
            Ok(()) => any = true,
            Err(error) => refused.push((session.namespace().unwrap_or_default(), error)),
        }
    }
    for (namespace, error) in refused.iter().take(TOLD) {
        let (reason, all) = (Reason::SessionRefused, refused.len());
        let cause = format!(
            "{all} sessions of the round were not created, that of namespace {namespace} since {error}"
        );
        let note = advised(cause, reason);
        context.events.warning(&policy.object_ref(&()), reason, "Schedule", note).await;
    }
    match refused.into_iter().next() {
        Some((_, error)) if !any => {
            step.status.last_session_time = policy.view().status.and_then(|s| s.last_session_time.clone());
            Err(error)
        }
        _ => kept,
    }
}

async fn create<P: PolicyObject>(
    policy: &P,
    session: &ProfileSession,
    context: &Context,
) -> Result<(), Error> {
    let api =
        Api::<ProfileSession>::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), session).await {
        Ok(_) => {
            let round = session.annotations().get(names::ROUND_ANNOTATION).map_or("", String::as_str);
            let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
            let note = format!("Round {round} starts as session {name} in namespace {namespace}.");
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
pub async fn status<P: PolicyObject>(policy: &P, step: &Step, context: &Context) -> Result<(), Error> {
    if policy.view().status == Some(&step.status) {
        return Ok(());
    }
    let api = policy.api(context.client.clone());
    let body = json!({
        "apiVersion": P::api_version(&()), "kind": P::kind(&()),
        "metadata": {"name": policy.name_any(), "uid": policy.uid()},
        "status": step.status,
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
        // Deleted, or deleted and made anew, meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    announce(policy, step, context).await;
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
                    "a Deployment could not be looked up"
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
async fn announce<P: PolicyObject>(policy: &P, step: &Step, context: &Context) {
    let of = |all: &[Condition]| {
        all.iter()
            .find(|c| c.type_ == "Ready")
            .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    let before = policy.view().status.and_then(|s| of(&s.conditions));
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
