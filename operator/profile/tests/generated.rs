//! Is the checked-in code what `proto/profile.proto` says?

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};

const FILE: &str = "perftools.profiles.rs";

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generate(out: &Path) {
    let proto_dir = crate_dir().join("proto");
    let files = protox::compile(["profile.proto"], [&proto_dir]).expect("profile.proto compiles");
    prost_build::Config::new().out_dir(out).compile_fds(files).expect("code is generated");
}

/// To regenerate: `FLEETPROF_REGENERATE=1 cargo test -p fleetprof-profile --test generated`.
#[test]
fn the_checked_in_code_is_fresh() {
    let out = std::env::temp_dir().join(format!("fleetprof-generated-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a directory for the fresh code");
    generate(&out);
    let fresh = std::fs::read_to_string(out.join(FILE)).expect("fresh code");
    std::fs::remove_dir_all(&out).expect("the directory goes away");
    let checked_in = crate_dir().join("src/generated").join(FILE);
    if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
        std::fs::write(&checked_in, &fresh).expect("the fresh code is written");
    }
    let stored = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        stored == fresh,
        "src/generated/{FILE} is stale: run FLEETPROF_REGENERATE=1 cargo test -p fleetprof-profile --test \
         generated"
    );
}
