#!/usr/bin/env bash
# Every test, in the order that finds faults fastest. Brings up what it needs, and says how long each part took.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
if [ "$own_cluster" = no ]; then
    echo "KUBECONFIG is $KUBECONFIG, but the tests run on the project's own cluster: some look for processes of" \
        "pods on this machine. Only the demo runs on a cluster of yours: make demo."
    unset KUBECONFIG
    . "$root/tests/env.sh"
fi
mkdir -p target
began=$(date +%s)
took() { echo "── $1: $(($(date +%s) - $2)) s"; }
# Runs a command and says how long it took.
part() {
    local t code=0
    t=$(date +%s)
    "$@" || code=$?
    took "$*" "$t"
    return $code
}

# What runs beside this script, as process group: a program is not the cargo that started it, and a test is not
# the operator that it runs.
beside=()
# start LOG COMMAND…: runs it beside what follows.
start() {
    local log=$1
    shift
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    beside+=("$!")
    set +m
}
# A subshell that is stopped before it has forgotten the trap runs it as well: it must stop nothing.
in_subshell() { [ "$BASHPID" != $$ ]; }
stop_all() {
    in_subshell && return
    for group in "${beside[@]}"; do kill -- "-$group" 2>/dev/null || true; done
}
trap stop_all EXIT

# On a fresh machine the compilation of Kubernetes fills the time in which the tests wait for something.
start target/tools.log tests/cluster/cluster tools
tools=${beside[0]}
tests/compiled.sh restore

t=$(date +%s)
step "1/5  Formatting, lints, licences (cold 6 min, warm 20 s); Kubernetes is built beside (cold 14 min)"
tests/lint.sh code
took "lint" "$t"

t=$(date +%s)
step "2/5  Tests that need no cluster (cold 11 min, warm 1 min)"
part tests/suites.sh pure
part tests/suites.sh stores
part tests/console.sh
took "pure tests" "$t"
tests/compiled.sh save

t=$(date +%s)
step "3/5  Captures of real processes, then Kubernetes (2 min once it is built)"
# Some captures measure time, so nothing is compiled beside them.
busy "building Kubernetes" wait "$tools" || { cat target/tools.log >&2 && exit 1; }
agent_tests=passed
part tests/suites.sh captures || agent_tests=failed
part tests/suites.sh attacks || agent_tests=failed
start target/cluster.log "$cluster" up
cluster_up=${beside[1]}
part tests/suites.sh waits || agent_tests=failed
busy "bringing up Kubernetes" wait "$cluster_up" || { cat target/cluster.log >&2 && exit 1; }
up
tests/lint.sh chart
took "agent and cluster" "$t"

t=$(date +%s)
step "4/5  The demo on the cluster (3 min); beside it the tests on API servers of their own"
start target/api-tests.log tests/suites.sh api
api=${beside[2]}
stop_and_show() {
    in_subshell && return
    stop_all
    echo "── What the tests on API servers of their own said before they were stopped:"
    cat target/api-tests.log
}
trap stop_and_show EXIT
tests/demo.sh
took "demo" "$t"

t=$(date +%s)
step "5/5  Failures and control on the cluster (13 min)"
cluster_tests=passed
part tests/suites.sh breaks || cluster_tests=failed
api_tests=passed
busy "tests on API servers of their own" wait "$api" || api_tests=failed
trap stop_all EXIT
cat target/api-tests.log
part tests/suites.sh alone || cluster_tests=failed
took "cluster and API tests" "$t"
case "$agent_tests $cluster_tests $api_tests" in
*failed*)
    echo "The captures of real processes $agent_tests, the tests on the cluster $cluster_tests, those on API" \
        "servers of their own $api_tests." >&2
    exit 1
    ;;
esac

took "All tests passed" "$began"
