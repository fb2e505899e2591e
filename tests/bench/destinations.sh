#!/usr/bin/env bash
# Measures how fast profiles get into each object store, and how long those that waited in an outage take. Needs no
# cluster; about 6 min.
#   tests/bench/destinations.sh [PROFILES]     defaults to 10,000 for S3, and a tenth of it for the others
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
busy "installing object stores" tests/stores.sh >/dev/null
FLEETPROF_STORES=$(tests/stores.sh)
export FLEETPROF_STORES FLEETPROF_SLICES=${1:-10000}
cargo test --workspace --locked --quiet --test stores -- --ignored --nocapture figures | grep '^|'
