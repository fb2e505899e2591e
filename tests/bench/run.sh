#!/usr/bin/env bash
# The figures of docs/figures.md in one table, which also goes to target/bench.md. After `make demo`; about 12 min.
#   tests/bench/run.sh [SESSIONS]      50 unless told
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
sessions=${1:-50}

missing() {
    echo "$1: run make demo first (about 5 min when it has run before); it leaves up what is measured here." >&2
    exit 1
}
[ -x target/x86_64-unknown-linux-gnu/release/fleetprof-agent ] || missing "There is no built agent"
[ "$own_cluster" = no ] || PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
[ -s "$KUBECONFIG" ] || missing "There is no cluster"
kubectl get --raw /readyz --request-timeout=10s >/dev/null 2>&1 || missing "The cluster of $KUBECONFIG does not answer"
every=$(kubectl -n shop get ppol shop -o jsonpath='{.spec.schedule.every}' 2>/dev/null) || missing "The cluster has no shop"
suspend=$(kubectl -n shop get ppol shop -o jsonpath='{.spec.suspend}')
# rest true: the shop's own work, more than half a core, ends; rest false: it goes on.
rest() {
    kubectl -n shop patch job load --type=merge -p "{\"spec\":{\"suspend\":$1}}" >/dev/null 2>&1 || true
    kubectl -n shop scale deployment/worker --replicas="$([ "$1" = true ] && echo 0 || echo 1)" >/dev/null
}
# The measuring keeps the policy from starting rounds of its own.
restore() {
    rest false
    kubectl -n shop patch ppol shop --type=merge -p "{\"spec\":{\"suspend\":${suspend:-false},\"schedule\":{\"every\":\"$every\"}}}" >/dev/null
}
trap restore EXIT

# Pods that were created while the webhook was away have no sidecar, which is what is measured.
sidecar() { kubectl -n shop get pods -l app.kubernetes.io/name=worker -o jsonpath='{.items[*].spec.initContainers[*].name}' | grep -q fleetprof-agent; }
if ! sidecar; then
    kubectl -n shop rollout restart deployment/worker
    kubectl -n shop rollout status deployment/worker --timeout 2m
    within 30 sidecar
fi >&2

# The machine must do nothing else while it measures.
cargo build --quiet --locked -p fleetprof-tests --bin bench-start
rows=$(mktemp)
step "1/5  Starts of sessions, an agent that waits ($sessions sessions, about 3 min)"
target/debug/bench-start "$sessions" | tee -a "$rows"
rest true
kubectl -n shop wait pod -l app.kubernetes.io/name=worker --for=delete --timeout=60s >/dev/null 2>&1 || true # gone already
step "2/5  The webhook (about 1 min)"
tests/bench/webhook.sh | tee -a "$rows"
step "3/5  The decisions of a whole fleet (1 min; the first time as long as it is built)"
RUSTFLAGS="-C target-feature=+crt-static" cargo run --quiet --locked --release --target x86_64-unknown-linux-gnu -p fleetprof-core --example decide | tee -a "$rows"
step "4/5  What a capture costs the application (about 3 min 30 s)"
tests/bench/capture.sh | tee -a "$rows"
# Last: 50 pods take the node a while to forget.
step "5/5  A session of 50 targets (about 3 min)"
tests/bench/writes.sh 50 | tee -a "$rows"

step "All figures; also in target/bench.md"
{
    printf '| figure | measured | goal | others, and what else was seen |\n|---|---|---|---|\n'
    cat "$rows"
    printf '\n%s, %s cores (%s), %s GiB, Linux %s; %s; commit %s.\n' "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(nproc)" \
        "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)" "$(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)" \
        "$(uname -r)" "$(date -u +%F)" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    echo "× n (a–b): cost of a step while captured beside the same step uncaptured, windows alternating; median (quartiles; least–most)."
    echo "The figures of vault-k8s and linkerd are from an earlier run by the same method on such a machine; all others are of this run."
} >target/bench.md
rm -f "$rows"
cat target/bench.md
