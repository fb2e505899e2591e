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

use std::collections::{BTreeSet, HashMap};

use crate::proto::{Label, Profile};
use crate::strings::StringTable;
use crate::view::text;

/// Prefix of keys reserved by pprof.
pub const RESERVED_PREFIX: &str = "pprof::";

/// Labels by which libraries tell of which trace and span a sample is. `profile_id` is what some call the id of the
/// span.
pub const TRACE_LABELS: [&str; 3] = ["trace_id", "span_id", "profile_id"];

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

/// Adds a comment that begins with `prefix`, in place of those that began with it before: so what an agent claims
/// under that prefix is gone.
pub fn set_comment(profile: &mut Profile, prefix: &str, rest: &str) {
    let strings = &profile.string_table;
    profile.comment.retain(|comment| !text(strings, *comment).starts_with(prefix));
    if profile.string_table.is_empty() {
        profile.string_table.push(String::new());
    }
    let first_new = profile.string_table.len() as i64;
    let mut table = StringTable::continued(&profile.string_table);
    let comment = table.intern(&format!("{prefix}{rest}"));
    profile.string_table.extend(table.into_entries(first_new));
    profile.comment.push(comment);
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

/// Calls the label `from` of a sample `to`, where the sample has none of that name.
pub fn rename_label(profile: &mut Profile, from: &str, to: &str) {
    let strings = &profile.string_table;
    let mut renamed = Vec::new();
    for (n, sample) in profile.sample.iter().enumerate() {
        let find = |key: &str| sample.label.iter().position(|label| text(strings, label.key) == key);
        if let (Some(label), None) = (find(from), find(to)) {
            renamed.push((n, label));
        }
    }
    if renamed.is_empty() {
        return;
    }
    let first_new = strings.len() as i64;
    let mut table = StringTable::continued(strings);
    let key = table.intern(to);
    profile.string_table.extend(table.into_entries(first_new));
    for (sample, label) in renamed {
        profile.sample[sample].label[label].key = key;
    }
}

/// Keeps only the samples whose label `key` is `value`; answers what else it was, sorted, each once.
pub fn retain_labelled(profile: &mut Profile, key: &str, value: &str) -> Vec<String> {
    let strings = &profile.string_table;
    let mut others: BTreeSet<&str> = BTreeSet::new();
    profile.sample.retain(|sample| {
        let label = sample.label.iter().find(|label| text(strings, label.key) == key);
        let found = label.map(|label| text(strings, label.str));
        others.extend(found.filter(|found| *found != value));
        found == Some(value)
    });
    others.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Frame, Label as BuiltLabel, ProfileBuilder};
    use crate::kind::ProfileKind;
    use crate::testing::cpu;
    use crate::validate::validate;
    use crate::view::total;

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

    #[test]
    fn a_label_has_another_name_unless_that_is_taken() {
        let mut profile = cpu(&[(&["a"], 1), (&["b"], 1)]);
        set_labels(&mut profile, &[("profile_id", "00ff")]);
        let mut both = profile.clone();
        set_labels(&mut both, &[("span_id", "11ee")]);
        rename_label(&mut profile, "profile_id", "span_id");
        assert_eq!(labels(&profile), [vec![("span_id", "00ff")], vec![("span_id", "00ff")]]);
        assert_eq!(validate(&profile), Ok(()));
        let before = both.clone();
        rename_label(&mut both, "profile_id", "span_id");
        rename_label(&mut both, "absent", "other");
        assert_eq!(both, before);
    }

    #[test]
    fn samples_are_picked_by_a_label() {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
        for (process, hits) in [(Some("web"), 1), (Some("job"), 2), (None, 4), (Some("web"), 8)] {
            let labels: Vec<_> = process.iter().map(|name| BuiltLabel::text("process", name)).collect();
            builder.add_hits(&[Frame::named("f", "f.rs", hits.into())], hits, &labels).expect("a sample");
        }
        let mut profile = builder.finish(1, &[]);
        let mut picked = profile.clone();
        assert_eq!(retain_labelled(&mut picked, "process", "web"), ["job"]);
        assert_eq!((total(&picked, 0), validate(&picked)), (9, Ok(())));
        assert_eq!(retain_labelled(&mut profile, "process", "none"), ["job", "web"]);
        assert!(profile.sample.is_empty());
    }
}
