//! How is a change written so that nothing else is touched? As RFC 6902 operations; `add` is all that is
//! needed: it appends to arrays, and sets members whether they are there or not.

use serde::Serialize;
use serde_json::{Map, Value};

/// One `add` operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchOp {
    op: &'static str,
    path: String,
    value: Value,
}

impl PatchOp {
    /// Adds `value` at the JSON pointer made of `path`, whose parts are escaped here.
    #[must_use]
    pub fn add(path: &[&str], value: Value) -> Self {
        let mut pointer = String::with_capacity(64);
        for part in path {
            pointer.push('/');
            escape(part, &mut pointer);
        }
        Self { op: "add", path: pointer, value }
    }

    /// The JSON pointer.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// `~` and `/` have a meaning in a pointer.
fn escape(part: &str, pointer: &mut String) {
    for c in part.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// Sets `object[key]`, making the object at `path` where it is missing or null.
pub(super) fn set(path: &[&str], object: Option<&Value>, key: &str, value: Value) -> PatchOp {
    if matches!(object, None | Some(Value::Null)) {
        return PatchOp::add(path, Value::Object(Map::from_iter([(key.to_owned(), value)])));
    }
    PatchOp::add(&[path, &[key]].concat(), value)
}

/// Appends `values` to the array at `path`, making it where it is missing or null.
pub(super) fn append(path: &[&str], array: Option<&Value>, values: Vec<Value>) -> Vec<PatchOp> {
    if matches!(array, None | Some(Value::Null)) {
        return vec![PatchOp::add(path, Value::Array(values))];
    }
    let end = [path, &["-"]].concat();
    values.into_iter().map(|value| PatchOp::add(&end, value)).collect()
}
