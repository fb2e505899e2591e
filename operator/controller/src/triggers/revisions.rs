//! When was a revision made? Asked of the API server once for each revision that may be new.

use fleetprof_core::pod::RevisionObject;
use fleetprof_core::trigger::rollout::Revision;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

/// The time of creation; `None` for a revision that is gone.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn created(client: &Client, revision: &Revision) -> kube::Result<Option<Timestamp>> {
    let (client, namespace) = (client.clone(), revision.namespace.as_str());
    let meta: Option<ObjectMeta> = match &revision.object {
        RevisionObject::ReplicaSet(name) => {
            let api = Api::<ReplicaSet>::namespaced(client, namespace);
            api.get_metadata_opt(name).await?.map(|o| o.metadata)
        }
        RevisionObject::ControllerRevision(name) => {
            let api = Api::<ControllerRevision>::namespaced(client, namespace);
            api.get_metadata_opt(name).await?.map(|o| o.metadata)
        }
    };
    Ok(meta.and_then(|m| m.creation_timestamp).map(|t| t.0))
}
