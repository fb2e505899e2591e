//! What is a profile of? Labels that say the same on every sample become attributes of the resource.

use crate::labels::retain_labels;
use crate::proto::{Profile, Sample};
use crate::view::text;

/// The labels that the operator writes on every sample, and what OpenTelemetry calls them.
const NAMES: [(&str, &str); 6] = [
    ("service_name", "service.name"),
    ("namespace", "k8s.namespace.name"),
    ("pod", "k8s.pod.name"),
    ("container", "k8s.container.name"),
    ("node", "k8s.node.name"),
    ("cluster", "k8s.cluster.name"),
];

/// Takes the labels of the target off the samples and answers them as attributes of a resource, by the names of
/// OpenTelemetry. A label that samples differ in stays on them.
pub fn target(profile: &mut Profile) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    for (label, name) in NAMES {
        let Some(value) = shared(profile, label).map(str::to_owned) else { continue };
        retain_labels(profile, |key| key != label);
        attributes.push((name.to_owned(), value));
    }
    attributes
}

/// The text that every sample has under that key, and no other.
fn shared<'a>(profile: &'a Profile, key: &str) -> Option<&'a str> {
    let (first, rest) = profile.sample.split_first()?;
    let value = only(profile, first, key)?;
    rest.iter().all(|sample| only(profile, sample, key) == Some(value)).then_some(value)
}

fn only<'a>(profile: &'a Profile, sample: &Sample, key: &str) -> Option<&'a str> {
    let strings = &profile.string_table;
    let mut found = sample.label.iter().filter(|label| text(strings, label.key) == key);
    match (found.next(), found.next()) {
        (Some(label), None) => Some(text(strings, label.str)).filter(|value| !value.is_empty()),
        _ => None,
    }
}
