#!/usr/bin/env bash
# Builds rbspy, which reads the stacks of Ruby for the agent, and prints the path of the program. It is built once:
# a static program, as the agent is, and never linked to it (docs/adr/0053-ruby-by-rbspy.md).
set -euo pipefail

version=0.55.0
cache=${FLEETPROF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof}
folder=$cache/rbspy-$version
if [ ! -x "$folder/bin/rbspy" ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    mkdir -p "$cache"
    # One at a time: the tests and the images may need it at the same moment.
    exec 9>"$folder.lock"
    flock 9
    # Optimization across crates takes longer than all the rest and gains nothing here.
    [ -x "$folder/bin/rbspy" ] || CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="-C target-feature=+crt-static" \
        cargo install --quiet --locked --target "$host" --root "$folder" "rbspy@$version" >&2
fi
echo "$folder/bin/rbspy"
