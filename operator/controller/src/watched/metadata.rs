//! What is kept of the metadata of what is watched? What is read, and of that a number of bytes: whoever may write an
//! object decides how large its annotations, labels and owner references are.
//!
//! Copies of objects are never written back: a status is applied by its own fields.

use fleetprof_core::pod::are_oversized;
use fleetprof_core::text::cut;
use fleetprof_crds::{ProfileSession, names};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value};

/// The fields that are read of any object.
const FIELDS: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
    "labels",
    "annotations",
];
/// The annotations that are read of any object.
const ANNOTATIONS: [&str; 8] = [
    names::ROUND_ANNOTATION,
    names::WORKLOAD_ANNOTATION,
    names::SOURCE_ANNOTATION,
    names::KEEP_ANNOTATION,
    names::REFUSED_ANNOTATION,
    names::DEFAULT_CONTAINER_ANNOTATION,
    names::MIRROR_ANNOTATION,
    "kubernetes.io/config.source",
];
/// Most bytes of the value of an annotation; a longer one is cut. `Kind/name` has 317 at most.
const MOST_OF_A_VALUE: usize = 512;
/// Most bytes of a field of an owner reference: a DNS name, and an API group of another one.
const MOST_OF_AN_OWNER: usize = 512;
/// Most owners beside the controller.
const MOST_OWNERS: usize = 16;

/// Leaves of the metadata of any object what is read of it.
pub(super) fn keep(meta: &mut Map<String, Value>) {
    meta.retain(|field, _| FIELDS.contains(&field.as_str()));
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
        annotations.values_mut().for_each(shorten);
        if annotations.is_empty() {
            meta.remove("annotations");
        }
    }
    if let Some(owners) = meta.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        let mut room = MOST_OWNERS;
        owners.retain(|owner| {
            let is_controller = owner["controller"] == Value::Bool(true);
            let counts = is_small(owner) && (is_controller || room > 0);
            room -= usize::from(counts && !is_controller);
            counts
        });
    }
}

fn shorten(value: &mut Value) {
    if let Value::String(text) = value
        && text.len() > MOST_OF_A_VALUE
    {
        *text = cut(text, MOST_OF_A_VALUE);
    }
}

fn is_small(owner: &Value) -> bool {
    let mut fields = owner.as_object().into_iter().flat_map(Map::values);
    fields.all(|value| value.as_str().is_none_or(|text| text.len() <= MOST_OF_AN_OWNER))
}

fn are_large<K: Resource>(object: &K) -> bool {
    are_oversized(object.labels())
}

/// Leaves of a policy no labels and no owners, which nothing reads.
pub(crate) fn policy<P: Resource>(policy: &mut P) {
    let meta = policy.meta_mut();
    (meta.labels, meta.owner_references) = (None, None);
}

/// Leaves of a session with too many labels those of fleetprof: the others are copied when it repeats, no more.
pub(crate) fn session(session: &mut ProfileSession) {
    if are_large(session) {
        let ours = [
            names::POLICY_LABEL,
            names::CLUSTER_POLICY_LABEL,
            names::ROOT_LABEL,
            names::TRIGGER_LABEL,
            names::REVISION_LABEL,
        ];
        session.labels_mut().retain(|key, _| ours.contains(&key.as_str()));
    }
}

/// A namespace with too many labels counts as opted out: what selects it by a label that it does not have must not
/// select it because the label was forgotten.
pub(crate) fn namespace(namespace: &mut PartialObjectMeta<Namespace>) {
    if are_large(namespace) {
        tracing::warn!(
            k8s.namespace.name = namespace.name_any(),
            "the labels of a namespace exceed {} bytes; it counts as opted out until some are removed",
            names::MAX_LABELS
        );
        let opted_out = (names::OPT_LABEL.to_owned(), names::OPT_OVERSIZED.to_owned());
        namespace.metadata.labels = Some([opted_out].into());
    }
}

#[cfg(test)]
mod tests;
