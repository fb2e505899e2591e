//! Are the committed CRD files what the types say? `FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds` rewrites them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;

/// The CRDs stand beside the types and, since Helm reads nothing outside a chart, in the chart.
fn places() -> [PathBuf; 2] {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    [here.clone(), here.join("../charts/fleetprof/files/crds")]
}

fn render(crd: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(crd).unwrap();
    whole_bounds(&mut value);
    format!(
        "# Generated from crds/src; to change it, change the types and run: FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds\n{}",
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
    for (stem, crd) in fleetprof_crds::all_crds() {
        let wanted = render(&crd);
        for place in places() {
            let path = place.join(format!("{stem}.yaml"));
            if regenerate {
                std::fs::create_dir_all(&place).unwrap();
                std::fs::write(&path, &wanted).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "{} is stale: run FLEETPROF_REGENERATE=1 cargo test -p fleetprof-crds", path.display());
        }
    }
}
