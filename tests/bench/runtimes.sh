#!/usr/bin/env bash
# Measures the slowdown of native, Java, Go and Node.js applications captured at 99 Hz, by fleetprof and by the profiler that comes with
# each (perf of the distribution, JFR, /debug/pprof, V8's own).
#   tests/bench/runtimes.sh [ROUNDS]    prints rows of the table of `make bench`; about 5 min, no cluster
# Needs gcc, a JDK, Go, Node.js, curl and root; native programs are measured where perf is installed. FLEETPROF_WORKER
# sets the binary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
worker=${FLEETPROF_WORKER:-$root/target/x86_64-unknown-linux-gnu/release/fleetprof-worker}
[ -x "$worker" ] || { echo "$worker not found: run tests/images.sh --release, or set FLEETPROF_WORKER." >&2; exit 1; }
for tool in go curl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: install it and try again." >&2; exit 1; }
done
"$root/tests/targets.sh" >&2
out=$root/target/bench
mkdir -p "$out"
gcc -O2 -g -fomit-frame-pointer -o "$out/steps" "$here/targets/steps.c" -lpthread
go build -o "$out/steps-go" "$here/targets/steps.go"
javac -d "$out" "$here/targets/Steps.java"
# A concurrent build must not replace the measured binary.
cp -f "$worker" "$out/fleetprof-worker"
exec python3 "$here/runtimes.py" "$out/fleetprof-worker" "$out" "$@"
