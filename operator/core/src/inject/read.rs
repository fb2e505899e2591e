//! Which parts of a pod's JSON are read? Those that a decision or a patch asks for; the rest, most of a pod,
//! is skipped as text.

use fleetprof_crds::names;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What is read of a value.
enum Part {
    /// All of it.
    Whole,
    /// These members of an object.
    Fields(&'static [(&'static str, &'static Part)]),
    /// This of each item of a list.
    Each(&'static Part),
}

use Part::{Each, Fields, Whole};

const POD: Part = Fields(&[("metadata", &METADATA), ("spec", &SPEC)]);

const METADATA: Part = Fields(&[
    ("name", &Whole),
    ("generateName", &Whole),
    ("labels", &Whole),
    ("annotations", &ANNOTATIONS),
    ("ownerReferences", &Whole),
]);

const ANNOTATIONS: Part = Fields(&[
    (names::DEFAULT_CONTAINER_ANNOTATION, &Whole),
    (names::INJECTED_ANNOTATION, &Whole),
    (names::MIRROR_ANNOTATION, &Whole),
    (names::REFUSED_ANNOTATION, &Whole),
]);

const SPEC: Part = Fields(&[
    ("containers", &Each(&Fields(&[("name", &Whole), ("securityContext", &Whole), ("resources", &Whole)]))),
    ("initContainers", &Each(&Fields(&[("name", &Whole), ("restartPolicy", &Whole), ("resources", &Whole)]))),
    ("resources", &Whole),
    ("overhead", &Whole),
    ("volumes", &Each(&Fields(&[("name", &Whole)]))),
    ("securityContext", &Whole),
    ("shareProcessNamespace", &Whole),
    ("hostPID", &Whole),
    ("hostIPC", &Whole),
    ("hostNetwork", &Whole),
    ("terminationGracePeriodSeconds", &Whole),
    ("os", &Whole),
    ("nodeSelector", &Whole),
    ("affinity", &AFFINITY),
    ("activeDeadlineSeconds", &Whole),
    ("priorityClassName", &Whole),
]);

const AFFINITY: Part = Fields(&[
    ("nodeAffinity", &Fields(&[("requiredDuringSchedulingIgnoredDuringExecution", &Whole)])),
    ("podAffinity", &Whole),
    ("podAntiAffinity", &Whole),
]);

/// The pod in `json`, as [`super::inject`] and [`super::judge`] need it and no more. What is not read may be
/// anything.
///
/// # Errors If `json` is not valid JSON.
pub fn read(json: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let pod = (&POD).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(pod)
}

impl<'de> DeserializeSeed<'de> for &Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Whole => Value::deserialize(deserializer),
            Fields(_) | Each(_) => deserializer.deserialize_any(self),
        }
    }
}

/// A value of another type than expected is read whole, so that whoever looks at it can name the field.
impl<'de> Visitor<'de> for &Part {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Fields(fields) = self else { return Value::deserialize(MapAccessDeserializer::new(map)) };
        let mut read = Map::new();
        while let Some(known) = map.next_key_seed(Key(fields))? {
            match known {
                Some((name, part)) => drop(read.insert((*name).to_owned(), map.next_value_seed(*part)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(read))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let Each(part) = self else { return Value::deserialize(SeqAccessDeserializer::new(list)) };
        let mut read = Vec::new();
        while let Some(item) = list.next_element_seed(*part)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// A member's name, looked up without a copy.
struct Key(&'static [(&'static str, &'static Part)]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static (&'static str, &'static Part)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static (&'static str, &'static Part)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(known, _)| *known == name))
    }
}
