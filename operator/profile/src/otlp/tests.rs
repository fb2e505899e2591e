use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use prost::Message;

use super::proto::any_value::Value;
use super::proto::{
    AnyValue, ExportProfilesServiceRequest, Function, KeyValueAndUnit, Link, Location, Mapping,
    ProfilesDictionary, Stack,
};
use super::*;
use crate::builder::{Frame, Label, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::labels::set_labels;
use crate::merge::{Merger, Overlap};
use crate::proto::Profile;
use crate::testing::{cpu, profiles as arbitrary};
use crate::validate::validate;
use crate::view::total;

fn id(request: usize, of_type: usize) -> [u8; 16] {
    [1 + request as u8, 1 + of_type as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn sent(profile: &Profile) -> Vec<ExportProfilesServiceRequest> {
    sent_of(profile, &[])
}

fn sent_of(profile: &Profile, resource: &[(String, String)]) -> Vec<ExportProfilesServiceRequest> {
    let mut sent = Vec::new();
    requests(profile, &About { resource, version: "0.1.0", id: &id }, |request| {
        assert!(request.len() <= MOST_BYTES);
        sent.push(ExportProfilesServiceRequest::decode(request.as_slice()).expect("a request"));
    });
    sent
}

/// What each stack with its labels adds up to, by sample type.
type Sums = BTreeMap<(String, Vec<String>, BTreeSet<String>), i64>;

/// Reads a pprof profile, label by label and frame by frame.
fn sums_of(profile: &Profile) -> Sums {
    let view = View::new(profile);
    let mut sums = Sums::new();
    for sample in &profile.sample {
        let place = |id: &u64| {
            let location = &profile.location[view.location_position(*id).expect("a location")];
            let mapping = view.mapping(location.mapping_id).map(|mapping| {
                let flags = (mapping.has_functions, mapping.has_filenames);
                let lines = (mapping.has_line_numbers, mapping.has_inline_frames);
                let (file, build_id) = (view.text(mapping.filename), view.text(mapping.build_id));
                format!(
                    "{file} {build_id} {:x} {:x} {flags:?} {lines:?}",
                    mapping.memory_start, mapping.memory_limit
                )
            });
            let line = |line: &crate::proto::Line| {
                let function = view.function(line.function_id).expect("a function");
                let names =
                    [function.name, function.system_name, function.filename].map(|text| view.text(text));
                format!("{names:?} {} {} {}", function.start_line, line.line, line.column)
            };
            let lines: Vec<String> = location.line.iter().map(line).collect();
            format!("{mapping:?} {:x} {lines:?} {}", location.address, location.is_folded)
        };
        let stack: Vec<String> = sample.location_id.iter().map(place).collect();
        let label = |label: &crate::proto::Label| match label.str {
            0 => format!("{}={}", view.text(label.key), label.num),
            text => format!("{}={:?}", view.text(label.key), view.text(text)),
        };
        let labels: BTreeSet<String> = sample.label.iter().map(label).collect();
        for (position, (name, unit)) in crate::view::sample_types(profile).into_iter().enumerate() {
            let value = sample.value[position];
            if value != 0 {
                *sums.entry((format!("{name}/{unit}"), stack.clone(), labels.clone())).or_default() += value;
            }
        }
    }
    sums
}

/// Reads requests as a server does.
fn sums_sent(requests: &[ExportProfilesServiceRequest]) -> Sums {
    let mut sums = Sums::new();
    for request in requests {
        let reader = Reader(request.dictionary.as_ref().expect("a dictionary"));
        for profile in profiles_of(request) {
            let of_type = profile.sample_type.expect("a type");
            let of_type =
                format!("{}/{}", reader.text(of_type.type_strindex), reader.text(of_type.unit_strindex));
            for sample in &profile.samples {
                let key = (of_type.clone(), reader.stack(sample.stack_index), reader.labels(sample));
                let [value] = sample.values[..] else { panic!("{:?}", sample.values) };
                *sums.entry(key).or_default() += value;
            }
        }
    }
    sums
}

fn profiles_of(request: &ExportProfilesServiceRequest) -> impl Iterator<Item = &super::proto::Profile> {
    request.resource_profiles.iter().flat_map(|of| &of.scope_profiles).flat_map(|of| &of.profiles)
}

struct Reader<'a>(&'a ProfilesDictionary);

impl Reader<'_> {
    fn text(&self, index: i32) -> &str {
        &self.0.string_table[index as usize]
    }

    fn attribute(&self, index: i32) -> (&str, &AnyValue) {
        let attribute = &self.0.attribute_table[index as usize];
        (self.text(attribute.key_strindex), attribute.value.as_ref().expect("a value"))
    }

    fn stack(&self, index: i32) -> Vec<String> {
        let stack = &self.0.stack_table[index as usize];
        stack.location_indices.iter().map(|index| self.place(*index)).collect()
    }

    fn place(&self, index: i32) -> String {
        let location = &self.0.location_table[index as usize];
        let is_folded = location
            .attribute_indices
            .iter()
            .any(|index| self.attribute(*index) == ("pprof.location.is_folded", &AnyValue::from(true)));
        let mapping = (location.mapping_index != 0).then(|| self.mapping(location.mapping_index));
        let line = |line: &super::proto::Line| {
            let function = &self.0.function_table[line.function_index as usize];
            let names = [function.name_strindex, function.system_name_strindex, function.filename_strindex];
            format!(
                "{:?} {} {} {}",
                names.map(|text| self.text(text)),
                function.start_line,
                line.line,
                line.column
            )
        };
        let lines: Vec<String> = location.lines.iter().map(line).collect();
        format!("{mapping:?} {:x} {lines:?} {is_folded}", location.address)
    }

    fn mapping(&self, index: i32) -> String {
        let mapping = &self.0.mapping_table[index as usize];
        let attributes: BTreeMap<&str, &AnyValue> =
            mapping.attribute_indices.iter().map(|index| self.attribute(*index)).collect();
        let is_set = |flag: &str| attributes.contains_key(format!("pprof.mapping.{flag}").as_str());
        let build_id =
            match attributes.get("process.executable.build_id.gnu").and_then(|id| id.value.as_ref()) {
                Some(Value::StringValue(id)) => id,
                _ => "",
            };
        format!(
            "{} {build_id} {:x} {:x} {:?} {:?}",
            self.text(mapping.filename_strindex),
            mapping.memory_start,
            mapping.memory_limit,
            (is_set("has_functions"), is_set("has_filenames")),
            (is_set("has_line_numbers"), is_set("has_inline_frames")),
        )
    }

    fn labels(&self, sample: &super::proto::Sample) -> BTreeSet<String> {
        let mut labels = BTreeSet::new();
        for index in &sample.attribute_indices {
            let (key, value) = self.attribute(*index);
            let values = match value.value.as_ref().expect("a value") {
                Value::ArrayValue(list) => list.values.clone(),
                _ => vec![value.clone()],
            };
            labels.extend(values.iter().map(|value| match value.value.as_ref().expect("a value") {
                Value::StringValue(text) => format!("{key}={text:?}"),
                Value::IntValue(number) => format!("{key}={number}"),
                other => panic!("{other:?}"),
            }));
        }
        let link = &self.0.link_table[sample.link_index as usize];
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if sample.link_index != 0 {
            labels.insert(format!("trace_id={:?}", hex(&link.trace_id)));
            labels.insert(format!("span_id={:?}", hex(&link.span_id)));
        }
        labels
    }
}

/// What the proto says of a request: zero values first, nothing twice, nothing that nothing refers to, each key of
/// attributes once, samples with values.
fn obeys(request: &ExportProfilesServiceRequest) {
    let dictionary = request.dictionary.as_ref().expect("a dictionary");
    assert_eq!(dictionary.mapping_table.first(), Some(&Mapping::default()));
    assert_eq!(dictionary.location_table.first(), Some(&Location::default()));
    assert_eq!(dictionary.function_table.first(), Some(&Function::default()));
    assert_eq!(dictionary.attribute_table.first(), Some(&KeyValueAndUnit::default()));
    assert_eq!(dictionary.stack_table.first(), Some(&Stack::default()));
    assert_eq!(dictionary.link_table.first(), Some(&Link { trace_id: vec![0; 16], span_id: vec![0; 8] }));
    assert_eq!(dictionary.string_table.first().map(String::as_str), Some(""));
    let strings: HashSet<&String> = dictionary.string_table.iter().collect();
    assert_eq!(strings.len(), dictionary.string_table.len(), "a text stands twice");
    once(&dictionary.mapping_table);
    once(&dictionary.location_table);
    once(&dictionary.function_table);
    once(&dictionary.attribute_table);
    once(&dictionary.stack_table);
    once(&dictionary.link_table);
    let mut used = Used::default();
    for profile in profiles_of(request) {
        assert!(!profile.samples.is_empty(), "a profile without samples");
        assert_eq!(profile.profile_id.len(), 16);
        used.profile(profile, dictionary);
    }
    used.tables(dictionary);
}

fn once<T: Message>(table: &[T]) {
    let rows: HashSet<Vec<u8>> = table.iter().map(Message::encode_to_vec).collect();
    assert_eq!(rows.len(), table.len(), "an entry stands twice");
}

/// Entries that something refers to, by table.
#[derive(Default)]
struct Used {
    strings: BTreeSet<i32>,
    attributes: BTreeSet<i32>,
    stacks: BTreeSet<i32>,
    links: BTreeSet<i32>,
    locations: BTreeSet<i32>,
    functions: BTreeSet<i32>,
    mappings: BTreeSet<i32>,
}

impl Used {
    fn profile(&mut self, profile: &super::proto::Profile, dictionary: &ProfilesDictionary) {
        for of_value in profile.sample_type.iter().chain(&profile.period_type) {
            self.strings.extend([of_value.type_strindex, of_value.unit_strindex]);
        }
        self.attributes(&profile.attribute_indices, dictionary);
        let mut identities = HashSet::new();
        for sample in &profile.samples {
            let identity = (sample.stack_index, sample.attribute_indices.clone(), sample.link_index);
            assert!(identities.insert(identity), "a sample stands twice");
            assert!(sample.values.len() == 1 && sample.timestamps_unix_nano.is_empty());
            self.stacks.insert(sample.stack_index);
            self.links.insert(sample.link_index);
            self.attributes(&sample.attribute_indices, dictionary);
        }
    }

    fn attributes(&mut self, indices: &[i32], dictionary: &ProfilesDictionary) {
        let key = |index: &i32| dictionary.attribute_table[*index as usize].key_strindex;
        let keys: BTreeSet<i32> = indices.iter().map(key).collect();
        assert_eq!(keys.len(), indices.len(), "a key stands twice");
        self.attributes.extend(indices);
    }

    fn tables(&mut self, dictionary: &ProfilesDictionary) {
        for stack in &dictionary.stack_table {
            self.locations.extend(&stack.location_indices);
        }
        for location in &dictionary.location_table {
            self.mappings.insert(location.mapping_index);
            self.functions.extend(location.lines.iter().map(|line| line.function_index));
            self.attributes(&location.attribute_indices, dictionary);
        }
        for mapping in &dictionary.mapping_table {
            self.strings.insert(mapping.filename_strindex);
            self.attributes(&mapping.attribute_indices, dictionary);
        }
        for function in &dictionary.function_table {
            let texts = [function.name_strindex, function.system_name_strindex, function.filename_strindex];
            self.strings.extend(texts);
        }
        for attribute in &dictionary.attribute_table {
            self.strings.extend([attribute.key_strindex, attribute.unit_strindex]);
        }
        all(&self.strings, dictionary.string_table.len(), "strings");
        all(&self.attributes, dictionary.attribute_table.len(), "attributes");
        all(&self.stacks, dictionary.stack_table.len(), "stacks");
        all(&self.links, dictionary.link_table.len(), "links");
        all(&self.locations, dictionary.location_table.len(), "locations");
        all(&self.functions, dictionary.function_table.len(), "functions");
        all(&self.mappings, dictionary.mapping_table.len(), "mappings");
    }
}

/// Whether everything but entry 0 is referred to, and nothing beyond the table.
fn all(used: &BTreeSet<i32>, length: usize, table: &str) {
    let used: BTreeSet<usize> = used.iter().map(|index| usize::try_from(*index).expect("an index")).collect();
    let wanted: BTreeSet<usize> = (1..length).collect();
    let used: BTreeSet<usize> = used.into_iter().filter(|index| *index != 0).collect();
    assert_eq!(used, wanted, "{table}");
}

/// A profile with labels of every kind.
fn labelled() -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 1_700_000_000_000_000_000);
    let frames = [Frame::named("work", "main.rs", 3), Frame::named("main", "main.rs", 9)];
    let trace = Label::text("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736");
    let span = Label::text("span_id", "00f067aa0ba902b7");
    let cases: [&[Label<'_>]; 6] = [
        &[trace, span, Label::text("thread", "main")],
        &[trace],
        &[Label::text("trace_id", "not-a-trace"), span],
        &[Label::text("trace_id", "00000000000000000000000000000000"), span],
        &[Label::text("thread", "a"), Label::text("thread", "b")],
        &[],
    ];
    for (hits, labels) in (1..).zip(cases) {
        builder.add_hits(&frames, hits, labels).expect("a sample");
    }
    builder.finish(10_000_000_000, &[])
}

#[test]
fn a_profile_has_one_sample_type_and_the_shape_that_receivers_know() {
    let profile = cpu(&[(&["leaf", "root"], 3), (&["other", "root"], 1)]);
    let [request] = &sent(&profile)[..] else { panic!("one request") };
    obeys(request);
    let reader = Reader(request.dictionary.as_ref().expect("a dictionary"));
    let type_of = |of: &ValueType| (reader.text(of.type_strindex), reader.text(of.unit_strindex));
    let types: Vec<_> =
        profiles_of(request).map(|profile| type_of(profile.sample_type.as_ref().expect("a type"))).collect();
    assert_eq!(types, [("cpu", "nanoseconds"), ("samples", "count")], "the one to show first is the first");
    for profile in profiles_of(request) {
        assert_eq!(type_of(profile.period_type.as_ref().expect("a period")), ("cpu", "nanoseconds"));
        assert_eq!((profile.period, profile.duration_nano), (10_000_000, 10_000_000_000));
    }
    let ids: HashSet<&Vec<u8>> = profiles_of(request).map(|profile| &profile.profile_id).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn the_target_is_the_resource_and_spans_are_links() {
    let mut profile = labelled();
    set_labels(&mut profile, &[("service_name", "orders"), ("namespace", "shop"), ("pod", "orders-1")]);
    let resource = target(&mut profile);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let wanted = [
        pair("service.name", "orders"),
        pair("k8s.namespace.name", "shop"),
        pair("k8s.pod.name", "orders-1"),
    ];
    assert_eq!(resource, wanted);
    assert_eq!(validate(&profile), Ok(()));
    let request = sent_of(&profile, &resource).remove(0);
    obeys(&request);
    let told = request.resource_profiles[0].resource.as_ref().expect("a resource");
    assert_eq!(told.attributes.len(), 3);
    assert_eq!(told.attributes[0].value, Some("orders".into()));
    let dictionary = request.dictionary.as_ref().expect("a dictionary");
    assert_eq!(dictionary.link_table.len(), 2, "one whole span, and the one that means none");
    assert_eq!(dictionary.link_table[1].span_id, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!(sums_sent(std::slice::from_ref(&request)), sums_of(&profile));
}

#[test]
fn a_label_that_samples_differ_in_stays_on_them() {
    let mut merger = Merger::new(Overlap::Sequential);
    for pod in ["a", "b"] {
        let mut one = labelled();
        set_labels(&mut one, &[("pod", pod), ("namespace", "shop")]);
        merger.add(&one).expect("a profile");
    }
    let mut profile = merger.finish().expect("a merged profile");
    assert_eq!(target(&mut profile), [("k8s.namespace.name".to_owned(), "shop".to_owned())]);
    assert_eq!(sums_sent(&sent(&profile)), sums_of(&profile));
}

#[test]
fn a_large_profile_becomes_requests_that_add_up() {
    let mut merger = Merger::new(Overlap::Sequential);
    for first in (0..40_000).step_by(5_000) {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 1_700_000_000_000_000_000);
        for n in first..first + 5_000 {
            let own = format!("a_function_with_a_rather_long_name_as_generics_make_them_{n}");
            builder.add_hits(&[Frame::named(&own, "main.rs", 1)], 1, &[]).expect("a sample");
        }
        merger.add(&builder.finish(10_000_000_000, &[])).expect("a slice");
    }
    let profile = merger.finish().expect("a profile");
    let requests = sent(&profile);
    assert!(requests.len() > 2);
    requests.iter().for_each(obeys);
    let sum = |request: &ExportProfilesServiceRequest| -> i64 {
        profiles_of(request).nth(1).expect("counts").samples.iter().map(|sample| sample.values[0]).sum()
    };
    assert_eq!(requests.iter().map(sum).sum::<i64>(), total(&profile, 0));
    let times: HashSet<u64> =
        requests.iter().flat_map(profiles_of).map(|profile| profile.time_unix_nano).collect();
    assert_eq!(times.len(), requests.len(), "none replaces another");
}

#[test]
fn nothing_is_sent_of_nothing() {
    let empty = ProfileBuilder::new(ProfileKind::Cpu, 1, 0).finish(0, &[]);
    assert_eq!(sent(&empty), []);
    let mut zero = cpu(&[(&["a"], 1)]);
    zero.sample[0].value.fill(0);
    assert_eq!(sent(&zero), []);
}

#[test]
fn a_value_of_one_type_alone_is_a_profile_of_that_type_alone() {
    let mut profile = cpu(&[(&["a"], 1), (&["b"], 1)]);
    profile.sample.iter_mut().for_each(|sample| sample.value[0] = 0);
    let [request] = &sent(&profile)[..] else { panic!("one request") };
    obeys(request);
    assert_eq!(profiles_of(request).count(), 1);
    assert_eq!(sums_sent(std::slice::from_ref(request)), sums_of(&profile));
}

#[test]
fn numbers_keep_their_unit_as_otlp_names_it() {
    let mut profile = cpu(&[(&["a"], 1)]);
    let at = profile.string_table.len() as i64;
    profile.string_table.extend(["size".to_owned(), "bytes".to_owned()]);
    let label = crate::proto::Label { key: at, num: 512, num_unit: at + 1, ..Default::default() };
    profile.sample[0].label.push(label);
    let request = sent(&profile).remove(0);
    let reader = Reader(request.dictionary.as_ref().expect("a dictionary"));
    let size =
        reader.0.attribute_table.iter().find(|attribute| reader.text(attribute.key_strindex) == "size");
    assert_eq!(reader.text(size.expect("an attribute").unit_strindex), "By");
    assert_eq!(sums_sent(std::slice::from_ref(&request)), sums_of(&profile));
}

proptest! {
    #[test]
    fn whatever_is_sent_adds_up_to_the_profile_and_obeys_the_proto(mut profile in arbitrary(), folded in any::<bool>()) {
        if let Some(location) = profile.location.first_mut() {
            location.is_folded = folded;
        }
        let requests = sent(&profile);
        requests.iter().for_each(obeys);
        prop_assert_eq!(sums_sent(&requests), sums_of(&profile));
    }
}
