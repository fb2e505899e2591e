#!/usr/bin/env bash
# Measures the leader at rest: CPU, CPU of a session until it waits, memory of a pod. On an API server that runs
# alone.
#   tests/bench/rest.sh [PODS] [SESSIONS]     defaults to 5000 and 1000; about 3 min, prints rows for `make bench`
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
build >&2
cargo build --quiet --locked --release -p fleetprof-operator -p fleetprof-agent >&2
programs=$(built)
FLEETPROF_OPERATOR=${programs%/debug}/release/fleetprof-operator "$programs/bench-rest" "${1:-5000}" "${2:-1000}"
