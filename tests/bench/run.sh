#!/usr/bin/env bash
# Measures the figures in docs/figures.md, prints them as a table and writes it to target/bench.md. After
# `make demo`; about 35 min, and 12 more for the first optimized build.
#   tests/bench/run.sh [SESSIONS]      defaults to 50
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
sessions=${1:-50}

missing() {
    echo "$1: run make demo first (about 5 min if it ran before); the benchmark uses its cluster." >&2
    exit 1
}
[ "$own_cluster" = no ] || PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
[ -s "$KUBECONFIG" ] || missing "No cluster found"
kubectl get --raw /readyz --request-timeout=10s >/dev/null 2>&1 || missing "The cluster of $KUBECONFIG does not respond"
every=$(kubectl -n shop get ppol shop -o jsonpath='{.spec.schedule.every}' 2>/dev/null) || missing "The cluster has no shop"
suspend=$(kubectl -n shop get ppol shop -o jsonpath='{.spec.suspend}')
# rest true: stops the shop's own work, which uses more than half a core; rest false: resumes it.
rest() {
    kubectl -n shop patch job load --type=merge -p "{\"spec\":{\"suspend\":$1}}" >/dev/null 2>&1 || true
    kubectl -n shop scale deployment/worker --replicas="$([ "$1" = true ] && echo 0 || echo 1)" >/dev/null
}
# While measuring, the policy must not start rounds.
restore() {
    rest false
    kubectl -n shop patch ppol shop --type=merge -p "{\"spec\":{\"suspend\":${suspend:-false},\"schedule\":{\"every\":\"$every\"}}}" >/dev/null
}
trap restore EXIT

# The tests run unoptimized builds; figures are of optimized ones.
{
    tests/images.sh --release
    kubectl -n fleetprof rollout restart deployment
    kubectl -n fleetprof rollout status deployment/fleetprof-operator --timeout 3m
    kubectl -n fleetprof rollout status deployment/fleetprof-webhook --timeout 3m
    kubectl -n shop rollout restart deployment/worker
    kubectl -n shop rollout status deployment/worker --timeout 2m
} >&2

# The benchmark measures the sidecar, which pods created without a running webhook lack.
sidecar() { kubectl -n shop get pods -l app.kubernetes.io/name=worker -o jsonpath='{.items[*].spec.initContainers[*].name}' | grep -q fleetprof-agent; }
if ! sidecar; then
    kubectl -n shop rollout restart deployment/worker
    kubectl -n shop rollout status deployment/worker --timeout 2m
    within 30 sidecar
fi >&2

# Nothing else must run on the machine during measurements.
build >&2
rows=$(mktemp)
step "1/11  Session starts and an idle agent ($sessions sessions, about 6 min)"
"$(built)/bench-start" "$sessions" | tee -a "$rows"
step "2/11  Session starts while 30 scheduled captures run (about 4 min)"
"$(built)/bench-start" 20 30 | tee -a "$rows"
rest true
kubectl -n shop wait pod -l app.kubernetes.io/name=worker --for=delete --timeout=60s >/dev/null 2>&1 || true # gone already
step "3/11  The webhook (about 1 min)"
tests/bench/webhook.sh | tee -a "$rows"
step "4/11  Reconciling a large fleet (1 min, plus the build on the first run)"
cargo run --quiet --locked --release -p fleetprof-core --example decide | tee -a "$rows"
step "5/11  Overhead of a capture for the application (about 3 min 30 s)"
tests/bench/capture.sh | tee -a "$rows"
step "6/11  The same for native, Java, Go and Node.js, beside their own profilers (about 5 min)"
tests/bench/runtimes.sh | tee -a "$rows"
# Last, because the node takes a while to clean up 50 pods.
step "7/11  A session with 50 targets (about 3 min)"
tests/bench/writes.sh 50 | tee -a "$rows"
step "8/11  A leader at rest (about 4 min, plus the build on the first run)"
tests/bench/rest.sh | tee -a "$rows"
step "9/11  Views and merges of profiles (about 3 min, plus the build on the first run)"
tests/bench/views.sh | tee -a "$rows"
step "10/11  The agent of a node beside sidecars (about 6 min)"
tests/bench/node.sh | tee -a "$rows"
step "11/11  The plugin beside kubectl (30 s, plus the build on the first run)"
tests/bench/plugin.sh | tee -a "$rows"

step "All figures (also written to target/bench.md)"
{
    printf '| figure | measured | goal | comparison and details |\n|---|---|---|---|\n'
    cat "$rows"
    printf '\n%s, %s cores (%s), %s GiB, Linux %s; %s; commit %s.\n' "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(nproc)" \
        "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)" "$(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)" \
        "$(uname -r)" "$(date -u +%F)" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    echo "× n (a–b; c–d): cost of a step while captured relative to the same step without capture, in alternating"
    echo "windows; median (quartiles; minimum–maximum). The figures of vault-k8s and linkerd are from an earlier run"
    echo "with the same method on a similar machine; all others are from this run."
} >target/bench.md
rm -f "$rows"
cat target/bench.md
