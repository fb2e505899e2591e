//! What are the samples of a request? Those of a profile, with equal ones added up.

use std::collections::HashMap;

use super::dictionary::Dictionary;
use super::proto::{AnyValue, Sample};
use crate::proto::{self, Label};

/// Labels by which a sample names its span: the ids in hexadecimal digits.
const TRACE: &str = "trace_id";
const SPAN: &str = "span_id";

/// Most bytes of a sample without attributes: four numbers, one of them long, with their fields and lengths.
const SAMPLE: usize = 40;
/// Most bytes of an attribute of a sample.
const ATTRIBUTE: usize = 5;

/// What tells samples apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    stack: i32,
    attributes: Vec<i32>,
    link: i32,
}

/// Samples with the values of every type.
pub(super) struct Samples(Vec<(Identity, Vec<i64>)>);

impl Samples {
    /// Those of the samples, from the first on, that take at most `room` bytes with what they refer to, which is added
    /// to the dictionary, and how many these are: at least one. Values of 0 alone are left out.
    pub(super) fn fill(
        samples: &[proto::Sample],
        dictionary: &mut Dictionary<'_>,
        room: usize,
    ) -> (Self, usize) {
        let mut rows: Vec<(Identity, Vec<i64>)> = Vec::new();
        let (mut known, mut bytes) = (HashMap::<Identity, usize>::new(), 0_usize);
        for (n, sample) in samples.iter().enumerate() {
            if sample.value.iter().all(|value| *value == 0) {
                continue;
            }
            let identity = identity(sample, dictionary);
            let at = known.get(&identity).copied();
            if at.is_none() {
                bytes += (SAMPLE + ATTRIBUTE * identity.attributes.len()) * sample.value.len();
            }
            if n > 0 && bytes + dictionary.bytes > room {
                return (Self(rows), n);
            }
            match at.and_then(|row| rows.get_mut(row)) {
                Some((_, values)) => add(values, &sample.value),
                None => {
                    known.insert(identity.clone(), rows.len());
                    rows.push((identity, sample.value.clone()));
                }
            }
        }
        (Self(rows), samples.len())
    }

    /// The samples of one type.
    pub(super) fn of_type(&self, position: usize) -> Vec<Sample> {
        let values = self.0.iter().map(|(identity, values)| (identity, values.get(position).copied()));
        let values = values.filter_map(|(identity, value)| Some((identity, value.filter(|v| *v != 0)?)));
        let sample = |(identity, value): (&Identity, i64)| Sample {
            stack_index: identity.stack,
            attribute_indices: identity.attributes.clone(),
            link_index: identity.link,
            values: vec![value],
            timestamps_unix_nano: Vec::new(),
        };
        values.map(sample).collect()
    }
}

fn add(sum: &mut [i64], values: &[i64]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = sum.saturating_add(*value);
    }
}

fn identity(sample: &proto::Sample, dictionary: &mut Dictionary<'_>) -> Identity {
    let stack = dictionary.stack(&sample.location_id);
    let link = link(&sample.label, dictionary);
    let view = dictionary.view;
    let is_told = |label: &&Label| link.is_some() && [TRACE, SPAN].contains(&view.text(label.key));
    let mut by_key: Vec<(i64, Vec<&Label>)> = Vec::new();
    for label in sample.label.iter().filter(|label| !is_told(label)) {
        match by_key.iter_mut().find(|(key, _)| view.text(*key) == view.text(label.key)) {
            Some((_, labels)) => labels.push(label),
            None => by_key.push((label.key, vec![label])),
        }
    }
    let mut attributes: Vec<i32> =
        by_key.into_iter().map(|(key, labels)| attribute(view.text(key), &labels, dictionary)).collect();
    // Samples are the same in whatever order they name their attributes.
    attributes.sort_unstable();
    Identity { stack, attributes, link: link.unwrap_or(0) }
}

/// The labels of one key as an attribute: keys are unique there, so several become a list.
fn attribute<'a>(key: &'a str, labels: &[&Label], dictionary: &mut Dictionary<'a>) -> i32 {
    let view = dictionary.view;
    let value = |label: &&Label| match label.str {
        0 => AnyValue::from(label.num),
        text => AnyValue::from(view.text(text)),
    };
    let unit = labels.first().map_or("", |label| ucum(view.text(label.num_unit)));
    let mut values: Vec<AnyValue> = labels.iter().map(value).collect();
    match (values.len(), values.pop()) {
        (1, Some(value)) => dictionary.attribute_of(key, value, unit),
        (_, last) => {
            values.extend(last);
            dictionary.attribute_of(key, values.into(), unit)
        }
    }
}

/// The unit in UCUM, which OTLP asks for.
fn ucum(unit: &str) -> &str {
    match unit {
        "bytes" => "By",
        "nanoseconds" => "ns",
        "microseconds" => "us",
        "milliseconds" => "ms",
        "seconds" => "s",
        other => other,
    }
}

/// The span of a sample, where its labels name one whole.
fn link(labels: &[Label], dictionary: &mut Dictionary<'_>) -> Option<i32> {
    let view = dictionary.view;
    let only = |key: &str| {
        let mut found = labels.iter().filter(|label| view.text(label.key) == key);
        found.next().filter(|_| found.next().is_none()).map(|label| view.text(label.str))
    };
    let (trace, span) = (hex(only(TRACE)?, 16)?, hex(only(SPAN)?, 8)?);
    Some(dictionary.link(trace, span))
}

/// So many bytes in lower-case hexadecimal digits, not all of them 0.
fn hex(digits: &str, bytes: usize) -> Option<Vec<u8>> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != bytes.saturating_mul(2) || !digits.bytes().all(is_digit) {
        return None;
    }
    let pairs = (0..bytes).map(|n| u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok());
    let id: Option<Vec<u8>> = pairs.collect();
    id.filter(|id| id.iter().any(|byte| *byte != 0))
}
