#!/usr/bin/env bash
# Keeps the compiled dependencies outside the checkout, so that a fresh one compiles the project alone.
#   tests/compiled.sh restore    into a checkout that has compiled nothing yet
#   tests/compiled.sh save       what this checkout has compiled, unless it is kept already
# They are kept by what they are made from: versions, profiles, flags and the compiler.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
key=$({
    rustc -vV
    echo "${RUSTFLAGS:-}"
    cat Cargo.lock Cargo.toml .cargo/config.toml
} | sha256sum | cut -c -16)
cache=${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}/compiled
kept=$cache/$key.tar
host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo needs in order to take a dependency as it is, without the programs and the project's own crates.
files() {
    find debug "$host/debug" -type f \
        \( -path '*/.fingerprint/*' -o -path '*/build/*' -o -path '*/deps/lib*' -o -path '*/deps/*.d' \) ! -path '*fleetprof*' -print0
}

restore() {
    [ -s "$kept" ] && [ ! -e "target/$host/debug" ] || return 0
    mkdir -p target
    # Whatever is wrong with it, cargo can compile again.
    tar -C target -xf "$kept" || rm -rf target/debug "target/$host" "$kept"
}

save() {
    [ ! -s "$kept" ] || return 0
    mkdir -p "$cache"
    # One a branch or two; each takes 2 GB.
    find "$cache" -name '*.tar' -mtime +14 -delete
    fresh=$(mktemp "$cache/fresh.XXXXXX")
    trap 'rm -f "$fresh"' EXIT
    (cd target && files | tar --format=posix --null --files-from=- -cf "$fresh")
    mv "$fresh" "$kept"
}

case ${1:-} in
restore | save) "$1" ;;
*) echo "tests/compiled.sh takes restore or save." >&2 && exit 2 ;;
esac
