#!/usr/bin/env bash
# How much slower are a Python and a native application while they are captured at 99 Hz, by us and by py-spy's own program?
#   tests/bench/capture.sh [ROUNDS [SECONDS]]   prints rows of the table of `make bench`; about 3 min 30 s, no cluster
# Needs gcc, python3 with venv and root (or a kernel that lets a user trace his own processes). FLEETPROF_AGENT names another binary.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
agent=${FLEETPROF_AGENT:-$root/target/x86_64-unknown-linux-gnu/release/fleetprof-agent}
[ -x "$agent" ] || { echo "There is no $agent: run tests/images.sh, or name another in FLEETPROF_AGENT." >&2; exit 1; }
for tool in gcc python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done

venv=${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof/bench/py-spy-0.4
if [ ! -x "$venv/bin/py-spy" ]; then
    echo "Installing py-spy into $venv (once, about 15 s)" >&2
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'py-spy==0.4.*' >&2
fi
out=$root/target/bench
mkdir -p "$out"
gcc -O2 -g -fomit-frame-pointer -o "$out/steps" "$here/targets/steps.c" -lpthread
# The worker's own tests take rights away by the same program.
gcc -O2 -o "$out/launch" "$root/operator/agent/tests/capture/targets/launch.c"
# A build in the meantime must not replace what is measured.
cp -f "$agent" "$out/fleetprof-agent"
exec python3 "$here/capture.py" "$out/fleetprof-agent" "$venv/bin/py-spy" "$out/launch" "$out/steps" "$@"
