#!/usr/bin/env bash
# Measures how soon `kubectl fleetprof sessions` prints beside `kubectl get profilesessions`, on an API server of its own
# with 50 sessions. Prints rows for `make bench`. The plugin is FLEETPROF_PLUGIN, else an optimized build; kubectl is
# that of PATH, else that of the local Kubernetes, which is slower to start since it is one program with all the others.
#   tests/bench/plugin.sh [RUNS]     defaults to 20; about 30 s, and 6 min more for the first optimized build
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"

if [ -z "${FLEETPROF_PLUGIN:-}" ]; then
    busy "compiling the plugin" cargo build --quiet --locked --release -p fleetprof-plugin --bin kubectl-fleetprof >&2
    FLEETPROF_PLUGIN=$root/target/release/kubectl-fleetprof
    [ -x "$FLEETPROF_PLUGIN" ] || FLEETPROF_PLUGIN=$(built | sed 's|debug$|release|')/kubectl-fleetprof
fi
work=$(mktemp -d)
# Not the server of other tests, which may have the chart's gate and other sessions.
export FLEETPROF_CLUSTER_DIR=$work/cluster
finish() {
    "$cluster" down --api-only >&2
    rm -rf "$work"
}
trap finish EXIT
"$cluster" up --api-only --with-controllers >&2
tools=$("$cluster" tools)
KUBECONFIG=$(sed -n 's/^API_KUBECONFIG=//p' <<<"$tools")
export KUBECONFIG
command -v kubectl >/dev/null || PATH=$PATH:$(sed -n 's/^BIN_DIR=//p' <<<"$tools")
ln -s "$(realpath "$FLEETPROF_PLUGIN")" "$work/kubectl-fleetprof"
PATH=$work:$PATH

kubectl apply --server-side --force-conflicts -f crds/ >&2
kubectl wait --for=condition=Established crd --all --timeout=30s >&2
kubectl create namespace bench-plugin --dry-run=client -o yaml | kubectl apply -f - >&2
for n in $(seq 50); do
    printf -- '---\n{apiVersion: fleetprof.dev/v1alpha1, kind: ProfileSession, metadata: {name: s-%s}, spec: {policyRef: {name: shop}, duration: 30s}}\n' "$n"
done | kubectl -n bench-plugin apply -f - >&2
tests/bench/plugin.py bench-plugin "${1:-20}"
