#!/usr/bin/env bash
# How much do captures of one revision vary (φ)? Fetches the profiles of ended sessions through the read API, and
# prints φ beside what the simulations of verdicts and of growth take for granted.
#   tests/bench/dispersion.sh [NAMESPACE [DIR]]     defaults to shop and target/dispersion; needs a cluster with sessions
# On the demo: `make demo`, then let the schedule of a policy run for half an hour, with several pods in a round:
#   kubectl -n shop patch ppol NAME --type merge -p '{"spec":{"schedule":{"every":"2m","duration":"30s"},
#     "sampling":{"replicasPerWorkload":3},"session":{"history":{"succeeded":50}}}}'
set -euo pipefail
. "$(dirname "$0")/../env.sh"
cd "$root"
namespace=${1:-shop} directory=${2:-target/dispersion}
rm -rf "$directory"
mkdir -p "$directory"
kubectl -n "$namespace" get profilesessions -o json >"$directory/sessions.json"
python3 - "$directory/sessions.json" <<'PY' | while IFS=$'\t' read -r revision session pod kind; do
import json, re, sys

def safe(text):
    return re.sub(r"[^A-Za-z0-9.-]", "_", text)

# Sessions of triggers captured pods that stood out.
for session in json.load(open(sys.argv[1]))["items"]:
    status = session.get("status", {})
    if not status.get("endTime") or session["spec"].get("trigger") not in ("Schedule", "OnDemand", "Rollout"):
        continue
    for target in status.get("targets", []):
        # What many targets of a phase have in common is written once.
        shared = (facts for facts in status.get("shared", []) if facts["phase"] == target["phase"])
        target = {**next(shared, {}), "profiles": [], **target}
        for profile in target.get("profiles", []):
            if profile["type"] in ("cpu", "heap") and profile.get("samples", 0) > 0:
                revision = safe(f'{target.get("workload", "")}_{target.get("revision", "")}')
                name = f'{status["startTime"]}_{session["metadata"]["name"]}'
                print(revision, safe(name), target["pod"], profile["type"], sep="\t")
PY
    name=${session#*Z_}
    mkdir -p "$directory/$revision/$session"
    kubectl get --raw "/apis/data.fleetprof.dev/v1alpha1/namespaces/$namespace/profilesessions/$name/profile?pod=$pod&type=$kind" \
        >"$directory/$revision/$session/$pod.$kind.pb.gz" </dev/null ||
        rm -f "$directory/$revision/$session/$pod.$kind.pb.gz"
done
rm "$directory/sessions.json"
build >&2
"$(built)/bench-dispersion" "$directory"
