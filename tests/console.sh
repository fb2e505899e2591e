#!/usr/bin/env bash
# Tests the page of `kubectl fleetprof console`:
#   tests/console.sh            formatting, types, decisions, whether dist/ is what the sources give, and every
#                               pane in Chromium before a stand-in for the API server (warm: a minute)
#   tests/console.sh cluster    the page on the shop of tests/demo.sh, or of the cluster of KUBECONFIG
#   tests/console.sh speedscope    the page of a plugin that is built with speedscope, and that feature's own tests
#   tests/console.sh build      builds dist/ from the sources
#   tests/console.sh screenshots   makes the screenshots of the README, docs/images, again
# Needs npm 9 and Node.js 20 or newer, and Chromium. Screenshots are left in target/console/.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root/operator/plugin/console"

# Debian's packages, where they may be installed.
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1 is missing: install it and try again." >&2
        exit 1
    fi
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

# The packages of package-lock.json lie in the cache, and a link here leads to them.
packages() {
    need npm npm
    node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' || {
        echo "Node.js $(node --version) is too old: install 20 or newer and try again." >&2
        exit 1
    }
    local cache folder
    cache=${FLEETPROF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof}
    folder=$cache/console-$(sha256sum package-lock.json | cut -c1-12)
    mkdir -p "$folder"
    (
        flock 9
        [ -e "$folder/complete" ] && exit
        cp package.json package-lock.json "$folder"
        PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" >&2
        touch "$folder/complete"
    ) 9>"$folder.lock"
    if [ -e node_modules ] && [ ! -L node_modules ]; then
        echo "$PWD/node_modules is not a link to the cache: remove it and try again." >&2
        exit 1
    fi
    ln -sfn "$folder/node_modules" node_modules
}

drift() {
    local fresh code=0
    fresh=$(mktemp -d)
    node build.mjs --out "$fresh"
    diff -rq "$fresh" dist || code=1
    rm -r "$fresh"
    [ "$code" = 0 ] || echo "dist/ is not what the sources give: run tests/console.sh build and commit it." >&2
    return "$code"
}

# The program that serves the page, with the dist/ of now.
program() {
    if [ -z "${FLEETPROF_PLUGIN:-}" ]; then
        build
        FLEETPROF_PLUGIN=$(built)/kubectl-fleetprof
    fi
    export FLEETPROF_PLUGIN
}

browse() { # browse FOLDER-OF-TESTS
    need chromium chromium
    FLEETPROF_CONSOLE_TESTS=$1 node_modules/.bin/playwright test --max-failures=5
}

packages
case ${1:-all} in
build) node build.mjs ;;
cluster)
    program
    export FLEETPROF_KUBECTL=${FLEETPROF_KUBECTL:-$("$cluster" kubectl-path)}
    browse test/cluster
    ;;
speedscope)
    FLEETPROF_SPEEDSCOPE=$("$root/tests/speedscope.sh")
    export FLEETPROF_SPEEDSCOPE
    feature=fleetprof-plugin/speedscope
    (
        cd "$root"
        busy "compiling the plugin with speedscope" \
            cargo build --workspace --bin kubectl-fleetprof --locked --quiet --features "$feature"
        cargo test --workspace --lib --locked --quiet --features "$feature" -- console::
    )
    # The next build takes the program back.
    FLEETPROF_PLUGIN=$(mktemp -d)/kubectl-fleetprof
    cp "$(built)/kubectl-fleetprof" "$FLEETPROF_PLUGIN"
    export FLEETPROF_PLUGIN
    browse test/speedscope
    rm -r "$(dirname "$FLEETPROF_PLUGIN")"
    ;;
screenshots)
    program
    browse test/screenshots
    ;;
all)
    node_modules/.bin/biome ci .
    node_modules/.bin/tsc --noEmit
    node test/run.mjs
    drift
    program
    browse test/browser
    ;;
*) echo "tests/console.sh takes build, cluster, screenshots, speedscope or nothing." >&2 && exit 2 ;;
esac
