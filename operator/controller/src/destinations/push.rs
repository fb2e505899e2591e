//! What is sent to Pyroscope of a profile? Parts within its limits, each with the labels of its series.
//!
//! Limits of the server, with their defaults: 16,000 samples and 4 MiB unpacked for a profile, 2 MiB unpacked at
//! once (more is answered 429 for ever), 30 labels a series, 2,048 bytes a value. Nearly every sample label
//! becomes a label of the series, and so a series of its own: those go, but for `span_id`, by which profiles are
//! found from traces. Two profiles of one series with the same time replace each other, so parts are a
//! millisecond apart.

use fleetprof_profile::{
    Limits, Merger, Overlap, Profile, ProfileKind, decode_valid, encode, rename_label, retain_labels,
};

/// Most samples of a part.
const SAMPLES: usize = 16_000;
/// Most bytes of a part, unpacked.
const UNPACKED: u32 = 1_900_000;
/// Most bytes of the value of a label.
const VALUE: usize = 1_000;
/// What is told of the target; the operator wrote it on every sample.
const TARGET: [&str; 6] = ["service_name", "namespace", "pod", "container", "node", "cluster"];
/// What stays on samples: the server finds the samples of a span by it.
const SPAN: &str = "span_id";
/// What some libraries call the same.
const PROFILE: &str = "profile_id";
/// Between two parts, in nanoseconds.
const APART: i64 = 1_000_000;

/// One part of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The labels of its series.
    pub(super) labels: Vec<(String, String)>,
    /// Gzipped pprof.
    pub(super) profile: Vec<u8>,
}

/// The parts of a stored profile; none when it has no samples.
///
/// # Errors
/// A sentence: it is not a profile.
pub(super) fn parts(stored: &[u8], kind: ProfileKind, limits: &Limits) -> Result<Vec<Part>, String> {
    let mut whole = decode_valid(stored, limits).map_err(|error| error.to_string())?;
    let labels = labels(&whole, kind);
    rename_label(&mut whole, PROFILE, SPAN);
    retain_labels(&mut whole, |key| key == SPAN);
    // Samples that differed by a label alone become one.
    let profile = compact(&whole)?;
    drop(whole);
    let mut parts = Vec::new();
    split(&profile, &mut parts)?;
    let start = profile.time_nanos;
    let encoded = parts.into_iter().enumerate().map(|(n, mut part)| {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        part.time_nanos = start.saturating_add(n.saturating_mul(APART));
        let profile = encode(&part).map_err(|error| error.to_string())?;
        Ok(Part { labels: labels.clone(), profile })
    });
    encoded.collect()
}

/// Halves a profile until each half is within the limits.
fn split(profile: &Profile, parts: &mut Vec<Profile>) -> Result<(), String> {
    let samples = profile.sample.len();
    if samples == 0 {
        return Ok(());
    }
    if samples <= SAMPLES && (unpacked(profile)? <= UNPACKED || samples == 1) {
        parts.push(profile.clone());
        return Ok(());
    }
    // One after the other, so that no more than two copies of the profile are in memory.
    for some in profile.sample.chunks((samples / 2).clamp(1, SAMPLES)) {
        let some = Profile { sample: some.to_vec(), ..without_samples(profile) };
        split(&compact(&some)?, parts)?;
    }
    Ok(())
}

/// What samples refer to.
fn without_samples(profile: &Profile) -> Profile {
    Profile {
        sample: Vec::new(),
        sample_type: profile.sample_type.clone(),
        mapping: profile.mapping.clone(),
        location: profile.location.clone(),
        function: profile.function.clone(),
        string_table: profile.string_table.clone(),
        period_type: profile.period_type,
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        period: profile.period,
        ..Profile::default()
    }
}

/// The same with nothing in it that no sample refers to.
fn compact(profile: &Profile) -> Result<Profile, String> {
    let mut merger = Merger::new(Overlap::Sequential);
    merger.add(profile).map_err(|error| error.to_string())?;
    match merger.is_empty() {
        true => Ok(Profile { sample: Vec::new(), ..profile.clone() }),
        false => merger.finish().map_err(|error| error.to_string()),
    }
}

/// Bytes of a profile before it is compressed: gzip says them at its end.
fn unpacked(profile: &Profile) -> Result<u32, String> {
    let packed = encode(profile).map_err(|error| error.to_string())?;
    let end = packed.last_chunk::<4>().copied().unwrap_or([u8::MAX; 4]);
    Ok(u32::from_le_bytes(end))
}

/// The labels of the series. Without a name of the service, the server would file it under `unknown_service`.
fn labels(profile: &Profile, kind: ProfileKind) -> Vec<(String, String)> {
    let text = |index: i64| usize::try_from(index).ok().and_then(|index| profile.string_table.get(index));
    let of_first = |key: &str| {
        let labels = profile.sample.first().map(|sample| sample.label.as_slice()).unwrap_or_default();
        let label = labels.iter().find(|label| text(label.key).is_some_and(|text| text == key));
        label.and_then(|label| text(label.str)).map(|value| bounded(value))
    };
    let mut labels = vec![("__name__".to_owned(), name(kind).to_owned())];
    for key in TARGET {
        let value = of_first(key).filter(|value| !value.is_empty());
        let value = value.or_else(|| (key == "service_name").then(|| "unnamed".to_owned()));
        labels.extend(value.map(|value| (key.to_owned(), value)));
    }
    labels
}

fn bounded(value: &str) -> String {
    let end = (0..=VALUE.min(value.len())).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    value[..end].to_owned()
}

/// What Pyroscope's own clients call the kind, so that its screens and those of Grafana know it.
const fn name(kind: ProfileKind) -> &'static str {
    match kind {
        ProfileKind::Cpu => "process_cpu",
        ProfileKind::Wall => "wall",
        ProfileKind::Alloc | ProfileKind::Heap => "memory",
        ProfileKind::Lock => "mutex",
        ProfileKind::Block => "block",
        ProfileKind::Goroutine => "goroutines",
        ProfileKind::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleetprof_profile::{Frame, Label, ProfileBuilder, set_labels, total};

    use super::*;

    /// Stacks of two threads, each of which is hot in one function as well.
    fn profile(stacks: usize) -> Profile {
        let mut merger = Merger::new(Overlap::Sequential);
        // As many as one slice may hold, and more of them for more.
        for first in (0..stacks).step_by(5_000) {
            let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 1_700_000_000_000_000_000);
            for n in first..stacks.min(first + 5_000) {
                let thread = if n % 2 == 0 { "a" } else { "b" };
                let labels = [Label::text("thread", thread), Label::text(SPAN, "00f067aa0ba902b7")];
                let own = format!("function_{n}");
                builder.add_hits(&[Frame::named(&own, "main.rs", 1)], 1, &labels).unwrap();
                builder.add_hits(&[Frame::named("hot", "main.rs", 2)], 1, &labels[..1]).unwrap();
            }
            merger.add(&builder.finish(10_000_000_000, &[])).unwrap();
        }
        let mut profile = merger.finish().unwrap();
        let target = [("service_name", "orders"), ("namespace", "shop"), ("pod", "orders-1"), ("node", "")];
        set_labels(&mut profile, &target);
        profile
    }

    fn sent(profile: &Profile) -> Vec<Part> {
        parts(&encode(profile).unwrap(), ProfileKind::Cpu, &Limits::default()).unwrap()
    }

    fn read(part: &Part) -> Profile {
        decode_valid(&part.profile, &Limits::default()).unwrap()
    }

    #[test]
    fn a_series_has_stable_labels_alone() {
        let parts = sent(&profile(10));
        assert_eq!(parts.len(), 1);
        let labels: Vec<(&str, &str)> =
            parts[0].labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let wanted = [
            ("__name__", "process_cpu"),
            ("service_name", "orders"),
            ("namespace", "shop"),
            ("pod", "orders-1"),
        ];
        assert_eq!(labels, wanted);
        let read = read(&parts[0]);
        let keys: std::collections::BTreeSet<&str> = read
            .sample
            .iter()
            .flat_map(|sample| &sample.label)
            .map(|label| read.string_table[usize::try_from(label.key).unwrap()].as_str())
            .collect();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), [SPAN], "threads would each be a series");
        assert_eq!(read.sample.len(), 11, "what differed by thread alone is one sample");
        assert_eq!(total(&read, 0), 20);
    }

    #[test]
    fn samples_of_spans_are_sent_as_such_whatever_the_library_calls_them() {
        let mut merger = Merger::new(Overlap::Sequential);
        for (key, id) in [(SPAN, "00f067aa0ba902b7"), (PROFILE, "00f067aa0ba902b8"), ("thread", "main")] {
            let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 1_700_000_000_000_000_000);
            builder.add_hits(&[Frame::named("work", "main.rs", 1)], 1, &[Label::text(key, id)]).unwrap();
            merger.add(&builder.finish(10_000_000_000, &[])).unwrap();
        }
        let read = read(&sent(&merger.finish().unwrap())[0]);
        let text = |index: i64| read.string_table[usize::try_from(index).unwrap()].as_str();
        let labels = read.sample.iter().flat_map(|sample| &sample.label);
        let labels: Vec<(&str, &str)> = labels.map(|label| (text(label.key), text(label.str))).collect();
        assert_eq!(labels, [(SPAN, "00f067aa0ba902b7"), (SPAN, "00f067aa0ba902b8")]);
        assert_eq!(read.sample.len(), 3);
    }

    #[test]
    fn a_large_profile_comes_in_parts_that_add_up() {
        let profile = profile(40_000);
        let parts = sent(&profile);
        assert!(parts.len() > 2);
        let read: Vec<Profile> = parts.iter().map(read).collect();
        assert!(read.iter().all(|part| part.sample.len() <= SAMPLES && unpacked(part).unwrap() <= UNPACKED));
        assert_eq!(read.iter().map(|part| total(part, 0)).sum::<i64>(), 80_000);
        let mut times: Vec<i64> = read.iter().map(|part| part.time_nanos).collect();
        times.dedup();
        assert_eq!(times.len(), parts.len(), "none replaces another");
    }

    #[test]
    fn nothing_is_sent_of_nothing_and_junk_is_refused() {
        let empty = ProfileBuilder::new(ProfileKind::Cpu, 1, 0).finish(0, &[]);
        assert_eq!(sent(&empty), []);
        assert!(parts(b"junk", ProfileKind::Cpu, &Limits::default()).is_err());
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sources {
        datasources: Vec<Source>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Source {
        uid: String,
        r#type: String,
        #[serde(default)]
        json_data: JsonData,
    }

    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct JsonData {
        traces_to_profiles: Option<TracesToProfiles>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TracesToProfiles {
        datasource_uid: String,
        profile_type_id: String,
        tags: Vec<BTreeMap<String, String>>,
    }

    #[test]
    fn the_guide_from_traces_to_profiles_names_what_is_sent() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/traces-to-profiles.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let yaml = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let sources: Sources = serde_yaml::from_str(yaml).unwrap();
        let linked =
            sources.datasources.iter().find_map(|s| s.json_data.traces_to_profiles.as_ref()).unwrap();
        let target = sources.datasources.iter().find(|source| source.uid == linked.datasource_uid).unwrap();
        assert_eq!(target.r#type, "grafana-pyroscope-datasource");
        let sent = read(&sent(&profile(2))[0]);
        let text = |index: i64| sent.string_table[usize::try_from(index).unwrap()].as_str();
        let (of_samples, of_period) = (sent.sample_type.last().unwrap(), sent.period_type.unwrap());
        let types =
            [of_samples.r#type, of_samples.unit, of_period.r#type, of_period.unit].map(text).join(":");
        assert_eq!(linked.profile_type_id, format!("{}:{types}", name(ProfileKind::Cpu)));
        assert!(!linked.tags.is_empty());
        assert!(linked.tags.iter().all(|tag| TARGET.contains(&tag["value"].as_str())), "{:?}", linked.tags);
        let told = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let mut told: Vec<&str> = told.collect();
        let mut wanted = TARGET.to_vec();
        told.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(told, wanted, "the table has every label of a series");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(bounded(&"ü".repeat(2000)).len(), VALUE);
        assert_eq!(bounded("short"), "short");
    }
}
