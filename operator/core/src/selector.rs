//! Does a label selector match these labels? With the semantics of the API server.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether `selector` matches `labels`. `{}` matches everything; selectors that the API server would reject
/// (an unknown operator, `In` or `NotIn` without values) match nothing.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selects_by(selector, |key| labels.get(key).map(String::as_str))
}

/// The same for any representation of labels: `label` returns the value of a key. Does not allocate.
#[must_use]
pub fn selects_by<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| label(key) == Some(value.as_str()));
    equal && selector.match_expressions.iter().flatten().all(|r| holds(r, label(&r.key)))
}

/// The first field of `selector` that the API server would reject in a webhook or a list request, with the
/// reason. The schema rejects most of these, but it cannot check the keys of `matchLabels`.
#[must_use]
pub fn fault(selector: &LabelSelector) -> Option<String> {
    let labels = selector.match_labels.iter().flatten().find_map(|(key, value)| {
        let wrong = if is_key(key) { (!is_value(value)).then_some(value) } else { Some(key) };
        wrong.map(|text| format!("matchLabels: {text:?} is not a valid label"))
    });
    let of_requirement = |(n, r): (usize, &LabelSelectorRequirement)| {
        let values = r.values.as_deref().unwrap_or_default();
        let takes_values = match r.operator.as_str() {
            "In" | "NotIn" => true,
            "Exists" | "DoesNotExist" => false,
            other => {
                return Some(format!(
                    "matchExpressions[{n}].operator: {other:?} is not one of In, NotIn, Exists and \
                     DoesNotExist"
                ));
            }
        };
        let wrong = if is_key(&r.key) { values.iter().find(|v| !is_value(v)) } else { Some(&r.key) };
        match wrong {
            Some(text) => Some(format!("matchExpressions[{n}]: {text:?} is not a valid label")),
            None => (takes_values == values.is_empty()).then(|| {
                format!("matchExpressions[{n}].values: required for In and NotIn, not allowed otherwise")
            }),
        }
    };
    labels.or_else(|| selector.match_expressions.iter().flatten().enumerate().find_map(of_requirement))
}

/// A name of up to 63 characters, optionally with a DNS prefix (up to 253) and a slash.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let dns = |part: &str| {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !part.is_empty()
            && part.chars().all(|c| lower(c) || c == '-')
            && part.starts_with(lower)
            && part.ends_with(lower)
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(dns))
}

fn is_value(value: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| outer(c) || matches!(c, '-' | '_' | '.');
    value.is_empty()
        || value.len() <= 63 && value.chars().all(inner) && value.starts_with(outer) && value.ends_with(outer)
}

fn holds(requirement: &LabelSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !values.is_empty() && !listed,
        "Exists" => values.is_empty() && value.is_some(),
        "DoesNotExist" => values.is_empty() && value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn selector(value: serde_json::Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn one(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        selector(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    }

    #[test]
    fn selects_as_the_api_server_does() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("empty", "")]);
        let cases = [
            (selector(json!({})), true, "the empty selector selects everything"),
            (selector(json!({"matchLabels": {"app": "web"}})), true, "an equal label"),
            (selector(json!({"matchLabels": {"app": "api"}})), false, "another value"),
            (
                selector(json!({"matchLabels": {"app": "web", "zone": "a"}})),
                false,
                "all labels must be there",
            ),
            (selector(json!({"matchLabels": {"empty": ""}})), true, "an empty value is a value"),
            (selector(json!({"matchLabels": {"gone": ""}})), false, "a missing label is not an empty value"),
            (one("app", "In", &["api", "web"]), true, "In, listed"),
            (one("app", "In", &["api"]), false, "In, not listed"),
            (one("gone", "In", &[""]), false, "In needs the label"),
            (one("app", "In", &[]), false, "In without values is invalid"),
            (one("app", "NotIn", &["api"]), true, "NotIn, not listed"),
            (one("app", "NotIn", &["web"]), false, "NotIn, listed"),
            (one("gone", "NotIn", &["web"]), true, "NotIn holds where the label is missing"),
            (one("app", "NotIn", &[]), false, "NotIn without values is invalid"),
            (one("app", "Exists", &[]), true, "Exists"),
            (one("gone", "Exists", &[]), false, "Exists, missing"),
            (one("gone", "DoesNotExist", &[]), true, "DoesNotExist"),
            (one("app", "DoesNotExist", &[]), false, "DoesNotExist, there"),
            (one("app", "Gt", &["1"]), false, "an unknown operator selects nothing"),
            (
                selector(
                    json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["back"]}]}),
                ),
                false,
                "labels and expressions are ANDed",
            ),
        ];
        for (selector, expected, sentence) in cases {
            assert_eq!(selects(&selector, &web), expected, "{sentence}: {selector:?}");
        }
    }

    #[test]
    fn says_what_the_api_server_would_refuse() {
        let long = |n: usize| "a".repeat(n);
        let label = |key: &str, value: &str| selector(json!({"matchLabels": {key: value}}));
        let cases = [
            (selector(json!({})), None),
            (label("app", "web"), None),
            (label("kubernetes.io/metadata.name", "a_b-c.D"), None),
            (label(&format!("{}/{}", long(253), long(63)), ""), None),
            (label("", "x"), Some("matchLabels: \"\" is not a valid label")),
            (label(&long(64), "x"), Some("matchLabels: \"aaaa")),
            (label(&format!("{}/a", long(254)), "x"), Some("matchLabels: \"aaaa")),
            (label("a/b/c", "x"), Some("matchLabels: \"a/b/c\"")),
            (label("Prefix/a", "x"), Some("matchLabels: \"Prefix/a\"")),
            (label("a..b/c", "x"), Some("matchLabels: \"a..b/c\"")),
            (label("no key", "x"), Some("matchLabels: \"no key\"")),
            (label("app", "-x"), Some("matchLabels: \"-x\"")),
            (label("app", &long(64)), Some("matchLabels: \"aaaa")),
            (one("app", "In", &["a", "b c"]), Some("matchExpressions[0]: \"b c\"")),
            (one("app", "In", &[]), Some("matchExpressions[0].values")),
            (one("app", "Exists", &["a"]), Some("matchExpressions[0].values")),
            (one("a b", "Exists", &[]), Some("matchExpressions[0]: \"a b\"")),
            (one("app", "Near", &[]), Some("matchExpressions[0].operator: \"Near\"")),
        ];
        for (selector, words) in cases {
            let found = fault(&selector);
            assert!(
                found.is_some() == words.is_some() && found.iter().zip(words).all(|(f, w)| f.starts_with(w)),
                "{selector:?}: {found:?}"
            );
        }
    }

    fn small_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[abc]", "[xy]?", 0..4)
    }

    proptest! {
        #[test]
        fn labels_select_themselves(labels in small_labels()) {
            let selector = LabelSelector { match_labels: Some(labels.clone()), match_expressions: None };
            prop_assert!(selects(&selector, &labels));
        }

        #[test]
        fn match_labels_mean_the_same_as_in_with_one_value(wanted in small_labels(), labels in small_labels()) {
            let by_labels = LabelSelector { match_labels: Some(wanted.clone()), match_expressions: None };
            let requirements = wanted
                .into_iter()
                .map(|(key, v)| LabelSelectorRequirement { key, operator: "In".into(), values: Some(vec![v]) })
                .collect();
            let by_expressions = LabelSelector { match_labels: None, match_expressions: Some(requirements) };
            prop_assert_eq!(selects(&by_labels, &labels), selects(&by_expressions, &labels));
        }

        #[test]
        fn not_in_is_the_opposite_of_in_and_does_not_exist_of_exists(
            key in "[abc]", values in prop::collection::vec("[xy]?", 1..3), labels in small_labels(),
        ) {
            let ask = |operator: &str, values: &[String]| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                selects(&one(&key, operator, &values), &labels)
            };
            prop_assert_ne!(ask("In", &values), ask("NotIn", &values));
            prop_assert_ne!(ask("Exists", &[]), ask("DoesNotExist", &[]));
        }

        #[test]
        fn one_more_requirement_never_selects_more(
            labels in small_labels(), wanted in small_labels(), key in "[abc]", operator in "In|NotIn|Exists|DoesNotExist",
        ) {
            let values = matches!(operator.as_str(), "In" | "NotIn").then(|| vec!["x".to_owned()]);
            let wide = LabelSelector { match_labels: Some(wanted.clone()), match_expressions: None };
            let narrow = LabelSelector {
                match_labels: Some(wanted),
                match_expressions: Some(vec![LabelSelectorRequirement { key, operator, values }]),
            };
            prop_assert!(!selects(&narrow, &labels) || selects(&wide, &labels));
        }
    }
}
