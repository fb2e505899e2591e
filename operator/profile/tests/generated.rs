//! Is the checked-in code what the files in `proto/` say?

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};

/// Proto files and what is generated of each.
const FILES: [(&str, &str); 2] =
    [("profile.proto", "perftools.profiles.rs"), ("otlp.proto", "otlp.profiles.rs")];

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generate(proto: &str, out: &Path) {
    let proto_dir = crate_dir().join("proto");
    let files = protox::compile([proto], [&proto_dir]).expect("the proto file compiles");
    prost_build::Config::new().out_dir(out).compile_fds(files).expect("code is generated");
}

/// To regenerate: `FLEETPROF_REGENERATE=1 cargo test -p fleetprof-profile --test generated`.
#[test]
fn the_checked_in_code_is_fresh() {
    let out = std::env::temp_dir().join(format!("fleetprof-generated-{}", std::process::id()));
    for (proto, file) in FILES {
        std::fs::create_dir_all(&out).expect("a directory for the fresh code");
        generate(proto, &out);
        let fresh = std::fs::read_to_string(out.join(file)).expect("fresh code");
        std::fs::remove_dir_all(&out).expect("the directory goes away");
        let checked_in = crate_dir().join("src/generated").join(file);
        if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
            std::fs::write(&checked_in, &fresh).expect("the fresh code is written");
        }
        let stored = std::fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(
            stored == fresh,
            "src/generated/{file} is stale: run FLEETPROF_REGENERATE=1 cargo test -p fleetprof-profile --test \
             generated"
        );
    }
}
