//! Do the documents name fields and metrics that there are, and the reference all of them? No cluster is
//! needed to tell; `tests/tests/schema.rs` gives the same manifests to a real API server.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of folders of the checkout, with their text, whose names end so.
fn files(folders: &[&str], ending: &str) -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).collect();
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The blocks of a document between ```yaml and ```, and between <<'EOF' and EOF.
fn blocks(text: &str) -> Vec<&str> {
    let between = |from: &str, to: &str| {
        text.split(from).skip(1).filter_map(|rest| rest.split(to).next()).collect::<Vec<_>>()
    };
    [between("```yaml\n", "```"), between("<<'EOF'\n", "\nEOF")].concat()
}

/// The manifests of our kinds among texts.
fn ours<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, Value)> {
    let ours = texts.into_iter().filter(|t| t.contains("apiVersion: fleetprof.dev/"));
    ours.map(|t| (t, serde_yaml::from_str(t).unwrap_or_else(|e| panic!("{e}: {t}")))).collect()
}

/// The schema of a kind's spec.
fn schema(kind: &str) -> Value {
    let crds = fleetprof_crds::all_crds();
    let crd = crds
        .iter()
        .map(|(_, crd)| crd)
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap_or_else(|| panic!("there is no kind {kind}"));
    let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
    schema["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The fields of `value` that `schema` does not have.
fn unknown(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if schema.get("additionalProperties").is_none() => {
            for (name, value) in fields {
                match &schema["properties"][name] {
                    Value::Null => found.push(format!("{path}.{name}")),
                    inner => unknown(value, inner, &format!("{path}.{name}"), found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(item, &schema["items"], path, found)),
        _ => {}
    }
}

#[test]
fn manifests_have_no_field_that_there_is_not() {
    let documents =
        [files(&["README.md", "docs"], ".md"), files(&["charts/fleetprof/templates"], "NOTES.txt")].concat();
    let examples = files(&["examples"], ".yaml");
    let texts = documents
        .iter()
        .flat_map(|(_, text)| blocks(text))
        .chain(examples.iter().map(|(_, text)| text.as_str()));
    let manifests = ours(texts);
    assert!(manifests.len() >= 12, "{} manifests", manifests.len());
    for (text, manifest) in manifests {
        let mut found = Vec::new();
        unknown(&manifest["spec"], &schema(manifest["kind"].as_str().unwrap()), "spec", &mut found);
        assert!(found.is_empty(), "there is no {found:?}: {text}");
    }
}

/// What the reference leaves out of a schema, or says wrong: a field that is neither written nor in a
/// comment, a default.
fn lacks(text: &str, value: Option<&Value>, schema: &Value, path: &str, found: &mut Vec<String>) {
    if let (Some(value), Some(default)) = (value, schema.get("default"))
        && !default.is_object()
        && value != default
    {
        found.push(format!("{path} is {default} by default, not {value}"));
    }
    if let Some(items) = schema.get("items") {
        lacks(text, value.and_then(|v| v.get(0)), items, path, found);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let written = value.and_then(|v| v.get(name));
        if written.is_none() && !text.lines().any(|line| line.trim_start().starts_with(&format!("# {name}:")))
        {
            found.push(format!("{path} is missing"));
        } else if written.is_some() {
            lacks(text, written, inner, &path, found);
        }
    }
}

#[test]
fn the_reference_has_every_field_and_its_default() {
    let text = std::fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let manifests = ours(blocks(&text));
    for kind in ["ProfilingPolicy", "ProfileSession"] {
        let (text, manifest) = manifests.iter().find(|(_, m)| m["kind"] == kind).unwrap();
        let mut found = Vec::new();
        lacks(text, Some(&manifest["spec"]), &schema(kind), "spec", &mut found);
        assert!(found.is_empty(), "docs/reference.md, {kind}: {found:#?}");
    }
}

/// The first text in each call of a function.
fn calls(source: &str, function: &str) -> Vec<String> {
    source
        .split(function)
        .skip(1)
        .filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned()))
        .collect()
}

#[test]
fn the_metrics_in_the_documents_are_those_that_are_registered() {
    let sources = files(&["operator/controller/src"], ".rs");
    let registered: BTreeSet<String> = sources
        .iter()
        .flat_map(|(_, text)| {
            ["register(", "encode_descriptor(", "const METRIC: &'static str ="]
                .map(|call| calls(text, call))
                .concat()
        })
        .filter(|name| name.starts_with("fleetprof_"))
        .collect();
    let document = std::fs::read_to_string(root().join("docs/operate.md")).unwrap();
    let names = document.match_indices("fleetprof_").map(|(at, _)| &document[at..]);
    let names = names
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default());
    // Counters are registered without the ending that a scrape shows.
    let told: BTreeSet<String> = names.map(|name| name.trim_end_matches("_total").to_owned()).collect();
    assert_eq!(told, registered);
}
