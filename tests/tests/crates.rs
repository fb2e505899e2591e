//! Can types and decisions do I/O? Their dependency lists say no.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that reach the network, the clock's timers, other processes or a cluster.
const IO: &[&str] = &[
    "tokio",
    "hyper",
    "reqwest",
    "axum",
    "kube-client",
    "kube-runtime",
    "object_store",
    "mio",
    "socket2",
    "rustls",
    "rand",
    "tracing-subscriber",
    "libc",
    "nix",
];

fn dependencies(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-p", package, "-e", "normal,no-proc-macro", "--prefix", "none", "--locked"])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8_lossy(&tree.stdout)
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn types_and_decisions_depend_on_nothing_that_does_io() {
    for package in ["fleetprof-crds", "fleetprof-core", "fleetprof-profile"] {
        let all = dependencies(package);
        assert!(all.contains(package), "the tree of {package} is empty");
        let found: Vec<&str> = IO.iter().copied().filter(|io| all.contains(*io)).collect();
        assert!(found.is_empty(), "{package} depends on {found:?}");
    }
}

#[test]
fn effects_are_found_by_the_same_look() {
    assert!(dependencies("fleetprof-operator").contains("tokio"), "the look would find nothing anywhere");
}

#[test]
fn decisions_read_no_clock_and_no_randomness() {
    for folder in ["operator/core/src", "operator/profile/src", "crds/src"] {
        let all = files(&fleetprof_tests::root().join(folder));
        assert!(all.len() > 9, "{folder} holds {} sources", all.len());
        for file in all {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in
                ["Timestamp::now", "SystemTime::now", "Instant::now", "std::fs", "std::net", "std::env::var"]
            {
                // An address is a value like any other.
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code = code.replace("std::net::IpAddr", "");
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn no_reconcile_of_a_session_waits() {
    let folder = fleetprof_tests::root().join("operator/controller/src/sessions");
    let all = files(&folder);
    // The janitor is a loop of its own.
    let reconcile: Vec<_> = all.iter().filter(|f| !f.ends_with("janitor.rs")).collect();
    assert!(reconcile.len() > 4, "the session controller is looked for in {}", folder.display());
    for file in reconcile {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("sleep("), "{} sleeps; a wait is a requeue", file.display());
    }
}

/// The sources of a folder but those of its tests.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let all = entries.filter(|entry| entry.file_name() != "tests").map(|entry| entry.path());
    all.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}
