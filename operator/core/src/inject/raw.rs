//! What does a pod's raw JSON say about the few things that injection asks? Null means absent, a wrong type
//! is a named error.

use fleetprof_crds::quantity::millicores;
use fleetprof_crds::{Reason, names};
use serde_json::{Map, Value};

use crate::agent::Skip;

/// Most bytes of a container's name.
const LONGEST_NAME: usize = 63;

/// A checked view of a pod's JSON.
pub(super) struct RawPod<'a> {
    metadata: &'a Map<String, Value>,
    spec: &'a Map<String, Value>,
    labels: Option<&'a Map<String, Value>>,
    annotations: Option<&'a Map<String, Value>>,
    containers: Vec<RawContainer<'a>>,
}

/// An app container.
pub(super) struct RawContainer<'a> {
    pub name: &'a str,
    pub security: Option<&'a Map<String, Value>>,
    /// CPU limit in thousandths of a core.
    pub cpu_limit: Option<i64>,
}

impl<'a> RawPod<'a> {
    /// Reads everything that a patch will rest on, so that a pod that passes can always be patched.
    pub fn read(pod: &'a Value) -> Result<Self, Skip> {
        let pod = pod.as_object().ok_or_else(|| malformed("the object", "an object"))?;
        let metadata = object(pod, "metadata")?.ok_or_else(|| malformed("metadata", "present"))?;
        let spec = object(pod, "spec")?.ok_or_else(|| malformed("spec", "present"))?;
        array(spec, "initContainers")?;
        array(spec, "volumes")?;
        let containers =
            array(spec, "containers")?.iter().map(RawContainer::read).collect::<Result<_, _>>()?;
        Ok(Self {
            metadata,
            spec,
            labels: object(metadata, "labels")?,
            annotations: object(metadata, "annotations")?,
            containers,
        })
    }

    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels?.get(key)?.as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.annotations?.get(key)?.as_str()
    }

    pub fn containers(&self) -> &[RawContainer<'a>] {
        &self.containers
    }

    pub fn spec(&self) -> &'a Map<String, Value> {
        self.spec
    }

    pub fn security(&self) -> Result<Option<&'a Map<String, Value>>, Skip> {
        object(self.spec, "securityContext")
    }

    /// Whether our sidecar is in, with the annotation that tells it from a container of the same name.
    pub fn is_injected(&self) -> bool {
        self.annotation(names::INJECTED_ANNOTATION).is_some()
            && self.names("initContainers").any(|n| n == names::SIDECAR_NAME)
    }

    /// The `name`s in a list of the spec.
    pub fn names(&self, list: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let items = self.spec.get(list).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.get("name")?.as_str())
    }

    /// Kinds of the owners.
    pub fn owner_kinds(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let owners = self.metadata.get("ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().filter_map(|owner| owner.get("kind")?.as_str())
    }
}

impl<'a> RawContainer<'a> {
    fn read(container: &'a Value) -> Result<Self, Skip> {
        let container = container.as_object().ok_or_else(|| malformed("spec.containers[]", "an object"))?;
        let name =
            string(container, "name")?.ok_or_else(|| malformed("spec.containers[].name", "present"))?;
        // Admission comes before validation, and the name is repeated in a note on the pod.
        if name.len() > LONGEST_NAME {
            return Err(malformed("spec.containers[].name", "at most 63 characters long"));
        }
        // A quantity may stand as a number as well; one that cannot be read is the API server's to refuse.
        let cpu_limit =
            container.get("resources").and_then(|r| r.pointer("/limits/cpu")).and_then(|cpu| match cpu {
                Value::String(text) => millicores(text),
                Value::Number(number) => millicores(&number.to_string()),
                _ => None,
            });
        Ok(Self { name, security: object(container, "securityContext")?, cpu_limit })
    }
}

/// The object at `key`.
pub(super) fn object<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, Skip> {
    read(map, key, "an object", Value::as_object)
}

/// The string at `key`.
pub(super) fn string<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Skip> {
    read(map, key, "a string", Value::as_str)
}

/// The boolean at `key`.
pub(super) fn boolean(map: &Map<String, Value>, key: &str) -> Result<Option<bool>, Skip> {
    read(map, key, "true or false", Value::as_bool)
}

/// The user or group id at `key`.
pub(super) fn id(map: &Map<String, Value>, key: &str) -> Result<Option<u32>, Skip> {
    let in_range = |v: &Value| u32::try_from(v.as_i64()?).ok().filter(|id| i32::try_from(*id).is_ok());
    read(map, key, "an ID from 0 to 2147483647", in_range)
}

/// The list at `key`; an absent one is empty.
pub(super) fn array<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], Skip> {
    Ok(read(map, key, "a list", Value::as_array)?.map_or(&[], Vec::as_slice))
}

/// The objects of the list at `key`; an absent one is empty.
pub(super) fn objects<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<Vec<&'a Map<String, Value>>, Skip> {
    array(map, key)?
        .iter()
        .map(|item| item.as_object().ok_or_else(|| malformed(key, "a list of objects")))
        .collect()
}

fn read<'a, T>(
    map: &'a Map<String, Value>,
    key: &str,
    expected: &str,
    as_type: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, Skip> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => as_type(value).map(Some).ok_or_else(|| malformed(key, expected)),
    }
}

fn malformed(field: &str, expected: &str) -> Skip {
    Skip::new(Reason::MalformedPod, format!("{field} of the pod must be {expected}"))
}
