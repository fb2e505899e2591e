#!/usr/bin/env bash
# Checks formatting, lints, licences and the chart. Needs no cluster.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
deny=${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof/cargo-deny
[ -x "$deny/bin/cargo-deny" ] || cargo install --quiet --locked --root "$deny" cargo-deny
"$deny/bin/cargo-deny" --log-level error check licenses bans sources
tests/chart.sh
