//! How does a profile identify its target?
//!
//! pprof has labels on samples only, not on profiles. So the target (`service_name`, `namespace`, `pod`,
//! `container`, `node`, `cluster`, `session`) is written on **every sample**: `go tool pprof -tagfocus=pod=…`
//! and its readers find it there, and it survives a merge, after which one file still tells the pods apart. A
//! comment would survive too, but no reader filters by it. The price is small: the texts stand once in the
//! string table, each label is about five bytes that compress to nearly none.
//!
//! A destination that keeps such labels beside the profile (Pyroscope's series labels) should take them out
//! with [`retain_labels`] before it pushes: there every sample label makes a series.

use std::collections::HashMap;

use crate::proto::{Label, Profile};
use crate::strings::StringTable;
use crate::view::text;

/// Prefix of keys reserved by pprof.
pub const RESERVED_PREFIX: &str = "pprof::";

/// Whether the key is reserved by pprof.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with(RESERVED_PREFIX)
}

/// Writes each `(key, value)` on every sample, in place of what the samples said under that key before; so
/// what an agent claims about itself is overwritten by what the gateway knows. An empty value removes the
/// key. Reserved keys are left out.
pub fn set_labels(profile: &mut Profile, labels: &[(&str, &str)]) {
    let labels: Vec<(&str, &str)> = labels.iter().copied().filter(|(key, _)| !is_reserved(key)).collect();
    retain_labels(profile, |key| labels.iter().all(|(set, _)| *set != key));
    if profile.string_table.is_empty() {
        profile.string_table.push(String::new());
    }
    let first_new = profile.string_table.len() as i64;
    let mut table = StringTable::continued(&profile.string_table);
    let added: Vec<Label> = labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| Label { key: table.intern(key), str: table.intern(value), ..Label::default() })
        .collect();
    profile.string_table.extend(table.into_entries(first_new));
    for sample in &mut profile.sample {
        sample.label.extend_from_slice(&added);
    }
}

/// Keeps only the sample labels whose key `keep` accepts. Samples that become equal stay apart until a merge.
pub fn retain_labels(profile: &mut Profile, keep: impl Fn(&str) -> bool) {
    let strings = &profile.string_table;
    let mut known: HashMap<i64, bool> = HashMap::new();
    for sample in &mut profile.sample {
        sample
            .label
            .retain(|label| *known.entry(label.key).or_insert_with(|| keep(text(strings, label.key))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;
    use crate::validate::validate;

    fn labels(profile: &Profile) -> Vec<Vec<(&str, &str)>> {
        let text = |index| text(&profile.string_table, index);
        let pair = |label: &Label| (text(label.key), text(label.str));
        profile.sample.iter().map(|sample| sample.label.iter().map(pair).collect()).collect()
    }

    #[test]
    fn labels_go_on_every_sample_and_replace_what_was_claimed() {
        let mut profile = cpu(&[(&["a"], 1), (&["b"], 1)]);
        set_labels(&mut profile, &[("pod", "claimed"), ("thread", "t")]);
        set_labels(&mut profile, &[("pod", "cart-0"), ("a", "b"), ("empty", "")]);
        let expected = vec![("thread", "t"), ("pod", "cart-0"), ("a", "b")];
        assert_eq!(labels(&profile), [expected.clone(), expected]);
        assert_eq!(validate(&profile), Ok(()));
    }

    #[test]
    fn an_empty_value_removes_and_a_reserved_key_is_left_out() {
        let mut profile = cpu(&[(&["a"], 1)]);
        set_labels(&mut profile, &[("pod", "p")]);
        set_labels(&mut profile, &[("pod", ""), ("pprof::base", "true")]);
        assert_eq!(labels(&profile), [vec![]]);
    }

    #[test]
    fn only_the_labels_that_are_wanted_stay() {
        let mut profile = cpu(&[(&["a"], 1)]);
        set_labels(&mut profile, &[("span_id", "00ff"), ("thread", "t")]);
        retain_labels(&mut profile, |key| key == "span_id");
        assert_eq!(labels(&profile), [vec![("span_id", "00ff")]]);
    }
}
