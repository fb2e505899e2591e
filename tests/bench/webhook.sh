#!/usr/bin/env bash
# Measures the cost of an injection: the webhook over TLS with keep-alive, injecting a 4 KB pod.
#   tests/bench/webhook.sh            prints rows of the table of `make bench`; about 50 s with a built operator
# Installs wrk, openssl and curl if missing. FLEETPROF_OPERATOR sets the binary, SECONDS_EACH the duration.
# The figures of other webhooks were measured with the same method on a similar machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cluster=$root/tests/cluster/cluster
operator=${FLEETPROF_OPERATOR:-$root/target/x86_64-unknown-linux-gnu/release/fleetprof-operator}
seconds=${SECONDS_EACH:-15}
for tool in wrk openssl curl; do
    command -v "$tool" >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$tool"; } >/dev/null
done
[ -x "$operator" ] || { echo "$operator not found: run tests/images.sh, or set FLEETPROF_OPERATOR." >&2; exit 1; }

work=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    "$kubectl" delete namespace fleetprof-bench fleetprof-bench-system --ignore-not-found --timeout=60s >/dev/null 2>&1 || true
    rm -rf "$work"
}
"$cluster" up --api-only --with-controllers >&2
kubectl=$("$cluster" tools | sed -n 's/^KUBECTL=//p')
KUBECONFIG=$("$cluster" tools | sed -n 's/^API_KUBECONFIG=//p')
export KUBECONFIG
trap cleanup EXIT

apply() { "$kubectl" apply --server-side --force-conflicts -f - >/dev/null; }
"$kubectl" apply --server-side --force-conflicts -f "$root/crds/profilingpolicies.yaml" -f "$root/crds/clusterprofilingpolicies.yaml" >/dev/null
"$kubectl" wait --for=condition=Established crd/profilingpolicies.fleetprof.dev crd/clusterprofilingpolicies.fleetprof.dev --timeout=30s >/dev/null
for namespace in fleetprof-bench fleetprof-bench-system; do
    "$kubectl" create namespace $namespace --dry-run=client -o yaml | apply
done
apply <<<'{"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "metadata": {"name": "all", "namespace": "fleetprof-bench"}, "spec": {"selector": {}}}'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
"$kubectl" -n fleetprof-bench-system create secret generic fleetprof-tls --from-file="$work/tls.key" --from-file="$work/tls.crt" \
    --from-file=ca.crt="$work/tls.crt" --dry-run=client -o yaml | apply

port=19443 health=19080
env -u FLEETPROF_NAME "$operator" --log warn webhook --namespace fleetprof-bench-system --port $port --health-port $health 2>"$work/log" &
pid=$!
for _ in $(seq 100); do
    curl -fs "http://127.0.0.1:$health/readyz" >/dev/null && break
    kill -0 $pid 2>/dev/null || { echo "The webhook exited:" >&2; cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
REVIEW=$here/webhook.json
export REVIEW
answer=$(curl -fs --cacert "$work/tls.crt" -H 'content-type: application/json' --data-binary @"$REVIEW" "https://localhost:$port/mutate/pods")
case $answer in
    *'"patchType":"JSONPatch"'*) ;;
    *) echo "The pod was not injected: $answer" >&2; exit 1 ;;
esac

# CPU time of the webhook so far, in ticks of 10 ms.
ticks() { awk '{print $14 + $15}' /proc/$pid/stat; }
# run CONNECTIONS THREADS: sets REQUESTS RATE P50 P99 ERRORS, and CPU seconds for 1000 requests.
run() {
    local before
    before=$(ticks)
    eval "$(wrk -c"$1" -t"$2" -d"$seconds"s -s "$here/webhook.lua" "https://localhost:$port/mutate/pods" | grep -E '^[A-Z0-9]+=[0-9.]+$')"
    CPU=$(awk -v t=$(($(ticks) - before)) -v n="$REQUESTS" 'BEGIN {printf "%.3f", t / 100 / n * 1000}')
    [ "$ERRORS" = 0 ] || { echo "$ERRORS of $REQUESTS requests failed with $1 connections." >&2; exit 1; }
}
echo "Measuring twice for $seconds s" >&2
run 1 1
cpu_one=$CPU p50_one=$P50
# One address may have 64 connections; an API server has a few.
run 60 2
injected=$(curl -fs "http://127.0.0.1:$health/metrics" | sed -n 's/^fleetprof_admission_total{webhook="pods",outcome="injected",reason=""} //p')
[ "${injected:-0}" -gt "$REQUESTS" ] || { echo "Only ${injected:-0} pods were injected." >&2; exit 1; }
rss=$(awk '/VmRSS/ {printf "%.0f", $2 / 1024}' /proc/$pid/status)
# met VALUE GOAL: whether a figure is what it should be.
met() { awk -v v="$1" -v g="$2" 'BEGIN {print (v <= g) ? "met" : "missed"}'; }
worst=$(printf '%s\n%s\n' "$cpu_one" "$CPU" | sort -g | tail -1)
cat <<END
| webhook: CPU time for 1000 injections of a 4 KB pod over TLS with keep-alive | $cpu_one s with 1 connection, $CPU s with 60 | ≤ 0.1 s: $(met "$worst" 0.1) | vault-k8s 0.8–1.0 s, linkerd 21–25 s |
| webhook: p50 with 1 connection | $p50_one ms | ≤ 0.2 ms: $(met "$p50_one" 0.2) | vault-k8s 0.75 ms, linkerd 19 ms |
| webhook: rate and p99 with 60 connections | $RATE/s, $P99 ms | – | vault-k8s 2,000/s, 380 ms; linkerd 70/s, 3,800 ms |
| webhook: RSS afterwards | $rss MB | – | vault-k8s 52 MB, linkerd 107 MB |
END
