#!/usr/bin/env bash
# Measures views of sessions, and a merge beside `go tool pprof`. Needs Go, and no cluster.
#   tests/bench/views.sh [SLICES]     defaults to 100; about 3 min, prints rows for `make bench`
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
cargo build --quiet --locked --release -p fleetprof-profile --example views >&2
programs=$(built)
example=${programs%/debug}/release/examples/views
"$example"
tests/bench/views.py "$example" "${1:-100}"
