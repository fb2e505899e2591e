//! What does a selector of `-l` mean? `app=orders,tier in (front,back),!canary`, as kubectl reads it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Reads a selector.
pub(crate) fn parse(text: &str) -> Result<LabelSelector, String> {
    let (mut labels, mut expressions) = (BTreeMap::<String, String>::new(), Vec::new());
    for part in parts(text) {
        match requirement(&part)
            .ok_or_else(|| format!("{part:?} does not select by a label: write app=orders"))?
        {
            // A second value for a label is a requirement of its own: both have to hold.
            Requirement { key, operator: "In", values: one }
                if one.len() == 1 && labels.get(&key).is_none_or(|known| *known == one[0]) =>
            {
                labels.extend(one.into_iter().map(|value| (key.clone(), value)));
            }
            Requirement { key, operator, values } => expressions.push(LabelSelectorRequirement {
                key,
                operator: operator.to_owned(),
                values: (!values.is_empty()).then_some(values),
            }),
        }
    }
    let selector = LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        match_expressions: (!expressions.is_empty()).then_some(expressions),
    };
    match fleetprof_core::selector::fault(&selector) {
        Some(fault) => Err(fault),
        None if selector == LabelSelector::default() => {
            Err("the selector is empty: write app=orders".to_owned())
        }
        None => Ok(selector),
    }
}

struct Requirement {
    key: String,
    operator: &'static str,
    values: Vec<String>,
}

/// The parts between commas that are not in parentheses.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_u32);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (c, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.iter_mut().last().into_iter().for_each(|part| part.push(c)),
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, operator, values: Vec<&str>| Requirement {
        key: key.trim().to_owned(),
        operator,
        values: values.into_iter().map(|value| value.trim().to_owned()).collect(),
    };
    if let Some(key) = part.strip_prefix('!') {
        return Some(of(key, "DoesNotExist", vec![]));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(of(key, "NotIn", vec![value]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(of(key, "In", vec![value]));
    }
    if let Some((before, rest)) = part.split_once('(') {
        let values = rest.strip_suffix(')')?.split(',').collect();
        let (key, word) = before.trim().rsplit_once(' ')?;
        return match word {
            "in" => Some(of(key, "In", values)),
            "notin" => Some(of(key, "NotIn", values)),
            _ => None,
        };
    }
    Some(of(part, "Exists", vec![]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_read_as_kubectl_reads_them() {
        let cases = [
            ("app=orders", json!({"matchLabels": {"app": "orders"}})),
            ("app==orders, tier=front", json!({"matchLabels": {"app": "orders", "tier": "front"}})),
            ("a!=b", json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]})),
            (
                "a in (b, c),!d,e",
                json!({"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["b", "c"]},
                {"key": "d", "operator": "DoesNotExist"}, {"key": "e", "operator": "Exists"}]}),
            ),
            // Both have to hold, so that what a script adds to a selector never selects more.
            (
                "app=a,app=b,app in (a),app=a",
                json!({"matchLabels": {"app": "a"},
                    "matchExpressions": [{"key": "app", "operator": "In", "values": ["b"]}]}),
            ),
            (
                "a notin (b)",
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}),
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(serde_json::to_value(parse(text).unwrap()).unwrap(), wanted, "{text}");
        }
        for bad in ["", "a b", "a in b", "a of (b)", "=b", "a=b c", "a in (b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
