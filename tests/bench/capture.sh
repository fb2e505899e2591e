#!/usr/bin/env bash
# Measures the slowdown of a Python and a native application captured at 99 Hz, by fleetprof and by the py-spy command.
#   tests/bench/capture.sh [ROUNDS [SECONDS]]   prints rows of the table of `make bench`; about 3 min 30 s, no cluster
# Needs gcc, python3 with venv and root (or a kernel that lets users trace their own processes). FLEETPROF_WORKER sets the binary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
worker=${FLEETPROF_WORKER:-$root/target/x86_64-unknown-linux-gnu/release/fleetprof-worker}
[ -x "$worker" ] || { echo "$worker not found: run tests/images.sh --release, or set FLEETPROF_WORKER." >&2; exit 1; }
for tool in gcc python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done

venv=${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}/bench/py-spy-0.4
if [ ! -x "$venv/bin/py-spy" ]; then
    echo "Installing py-spy into $venv (once, about 15 s)" >&2
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'py-spy==0.4.*' >&2
fi
out=$root/target/bench
mkdir -p "$out"
gcc -O2 -g -fomit-frame-pointer -o "$out/steps" "$here/targets/steps.c" -lpthread
# The worker's tests use the same program to drop privileges.
gcc -O2 -o "$out/launch" "$root/operator/agent/tests/capture/targets/launch.c"
# A concurrent build must not replace the measured binary.
cp -f "$worker" "$out/fleetprof-worker"
exec python3 "$here/capture.py" "$out/fleetprof-worker" "$venv/bin/py-spy" "$out/launch" "$out/steps" "$@"
