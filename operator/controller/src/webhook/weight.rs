//! How much memory does a JSON text take once it was read into values? Much more than its bytes: `[0,0,0]` is
//! four values.

/// Bytes of a value in its array or object, with the key and what the allocators add.
const VALUE: usize = 96;

/// An upper bound of the bytes that the values of a JSON text take, beside the text.
pub(super) fn weight(json: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    json.len() + values * VALUE
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn values(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(values).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn no_value_is_missed_and_text_is_not_counted_as_values() {
        let cases = [
            json!(null),
            json!([0, 0, 0]),
            json!({"a": {"b": [1, {}, []]}, "c": "x"}),
            json!({"an,no[ta{tion": "{\"a\":[1,2,3,\\"}),
        ];
        for case in cases {
            let text = case.to_string();
            let counted = (weight(text.as_bytes()) - text.len()) / VALUE;
            let there = values(&case);
            assert!((there..=there + 3).contains(&counted), "{text}: {counted} of {there}");
        }
        assert!(weight(&b"[0,".repeat(1 << 20)) > 100 << 20);
    }
}
