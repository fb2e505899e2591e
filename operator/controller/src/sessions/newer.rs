//! What happens to a session into which a newer version wrote what this one does not know? Nothing, and a
//! person is told.

use fleetprof_core::session::newer;
use fleetprof_core::text::advised;
use fleetprof_crds::{ProfileSession, Reason};
use kube::{Resource, ResourceExt};

use super::Context;

/// Whether to keep the hands off the session; tells so by an event.
pub(super) async fn is_newer(session: &ProfileSession, context: &Context) -> bool {
    let Some(field) = newer::unknown(session) else { return false };
    tracing::warn!(
        k8s.namespace.name = session.namespace(),
        fleetprof.session.name = session.name_any(),
        field,
        "a session holds a value that this version does not know; it is left as it is"
    );
    let note = advised(format!("This version does not know the value of {field}"), Reason::Unreadable);
    context.events.warning(&session.object_ref(&()), Reason::Unreadable, "Decode", note).await;
    true
}
