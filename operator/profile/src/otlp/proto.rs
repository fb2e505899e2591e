//! What do profiles look like in OTLP on the wire?
//!
//! The types are generated from `proto/otlp.proto` (no `protoc`; `tests/generated.rs` keeps them fresh).

#![allow(missing_docs, clippy::all)]

include!("../generated/otlp.profiles.rs");

impl From<any_value::Value> for AnyValue {
    fn from(value: any_value::Value) -> Self {
        Self { value: Some(value) }
    }
}

impl From<&str> for AnyValue {
    fn from(text: &str) -> Self {
        any_value::Value::StringValue(text.to_owned()).into()
    }
}

impl From<bool> for AnyValue {
    fn from(yes: bool) -> Self {
        any_value::Value::BoolValue(yes).into()
    }
}

impl From<i64> for AnyValue {
    fn from(number: i64) -> Self {
        any_value::Value::IntValue(number).into()
    }
}

impl From<Vec<AnyValue>> for AnyValue {
    fn from(values: Vec<AnyValue>) -> Self {
        any_value::Value::ArrayValue(ArrayValue { values }).into()
    }
}
