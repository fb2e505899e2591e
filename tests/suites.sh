#!/usr/bin/env bash
# Runs the tests of one layer:
#   tests/suites.sh unit       no cluster: the three that follow
#   tests/suites.sh pure       functions, servers, files
#   tests/suites.sh stores     profiles in real object stores and an OpenTelemetry Collector, which it installs (cold 8 min)
#   tests/suites.sh agent      the three that follow
#   tests/suites.sh captures   captures of real processes, and the reader of Python beside py-spy; some
#                              measure time, so nothing else should run on the machine
#   tests/suites.sh waits      the agent's supervisor
#   tests/suites.sh attacks    attacks on the servers; they measure time as well
#   tests/suites.sh api        schema, gate, webhook, leader … on API servers that the tests start
#   tests/suites.sh matrix     captures of every version of Python and Node.js that can be installed, and of
#                              every runtime in pods by every way, autoscalers, updates of node agents, and
#                              verdicts on rollouts;
#                              on the cluster of tests/demo.sh
#   tests/suites.sh soak       what takes minutes and needs no cluster: a week of a simulated fleet,
#                              thousands of simulated rollouts, workers that are killed at hundreds of
#                              moments; the plugin from Krew
#   tests/suites.sh cluster    on the cluster and the shop of tests/demo.sh: the two that follow
#   tests/suites.sh breaks     failures, control, injection, containers of the shop, agents of nodes, an archive
#   tests/suites.sh alone      attacks, and what measures time on the whole cluster; uninstall
# Each call of cargo names the whole workspace and picks suites by name. With one package at a time cargo would
# choose other features for the same dependencies, and compile them again.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"

# The suites of all packages but the one that needs Kubernetes, without the agent's own.
suites() {
    cargo metadata --no-deps --locked --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
suites = {p["name"]: {t["name"] for t in p["targets"] if "test" in t["kind"]} for p in packages}
kubernetes = suites.pop("fleetprof-tests")
pure = set().union(*suites.values())
both = pure & kubernetes
if both:
    sys.exit(f"error: the suites {sorted(both)} have a namesake in tests/tests; cargo would run both, so rename one")
print(*(f"--test {name}" for name in sorted(pure - {"capture", "supervisor"})))'
}

# All suites of a call run, whichever of them fails.
test() { cargo test --workspace --locked --quiet --no-fail-fast "$@"; }

pure() {
    local suites
    suites=$(suites)
    tests/symbols.sh
    build
    # shellcheck disable=SC2086
    test --lib --bins $suites
    test --doc
    for folder in tests/cluster .ci; do
        python3 -B -m unittest discover --quiet --buffer --start-directory $folder
    done
}

captures() {
    # Downloads and builds that no test should wait for.
    tests/dotnet.sh >/dev/null
    tests/pythons.py 3.14 >/dev/null
    tests/targets.sh
    busy "building rbspy" tests/rbspy.sh >/dev/null
    # One more than there are cores, since a test waits as often as it works.
    RUST_TEST_THREADS=$(($(nproc) + 1)) test --test capture
    local version
    for version in 3.12 3.13 3.14; do
        python "$version" test --lib capture::python::oracle
    done
}

waits() {
    # Most of these wait for something.
    RUST_TEST_THREADS=8 test --test supervisor
}

attacks() { test --lib hostile:: -- --ignored --test-threads=1; }

agent() {
    local code=0 layer
    for layer in captures waits attacks; do tests/suites.sh "$layer" || code=1; done
    return $code
}

# Runs a command with a version of Python as target: python VERSION COMMAND…
python() {
    local program
    program=$("$root/tests/pythons.py" "$1")
    echo "Python $1: $program"
    FLEETPROF_PYTHON=$program "${@:2}"
}

stores() {
    busy "installing object stores and a collector" tests/stores.sh >/dev/null
    FLEETPROF_STORES=$(tests/stores.sh)
    export FLEETPROF_STORES
    test --test stores
}

matrix() {
    local nodes=${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}/nodes version
    for version in 3.10 3.12 3.13 3.14; do
        python "$version" test --lib capture::python::oracle
        python "$version" test --test capture python::
    done
    for version in 18 22 24; do
        [ -x "$nodes/$version/node_modules/.bin/node" ] || npm install --silent --prefix "$nodes/$version" "node@$version"
        echo "Node.js $version"
        FLEETPROF_NODE=$nodes/$version/node_modules/.bin/node test --test capture node::
    done
    pods all
    local code=0
    test --test runtimes -- --include-ignored --nocapture --test-threads=1 || code=1
    test --test hpa -- --nocapture || code=1
    test --test node_mode -- --ignored --nocapture || code=1
    test --test shop_verdict -- --nocapture || code=1
    return $code
}

# Loads the images of the targets in pods: pods [all]
pods() {
    local images
    images=$(tests/runtimes.sh "$@")
    # shellcheck disable=SC2086
    "$cluster" load $images
}

soak() {
    tests/bench/destinations.sh
    test --test people --test verdict --test trend -- --ignored --nocapture
    tests/krew.sh
    # The target survives the death of its worker at any moment, in every runtime.
    FLEETPROF_DEATHS=${FLEETPROF_DEATHS:-200} test --test capture -- killed death
}

unit() {
    pure
    stores
    agent
}

# Two lanes, each with an API server of its own: most of these tests wait for something.
api() {
    build
    FLEETPROF_OPERATOR=$(built)/fleetprof-operator
    export FLEETPROF_OPERATOR
    local code=0 second log
    log=$(mktemp)
    (
        FLEETPROF_CLUSTER_DIR=${FLEETPROF_CLUSTER_DIR:-${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}/cluster}-second
        export FLEETPROF_CLUSTER_DIR
        second_lane
    ) >"$log" 2>&1 &
    second=$!
    test --test crates --test floors --test schema --test gate --test own_account --test plugin --test webhook --test leader || code=1
    test --test attach_limit --test compare --test growth --test loadtests --test notifications --test samples -- --test-threads=1 || code=1
    wait "$second" || code=1
    cat "$log"
    rm "$log"
    return $code
}

second_lane() {
    local code=0
    test --test cluster_policies --test failover --test restarts --test rounds --test triggers --test unreadable -- --test-threads=1 || code=1
    "$cluster" down --api-only
    return $code
}

breaks() {
    test --test failures --test control --test injection --test shop_archive --test shop_containers --test node_mode -- --test-threads=1
}

alone() {
    local code=0
    test --test hostile --test shop_people --test shop_load --test shop_restart -- --test-threads=1 || code=1
    test --test uninstall || code=1
    return $code
}

cluster() {
    breaks
    alone
}

case ${1:-} in
unit | pure | agent | captures | waits | attacks | stores | api | cluster | breaks | alone | matrix | soak) "$1" ;;
*) echo "Which layer? unit, pure, agent, captures, waits, attacks, stores, api, cluster, breaks, alone, matrix or soak." >&2 && exit 2 ;;
esac
