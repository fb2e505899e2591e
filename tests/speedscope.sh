#!/usr/bin/env bash
# Prints the folder with the files of speedscope, for a plugin with the feature of this name:
#   export FLEETPROF_SPEEDSCOPE=$(tests/speedscope.sh)
#   cargo install --path operator/plugin --locked --features speedscope
# The first time it takes them from the npm registry, and refuses what is not the package that is pinned here.
# Needs npm.
set -euo pipefail
version=1.25.0
sha512=7297fd1d64d97f58a32d7049ae4f3b55eff9e2d9d8c7aae57f48144e1be7de8a24ea1eb784b5d539088c7f8e0f4fe5e8579d3770f7ef7e24f980fe6fa23a7a02
cache=${FLEETPROF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof}
folder=$cache/speedscope-$version
mkdir -p "$cache"

install() {
    local work package
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # It is this folder that is removed.
    trap "rm -rf '$work'" RETURN
    npm pack --silent --pack-destination "$work" "speedscope@$version" >/dev/null
    if ! echo "$sha512  $work/speedscope-$version.tgz" | sha512sum --check --status; then
        echo "The npm registry has another speedscope $version than the one that tests/speedscope.sh pins:" \
            "look at it before you change the checksum." >&2
        return 1
    fi
    tar -xzf "$work/speedscope-$version.tgz" -C "$work"
    package=$work/package
    rm -rf "$folder"
    mkdir -p "$folder"
    # The names of the others have a hash of the content.
    cp "$package"/dist/release/speedscope-*.js "$folder/speedscope.js"
    cp "$package"/dist/release/speedscope-*.css "$folder/speedscope.css"
    cp "$package"/dist/release/SourceCodePro-*.woff2 "$folder/font.woff2"
    cat "$package/LICENSE" "$package/dist/release/source-code-pro.LICENSE.md" >"$folder/LICENSES"
    touch "$folder/complete"
}

(
    flock 9
    [ -e "$folder/complete" ] || install
) 9>"$folder.lock"
echo "$folder"
