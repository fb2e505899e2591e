//! What if an object cannot be decoded? It is known as [`Unreadable`], and never stops a watch.
//!
//! As `kube::core::DeserializeGuard`, but also for objects whose metadata cannot be decoded, and of the metadata only
//! with [what is read](super::metadata).

use std::borrow::Cow;

use fleetprof_core::text::cut;
use fleetprof_crds::names::KEEP_ANNOTATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::metadata;

/// Most bytes of an error; it may quote a value of the object.
const MAX_ERROR: usize = 256;

/// An object that this version cannot decode. It exists: whatever deletes has to count it.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Its name, namespace, uid, version and generation, and whether it is to be kept; nothing else.
    pub meta: ObjectMeta,
    /// Which field, and what is wrong with it.
    pub error: String,
    /// Its `status.conditions`, as they are.
    pub conditions: Vec<Value>,
}

/// An object, or what is known of it when it cannot be decoded.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

impl Unreadable {
    /// One of which more would have to be kept than of any object.
    pub(super) fn too_large(meta: &ObjectMeta, error: String) -> Self {
        let ObjectMeta { name, namespace, uid, resource_version, generation, .. } = meta.clone();
        let meta = ObjectMeta { name, namespace, uid, resource_version, generation, ..ObjectMeta::default() };
        Self { meta, error, conditions: Vec::new() }
    }

    fn of(object: &Value, error: &impl std::fmt::Display) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        let keep = object["metadata"]["annotations"].get(KEEP_ANNOTATION);
        Self {
            meta: ObjectMeta {
                name: text("name"),
                namespace: text("namespace"),
                uid: text("uid"),
                resource_version: text("resourceVersion"),
                generation: object["metadata"]["generation"].as_i64(),
                annotations: keep.map(|_| [(KEEP_ANNOTATION.to_owned(), String::new())].into()),
                ..ObjectMeta::default()
            },
            error: cut(&error.to_string(), MAX_ERROR),
            conditions: object["status"]["conditions"].as_array().cloned().unwrap_or_default(),
        }
    }

    /// The field that cannot be decoded, without its value.
    #[must_use]
    pub fn field(&self) -> &str {
        self.error.split_once(": ").map_or("", |(field, _)| field)
    }

    /// Its uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    /// Its namespace; empty for an object of the cluster.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata::keep(meta);
        }
        Ok(Self(serde_path_to_error::deserialize(&object).map_err(|error| Unreadable::of(&object, &error))))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.meta, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.meta, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
    use k8s_openapi::api::core::v1::{Namespace, Pod};
    use kube::core::{ObjectList, PartialObjectMeta};
    use serde_json::json;

    use super::*;

    /// A list with a good and a bad object.
    fn list<K: DeserializeOwned + Resource<DynamicType = ()> + Clone>(
        good: Value,
        bad: Value,
    ) -> Vec<Guarded<K>> {
        let object = |name: &str, mut body: Value| {
            let meta = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "7", "generation": 2});
            body["apiVersion"] = json!(K::api_version(&()));
            body["kind"] = json!(K::kind(&()));
            match body["metadata"].as_object_mut() {
                Some(own) => own.extend(meta.as_object().cloned().unwrap_or_default()),
                None => body["metadata"] = meta,
            }
            body
        };
        let list = json!({
            "apiVersion": K::api_version(&()), "kind": "List", "metadata": {"resourceVersion": "9"},
            "items": [object("good", good), object("bad", bad)],
        });
        serde_json::from_str::<ObjectList<Guarded<K>>>(&list.to_string()).unwrap().items
    }

    fn assert_guarded<K: DeserializeOwned + Resource<DynamicType = ()> + Clone>(
        good: Value,
        bad: Value,
        field: &str,
    ) {
        let all = list::<K>(good, bad);
        let [Guarded(Ok(good)), Guarded(Err(bad))] = all.as_slice() else {
            panic!("{}: {:?}", K::kind(&()), all.iter().map(|g| g.0.as_ref().err()).collect::<Vec<_>>())
        };
        assert_eq!(good.meta().name.as_deref(), Some("good"));
        assert_eq!(
            (bad.namespace(), bad.name(), bad.uid(), bad.meta.generation),
            ("shop", "bad", "bad", Some(2))
        );
        assert!(bad.error.starts_with(field), "{} {}", K::kind(&()), bad.error);
        assert!(bad.error.len() <= MAX_ERROR, "{}", bad.error);
    }

    const NEVER: &str = "9999-12-31T23:59:59Z";

    #[test]
    fn a_bad_object_of_each_kind_keeps_no_good_one_from_being_read() {
        let policy = || json!({"spec": {"selector": {}}});
        assert_guarded::<ProfilingPolicy>(policy(), json!({"spec": {"selector": 7}}), "spec.selector: ");
        let cluster = || json!({"spec": {"selector": {}, "namespaceSelector": {}}});
        assert_guarded::<ClusterProfilingPolicy>(
            cluster(),
            json!({"spec": {"namespaceSelector": "all"}}),
            "",
        );
        let session = || json!({"spec": {}});
        assert_guarded::<ProfileSession>(session(), json!({"spec": {"duration": 7}}), "spec.duration: ");
        let late = json!({"spec": {}, "status": {"endTime": NEVER}});
        assert_guarded::<ProfileSession>(session(), late, "status.endTime: ");
        let pod = || json!({"spec": {"containers": []}});
        assert_guarded::<Pod>(
            pod(),
            json!({"spec": {"containers": []}, "status": {"startTime": NEVER}}),
            "status.startTime: ",
        );
        let deleted = json!({"metadata": {"deletionTimestamp": NEVER}});
        assert_guarded::<PartialObjectMeta<Namespace>>(json!({}), deleted, "metadata.deletionTimestamp: ");
    }

    #[test]
    fn who_wrote_which_field_is_neither_kept_nor_decoded() {
        let managed = json!({"metadata": {"managedFields": [{"time": NEVER}]}, "spec": {}});
        let all = list::<ProfileSession>(json!({"spec": {}}), managed);
        assert!(all.iter().all(|session| session.meta().managed_fields.is_none() && session.0.is_ok()));
    }

    #[test]
    fn conditions_are_kept_as_they_are() {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let bad = json!({"spec": 7, "status": {"conditions": conditions}});
        let all = list::<ProfilingPolicy>(json!({"spec": {"selector": {}}}), bad);
        assert_eq!(json!(all[1].0.as_ref().unwrap_err().conditions), conditions);
    }
}
