#!/usr/bin/env bash
# Builds the images of the operator, the agent and the example from this checkout, and loads them into the
# cluster.
#   tests/images.sh              the build that the tests run as well: one compilation for both
#   tests/images.sh --release    an optimized build, for measurements (about 12 min on 2 cores the first time)
# With your own KUBECONFIG, push images made by operator/*/Dockerfile and examples/orders/*/Dockerfile to where
# your nodes pull from, named fleetprof-operator, fleetprof-agent (tag: the version), fleetprof-orders and
# fleetprof-worker (tag: demo), and set FLEETPROF_REGISTRY to that place.
set -euo pipefail
. "$(dirname "$0")/env.sh"

if [ "$own_cluster" = no ]; then
    echo "KUBECONFIG is yours, so no image is loaded. Its nodes must be able to pull all four images from" \
        "${FLEETPROF_REGISTRY:-a registry}."
    exit 0
fi
cd "$root"
version=$(version)
out=target/images
mkdir -p $out/tmp
started=$(date +%s)
programs=$(built)
if [ "${1:-}" = --release ]; then
    programs=${programs%/debug}/release
    busy "compiling the release build" \
        cargo build --quiet --release --locked -p fleetprof-operator -p fleetprof-agent
else
    build
fi
rbspy=$(busy "building rbspy" tests/rbspy.sh | tail -n 1)
# An attached agent has no volume of its own and spools in /tmp.
for name in operator agent; do
    # Line tables are for the tests' panics; an image is loaded faster without them.
    strip --strip-debug -o $out/fleetprof-$name "$programs/fleetprof-$name"
    layers=(--layer "$out/fleetprof-$name=/fleetprof-$name:0755" --layer "$out/tmp=/tmp:1777")
    if [ $name = agent ]; then
        strip --strip-debug -o $out/fleetprof-worker "$programs/fleetprof-worker"
        # Run, not read: the kernel then hides the process from the program that it looks at.
        layers+=(--layer "$out/fleetprof-worker=/fleetprof-worker:0755" --layer "$rbspy=/rbspy:0111")
    fi
    "$cluster" image fleetprof-$name:"$version" "${layers[@]}" \
        --entrypoint "[\"/fleetprof-$name\"]" --user 65532 -o $out/$name.tar
done
examples=$(examples/orders/build-images.sh "$out")
# shellcheck disable=SC2086
"$cluster" load $out/operator.tar $out/agent.tar $examples
echo "Built and loaded in $(($(date +%s) - started)) s"
