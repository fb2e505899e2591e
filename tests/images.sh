#!/usr/bin/env bash
# Builds the images of the operator, the agent and the example, and loads them into the cluster.
#   tests/images.sh            loads them into the project's own cluster
# For another cluster (KUBECONFIG), build operator/*/Dockerfile and examples/orders/*/Dockerfile, push the images to a registry as
# fleetprof-operator, fleetprof-agent (tag: the version), fleetprof-orders and fleetprof-worker (tag: demo), and set
# FLEETPROF_REGISTRY.
set -euo pipefail
. "$(dirname "$0")/env.sh"

if [ "$own_cluster" = no ]; then
    echo "KUBECONFIG is set, so no image is loaded; the nodes must be able to pull all four from ${FLEETPROF_REGISTRY:-a registry}."
    exit 0
fi
cd "$root"
version=$(version)
target=x86_64-unknown-linux-gnu
out=target/images
mkdir -p "$out"
started=$(date +%s)
echo "Building static binaries of the operator and the agent (about 7 min on 2 cores the first time, then only changes)"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --locked --target $target -p fleetprof-operator -p fleetprof-agent
# Attached agents have no volume and spool to /tmp.
mkdir -p $out/tmp
for name in operator agent; do
    "$cluster" image fleetprof-$name:"$version" --layer target/$target/release/fleetprof-$name=/fleetprof-$name:0755 --layer $out/tmp=/tmp:1777 \
        --entrypoint "[\"/fleetprof-$name\"]" --user 65532 -o $out/$name.tar
done
examples=$(examples/orders/build-images.sh "$out")
# shellcheck disable=SC2086
"$cluster" load $out/operator.tar $out/agent.tar $examples
echo "Built and loaded in $(($(date +%s) - started)) s"
