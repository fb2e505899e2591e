#!/usr/bin/env bash
# Is everything formatted, clean, licensed and rendered? Needs no cluster.
#   tests/lint.sh          all of it
#   tests/lint.sh code     what needs neither Helm nor the tools of the cluster
#   tests/lint.sh chart    the rest
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"

code() {
    cargo fmt --all --check
    busy "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
    local version=0.20.2 deny
    deny=${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}/cargo-deny-$version
    # Unoptimized: it is built in half the time, and still checks in a second.
    [ -x "$deny/bin/cargo-deny" ] ||
        busy "building cargo-deny" cargo install --quiet --debug --locked --root "$deny" cargo-deny@$version
    "$deny/bin/cargo-deny" --log-level error check licenses bans sources
}

chart() { tests/chart.sh; }

case ${1:-all} in
code | chart) "$1" ;;
all) code && chart ;;
*) echo "tests/lint.sh takes code, chart or nothing." >&2 && exit 2 ;;
esac
