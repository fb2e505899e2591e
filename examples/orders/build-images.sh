#!/bin/sh
# Builds the example's images as OCI archives, without Docker and without a registry:
#   examples/orders/build-images.sh [DIR]     writes orders.tar and worker.tar to DIR (default: target/images) and prints their paths
# With Docker, use shop/Dockerfile and worker/Dockerfile instead.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:-$root/target/images}
cluster=$root/tests/cluster/cluster
mkdir -p "$out"

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$here/worker/=" cargo build --quiet --release --locked \
    --manifest-path "$here/worker/Cargo.toml" --target "$host" --target-dir "$root/target/examples" >&2

"$cluster" image fleetprof-worker:demo --layer "$root/target/examples/$host/release/invoices=/worker:0755" \
    --entrypoint '["/worker"]' --user 1000 -o "$out/worker.tar" >&2

set --
for file in "$here"/shop/*.py; do
    set -- "$@" --layer "$file=/app/$(basename "$file")"
done
base=$("$cluster" image-python)
"$cluster" image fleetprof-orders:demo --base "$base" "$@" \
    --entrypoint '["python3","/app/server.py"]' --user 1000 -o "$out/orders.tar" >&2

echo "$out/orders.tar"
echo "$out/worker.tar"
