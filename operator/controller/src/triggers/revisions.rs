//! When was a revision made, and what owns it? Asked of the API server once for each revision that may be new, and for
//! each that was compared.

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
    let meta = metadata(client, &revision.namespace, &revision.object).await?;
    Ok(meta.and_then(|m| m.creation_timestamp).map(|t| t.0))
}

/// The metadata of the object that stands for a revision; `None` where it is gone.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn metadata(
    client: &Client,
    namespace: &str,
    object: &RevisionObject,
) -> kube::Result<Option<ObjectMeta>> {
    let client = client.clone();
    Ok(match object {
        RevisionObject::ReplicaSet(name) => {
            let api = Api::<ReplicaSet>::namespaced(client, namespace);
            api.get_metadata_opt(name).await?.map(|o| o.metadata)
        }
        RevisionObject::ControllerRevision(name) => {
            let api = Api::<ControllerRevision>::namespaced(client, namespace);
            api.get_metadata_opt(name).await?.map(|o| o.metadata)
        }
    })
}
