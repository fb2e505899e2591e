//! Which events tell of a verdict on a revision, and of growth? Events on the session and on the workload; the metrics
//! follow from the session.

use fleetprof_core::conditions::REGRESSED;
use fleetprof_core::pod::{RevisionObject, Workload};
use fleetprof_core::session::compare::main_targets;
use fleetprof_crds::compare::{Comparison, ComparisonResult};
use fleetprof_crds::growth::{GrowthResult, WorkloadGrowth};
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
    let session_of = ProfileSession { status: Some(status.clone()), ..session.clone() };
    let Some(target) = main_targets(&session_of).next() else { return };
    let namespace = session.namespace().unwrap_or_default();
    if let Some(workload) = workload(&namespace, (&target.workload, &target.revision), context).await {
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

/// Reports the results of looks for growth that the status did not have before: each on the session, and what grows
/// on its workload.
pub(super) async fn tell_growth(
    session: &ProfileSession,
    (old, new): (&ProfileSessionStatus, &ProfileSessionStatus),
    context: &Context,
) {
    let about = session.object_ref(&());
    let known = |row: &&WorkloadGrowth| old.growth.contains(row);
    for row in new.growth.iter().filter(|row| !row.message.is_empty()).filter(|row| !known(row)) {
        let WorkloadGrowth { workload: of, revision, kind, result, reason, message, .. } = row;
        let reason = reason.unwrap_or(Reason::GrowthFailed);
        let note = format!("{of}, {kind}: {message}");
        if *result != GrowthResult::Growing {
            context.events.normal(&about, reason, "Watch", note).await;
            continue;
        }
        context.events.warning(&about, reason, "Watch", note).await;
        let namespace = session.namespace().unwrap_or_default();
        if let Some(workload) = workload(&namespace, (of, revision), context).await {
            let note = format!("Revision {revision} (session {}), {kind}: {message}", session.name_any());
            context.events.warning(&workload, reason, "Watch", note).await;
        }
    }
}

/// The workload, as in `Deployment/orders`, of a revision: what controls the object that stands for the revision.
async fn workload(
    namespace: &str,
    (workload, revision): (&str, &str),
    context: &Context,
) -> Option<ObjectReference> {
    let (kind, name) = workload.split_once('/')?;
    let of = Workload { kind: kind.to_owned(), name: name.to_owned() };
    let object = RevisionObject::of(&of, revision);
    let meta = match revisions::metadata(&context.client, namespace, &object).await {
        Ok(meta) => meta?,
        Err(error) => {
            tracing::warn!(%error, fleetprof.workload = workload, "failed to look up the workload of a revision");
            return None;
        }
    };
    let owner = meta.owner_references?.into_iter().find(|owner| owner.controller == Some(true))?;
    Some(ObjectReference {
        api_version: Some(owner.api_version),
        kind: Some(owner.kind),
        namespace: Some(namespace.to_owned()),
        name: Some(owner.name),
        uid: Some(owner.uid),
        ..ObjectReference::default()
    })
}
