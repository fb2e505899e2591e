//! Are the committed CRD files and the table of reasons what the types say?
//! `FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds` rewrites them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use fleetprof_crds::Reason;

/// The files of the three kinds.
fn crd_files() -> impl Iterator<Item = (PathBuf, String)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fleetprof_crds::all_crds()
        .into_iter()
        .map(move |(stem, crd)| (here.join(format!("{stem}.yaml")), render(&crd)))
}

fn render(crd: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(crd).unwrap();
    whole_bounds(&mut value);
    format!(
        "# Generated from crds/src; to change it, change the types and run: FLEETPROF_REGENERATE=1 cargo \
         test -p fleetprof-crds\n{}",
        serde_yaml::to_string(&value).unwrap()
    )
}

/// An `i32` is written with its bounds as floats by the schema generator; a reader expects whole numbers.
fn whole_bounds(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for key in ["minimum", "maximum"] {
                if let Some(n) = map.get(key).and_then(serde_json::Value::as_f64)
                    && n.fract() == 0.0
                {
                    #[allow(clippy::cast_possible_truncation)]
                    map.insert(key.into(), serde_json::json!(n as i64));
                }
            }
            map.values_mut().for_each(whole_bounds);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(whole_bounds),
        _ => {}
    }
}

#[test]
fn committed_crds_are_what_the_types_say() {
    let regenerate = std::env::var_os("FLEETPROF_REGENERATE").is_some();
    for (path, wanted) in crd_files() {
        if regenerate {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is stale: run FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds",
            path.display()
        );
    }
}

/// Helm reads nothing outside a chart but follows links out of it, so that there is one copy of each file.
#[test]
fn the_chart_links_to_the_crds() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/fleetprof/files/crds");
    for (path, _) in crd_files() {
        let link = chart.join(path.file_name().unwrap());
        let target = std::fs::read_link(&link).unwrap_or_else(|e| panic!("{}: {e}", link.display()));
        assert_eq!(chart.join(target).canonicalize().unwrap(), path.canonicalize().unwrap());
    }
    assert_eq!(std::fs::read_dir(&chart).unwrap().count(), crd_files().count());
}

/// What stands before and behind the table of reasons in docs/operate.md.
const TABLE: (&str, &str) = (
    "<!-- reasons: generated from crds/src/reason.rs; FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds \
     -->\n",
    "<!-- end of reasons -->\n",
);

/// Every reason with what its documentation says and its advice, in the order of the alphabet.
fn reasons() -> String {
    let schema = serde_json::to_value(schemars::schema_for!(Reason)).unwrap();
    let documented = schema["oneOf"].as_array().unwrap();
    let mut rows: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            let of_reason = documented.iter().find(|d| d["const"] == reason.as_str());
            let meaning = of_reason
                .and_then(|d| d["description"].as_str())
                .unwrap_or_else(|| panic!("{reason} has no documentation"));
            format!(
                "| `{reason}` | {} | {} |\n",
                meaning.trim().replace('\n', " ").trim_end_matches('.'),
                reason.advice()
            )
        })
        .collect();
    rows.sort();
    format!("| reason | meaning | what to do |\n|---|---|---|\n{}", rows.concat())
}

#[test]
fn the_table_of_reasons_is_what_the_types_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operate.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(TABLE.0).unwrap();
    let (_, after) = rest.split_once(TABLE.1).unwrap();
    let wanted = [before, TABLE.0, &reasons(), TABLE.1, after].concat();
    if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            found == wanted,
            "{} is stale: run FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds",
            path.display()
        );
    }
}
