//! How does a session's state reach people? Its status, events and metrics; and its removal when its time is
//! over.

use std::time::Duration;

use fleetprof_core::budget::is_busy;
use fleetprof_core::session::pacing::{self, Due};
use fleetprof_core::text::sentence;
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason, names};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::written::Entry;
use super::{Context, Error, verdicts};

/// Shows a new session as `Pending` at once, so that who waits sees that it was taken.
pub async fn accept(session: &mut ProfileSession, context: &Context) -> Result<(), Error> {
    if session.status.is_some() {
        return Ok(());
    }
    let status = ProfileSessionStatus {
        message: "Checking permissions and selecting targets.".into(),
        trigger: Some(session.spec.trigger),
        observed_generation: session.metadata.generation,
        ..ProfileSessionStatus::default()
    };
    patch(session, &status, context).await?;
    session.status = Some(status);
    Ok(())
}

/// Writes the status before anything follows from it: that must be known to the next leader.
pub async fn record(session: &ProfileSession, context: &Context) -> Result<(), Error> {
    let Some(status) = &session.status else { return Ok(()) };
    let (before, _) = context.written.last(&session.uid().unwrap_or_default());
    patch(session, status, context).await?;
    if before != status.phase {
        announce(session, status, context).await;
    }
    Ok(())
}

/// Writes the status when that is due. Says how long to wait where it is too early.
pub async fn write(session: &ProfileSession, context: &Context) -> Result<Option<Duration>, Error> {
    let Some(status) = &session.status else { return Ok(None) };
    let uid = session.uid().unwrap_or_default();
    let Entry { written: old, at, .. } = context.written.get(&uid);
    let now = Timestamp::now();
    match pacing::due(session, &old, status, now.duration_since(at), now) {
        Due::Never => context.written.decided(&uid, status),
        Due::In(wait) => {
            context.written.decided(&uid, status);
            return Ok(Some(Duration::try_from(wait).unwrap_or(Duration::from_secs(1))));
        }
        Due::Now => {
            patch(session, status, context).await?;
            if old.phase != status.phase {
                announce(session, status, context).await;
            }
            announce_changes(session, &old, status, context).await;
        }
    }
    Ok(None)
}

/// Writes the status over the version that it was decided on: a leader that was frozen meanwhile must not
/// write over its successor.
async fn patch(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    context: &Context,
) -> Result<(), Error> {
    let namespace = session.namespace().unwrap_or_default();
    let api = Api::<ProfileSession>::namespaced(context.client.clone(), &namespace);
    let version = context.written.version(session);
    let body = json!({
        "apiVersion": ProfileSession::api_version(&()), "kind": ProfileSession::kind(&()),
        "metadata": {"name": session.name_any(), "uid": session.uid(), "resourceVersion": version},
        "status": status,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    match api.patch_status(&session.name_any(), &params, &Patch::Apply(body)).await {
        Ok(written) => {
            context.metrics.status_written("session");
            context.written.wrote(&session.uid().unwrap_or_default(), status, written.resource_version());
            Ok(())
        }
        // The session was deleted meanwhile; the janitor closes its captures.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            context.written.refused(&session.uid().unwrap_or_default());
            Err(Error::Changed)
        }
        Err(error) => Err(error.into()),
    }
}

/// An event and a count for a phase that was reached.
async fn announce(session: &ProfileSession, status: &ProfileSessionStatus, context: &Context) {
    let about = session.object_ref(&());
    let reason = status.reason.unwrap_or(Reason::Internal);
    tracing::info!(
        k8s.namespace.name = session.namespace(),
        fleetprof.session.name = session.name_any(),
        fleetprof.session.phase = status.phase.as_str(),
        fleetprof.reason = reason.as_str(),
        "session phase changed"
    );
    match status.phase {
        Phase::Running => {
            context.metrics.session_running(session);
            context.events.normal(&about, Reason::Capturing, "Capture", status.message.clone()).await;
        }
        Phase::Succeeded | Phase::Cancelled => {
            context.events.normal(&about, reason, "End", status.message.clone()).await
        }
        Phase::Failed | Phase::PartiallySucceeded | Phase::Expired => {
            // The missing permission differs from case to case and is part of the message.
            let said = reason == Reason::Forbidden || status.message.contains(reason.advice());
            let advice = if said { String::new() } else { sentence(reason.advice()) };
            context
                .events
                .warning(&about, reason, "End", format!("{} {advice}", status.message).trim_end().to_owned())
                .await;
        }
        _ => {}
    }
    if status.phase.is_terminal() {
        context.metrics.session_ended(session, status);
    }
}

/// An event when the session begins to wait for its load, when a revision was judged or growth looked for, and
/// when nothing will repeat the session any more.
async fn announce_changes(
    session: &ProfileSession,
    old: &ProfileSessionStatus,
    new: &ProfileSessionStatus,
    context: &Context,
) {
    let about = session.object_ref(&());
    let waits = |reason: &Reason| *reason == Reason::WaitingForLoad || is_busy(*reason);
    if let Some(reason) =
        new.reason.filter(|r| waits(r) && old.reason != new.reason && !new.phase.is_terminal())
    {
        let first = new
            .targets
            .iter()
            .find(|t| t.reason == Some(reason))
            .map(|t| format!(" {}: {}", t.pod, t.message))
            .unwrap_or_default();
        context.events.normal(&about, reason, "Wait", format!("{}{first}", new.message)).await;
    }
    if old.comparison.is_none() {
        verdicts::tell(session, new, context).await;
    }
    verdicts::tell_growth(session, (old, new), context).await;
    let ended = |s: &ProfileSessionStatus| s.repeat.clone().filter(|r| r.end_time.is_some());
    if let (None, Some(series)) = (ended(old), ended(new)) {
        let note = format!("{} captures, {} with data. {}", series.made, series.succeeded, series.message);
        context.events.normal(&about, series.reason.unwrap_or(Reason::Completed), "Repeat", note).await;
    }
}

/// Deletes a session whose time is over; its profiles go with it.
pub async fn forget(session: &ProfileSession, context: &Context) -> Result<(), Error> {
    let api =
        Api::<ProfileSession>::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    // Somebody may have said meanwhile that it is to be kept.
    let as_seen = Preconditions { uid: session.uid(), resource_version: session.resource_version() };
    match api.delete(&session.name_any(), &DeleteParams::default().preconditions(as_seen)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
