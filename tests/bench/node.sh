#!/usr/bin/env bash
# Measures the agent of a node beside sidecars: CPU and memory at rest, with one capture, and with ten at once.
#   tests/bench/node.sh [CONTAINERS [SECONDS]]    defaults to 110 and 60; about 5 min, no cluster
# Prints rows of the table of `make bench`. Makes real processes in cgroups of their own, with names as a kubelet gives
# them, and a gateway that orders captures. Needs root, gcc, python3 and openssl. FLEETPROF_AGENT sets the agent, which
# has its worker beside it; by default the optimized one that tests/images.sh --release builds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
agent=${FLEETPROF_AGENT:-$root/target/x86_64-unknown-linux-gnu/release/fleetprof-agent}
[ -x "$agent" ] || { echo "$agent not found: run tests/images.sh --release, or set FLEETPROF_AGENT." >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "Not root: cgroups and process namespaces cannot be made." >&2; exit 1; }
for tool in gcc python3 openssl unshare; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -g -fno-omit-frame-pointer -o "$work/duty" "$here/targets/duty.c"
# A concurrent build must not replace the measured programs.
cp "$agent" "$(dirname "$agent")/fleetprof-worker" "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=gateway \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
python3 "$here/node.py" "$work" "${1:-110}" "${2:-60}"
