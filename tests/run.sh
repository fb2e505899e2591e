#!/usr/bin/env bash
# Runs all tests, fastest feedback first. Starts what they need, and prints how long each part took.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
if [ "$own_cluster" = no ]; then
    echo "KUBECONFIG is $KUBECONFIG, but the tests use the project's own cluster: some inspect processes of pods on this machine."
    echo "Only the demo supports other clusters: make demo."
    unset KUBECONFIG
    . "$root/tests/env.sh"
fi
began=$(date +%s)
took() { echo "── $1: $(($(date +%s) - $2)) s"; }

t=$(date +%s)
step "1/5  Formatting, lints, licences and the chart (cold 11 min, as Helm is built with Kubernetes; warm 30 s)"
tests/lint.sh
took "lint" "$t"

t=$(date +%s)
step "2/5  Tests that need no cluster (cold 5 min, warm 100 s)"
cargo test --workspace --exclude fleetprof-tests --exclude fleetprof-agent --locked --quiet
python3 -B -m unittest discover --quiet --buffer --start-directory tests/cluster
python3 -B -m unittest discover --quiet --buffer --start-directory .ci
cargo test -p fleetprof-agent --locked --quiet --lib --bins --test capture
# Most of these tests wait for something.
RUST_TEST_THREADS=8 cargo test -p fleetprof-agent --locked --quiet --test supervisor
took "unit tests" "$t"

t=$(date +%s)
step "3/5  Start Kubernetes (15 s)"
up
took "cluster" "$t"

t=$(date +%s)
step "4/5  The demo on the cluster (cold 12 min, warm 3 min), in parallel with the API tests on their own API server"
tests/images.sh
cargo test -p fleetprof-tests --locked --quiet --no-run
# These use their own API server, in parallel with everything that follows.
api_tests() {
    cargo test -p fleetprof-tests --locked --test crates --test floors --test schema --test gate --test webhook --test leader &&
        cargo test -p fleetprof-tests --locked --test cluster_policy --test failover --test loadtests --test restarts --test triggers --test unreadable -- --test-threads=1
}
# In their own process group, so that no child process is left running if a step fails: cargo starts tests, and tests start operators.
set -m
api_tests >target/api-tests.log 2>&1 </dev/null &
api=$!
set +m
stop_api_tests() {
    [ -n "$api" ] || return 0
    kill -- "-$api" 2>/dev/null || true
    wait "$api" 2>/dev/null || true
    echo "── Output of the API tests so far:"
    cat target/api-tests.log
    echo "── Stopped early; the failure is above the output of the API tests."
}
trap stop_api_tests EXIT
tests/demo.sh
took "demo" "$t"

t=$(date +%s)
step "5/5  Failures and control on the cluster (9 min)"
cluster_tests=passed
cargo test -p fleetprof-tests --locked --test failures --test control --test shop_load --test shop_restart --test uninstall -- --test-threads=1 || cluster_tests=failed
api_result=passed
wait "$api" || api_result=failed
api=
cat target/api-tests.log
took "cluster and API tests" "$t"
[ $cluster_tests = passed ] && [ $api_result = passed ] || { echo "The cluster tests $cluster_tests, the API tests $api_result." >&2; exit 1; }

took "All tests passed" "$began"
