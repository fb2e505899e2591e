//! Who is told of a verdict on a revision? Events on the session and on the workload; what triggers show to
//! Prometheus follows from the session.

use fleetprof_core::conditions::REGRESSED;
use fleetprof_core::pod::{RevisionObject, Workload};
use fleetprof_core::session::compare::main_targets;
use fleetprof_crds::compare::{Comparison, ComparisonResult};
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};

use super::Context;
use crate::triggers::revisions;

/// Reports a verdict that was written.
pub(super) async fn tell(session: &ProfileSession, status: &ProfileSessionStatus, context: &Context) {
    let Some(comparison) = &status.comparison else { return };
    let message = status.conditions.iter().find(|condition| condition.type_ == REGRESSED).map(|c| &c.message);
    let message = message.cloned().unwrap_or_default();
    event(&session.object_ref(&()), comparison, message.clone(), context).await;
    if let Some(workload) = workload(session, status, context).await {
        let note = format!("Revision {} (session {}): {message}", comparison.revision, session.name_any());
        event(&workload, comparison, note, context).await;
    }
}

async fn event(about: &ObjectReference, comparison: &Comparison, note: String, context: &Context) {
    let reason = comparison.reason.unwrap_or(Reason::ComparisonFailed);
    if comparison.result == ComparisonResult::Regressed {
        context.events.warning(about, reason, "Compare", note).await;
    } else {
        context.events.normal(about, reason, "Compare", note).await;
    }
}

/// The workload of the new revision: what controls the object that stands for the revision.
async fn workload(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    context: &Context,
) -> Option<ObjectReference> {
    let namespace = session.namespace().unwrap_or_default();
    let session = ProfileSession { status: Some(status.clone()), ..session.clone() };
    let target = main_targets(&session).next()?;
    let (kind, name) = target.workload.split_once('/')?;
    let of = Workload { kind: kind.to_owned(), name: name.to_owned() };
    let object = RevisionObject::of(&of, &target.revision);
    let meta = match revisions::metadata(&context.client, &namespace, &object).await {
        Ok(meta) => meta?,
        Err(error) => {
            tracing::warn!(%error, fleetprof.workload = target.workload, "failed to look up the workload of a revision");
            return None;
        }
    };
    let owner = meta.owner_references?.into_iter().find(|owner| owner.controller == Some(true))?;
    Some(ObjectReference {
        api_version: Some(owner.api_version),
        kind: Some(owner.kind),
        namespace: Some(namespace),
        name: Some(owner.name),
        uid: Some(owner.uid),
        ..ObjectReference::default()
    })
}
