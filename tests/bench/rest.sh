#!/usr/bin/env bash
# Measures the leader at rest: CPU, CPU of a session until it waits, memory of a pod. On an API server that runs alone.
#   tests/bench/rest.sh [PODS] [SESSIONS]     defaults to 5000 and 1000; about 3 min, prints rows of the table of `make bench`
set -euo pipefail
cd "$(dirname "$0")/../.."
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --release --target x86_64-unknown-linux-gnu -p fleetprof-operator
export FLEETPROF_OPERATOR=$PWD/target/x86_64-unknown-linux-gnu/release/fleetprof-operator
cargo run --quiet --locked -p fleetprof-tests --bin bench-rest -- "${1:-5000}" "${2:-1000}"
