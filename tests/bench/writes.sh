#!/usr/bin/env bash
# Counts the status writes of a session with 50 targets, and checks that each returns a profile. On the cluster of `make demo`.
#   tests/bench/writes.sh [TARGETS]     prints rows of the table of `make bench`; about 2 min
set -euo pipefail
. "$(dirname "$0")/../env.sh"
targets=${1:-50}
[ "$own_cluster" = no ] || PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
namespace=fleetprof-bench
trap 'kubectl delete namespace $namespace --ignore-not-found --wait=false >/dev/null' EXIT
kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl apply -f - >/dev/null <<YAML
apiVersion: fleetprof.dev/v1alpha1
kind: ProfilingPolicy
metadata: {name: many, namespace: $namespace}
spec:
  selector: {}
  schedule: {every: 168h}
  sampling: {replicasPerWorkload: 50}
  budget: {maxConcurrent: 50, maxConcurrentPerNode: 100}
YAML
sleep 2 # until the webhook sees the policy
kubectl -n shop get deployment orders -o json | python3 -c '
import json, sys
d = json.load(sys.stdin)
image = d["spec"]["template"]["spec"]["containers"][0]["image"]
# Little work each: 50 pods must fit on one node.
program = "import time\ndef guilty():\n    end = time.thread_time() + 0.004\n    while time.thread_time() < end:\n        pass\nwhile True:\n    guilty()\n    time.sleep(0.3)\n"
container = {"name": "app", "image": image, "command": ["python3", "-c", program], "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
             "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
print(json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many", "namespace": sys.argv[1]},
    "spec": {"replicas": int(sys.argv[2]), "selector": {"matchLabels": {"app": "many"}},
             "template": {"metadata": {"labels": {"app": "many"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}}}))
' $namespace "$targets" | kubectl apply -f - >/dev/null
kubectl -n $namespace rollout status deployment/many --timeout 5m >&2
linked() { [ "$(kubectl -n $namespace get ppol many -o jsonpath='{.status.linkedApps[0].linked}/{.status.linkedApps[0].reason}')" = "$targets/Linked" ]; }
within 120 linked
operator() { kubectl -n fleetprof get lease fleetprof-operator -o jsonpath='{.spec.holderIdentity}'; }
writes() { kubectl get --raw "/api/v1/namespaces/fleetprof/pods/$(operator):8080/proxy/metrics" | sed -n 's/^fleetprof_status_writes_total{kind="session"} //p'; }
before=$(writes)
session=$(kubectl create -o name -f - <<YAML
apiVersion: fleetprof.dev/v1alpha1
kind: ProfileSession
metadata: {generateName: many-, namespace: $namespace}
spec:
  policyRef: {name: many}
  duration: 60s
YAML
)
kubectl -n $namespace wait "$session" --for=condition=Complete --timeout 300s >/dev/null
sleep 1
after=$(writes)
count=$((after - ${before:-0}))
read -r phase summary samples <<<"$(kubectl -n $namespace get "$session" -o jsonpath='{.status.phase} {.status.targetsSummary} {.status.samples}')"
# As the API server keeps and sends it; kubectl would indent it.
name=${session#*/}
bytes=$(kubectl get --raw "/apis/fleetprof.dev/v1alpha1/namespaces/$namespace/profilesessions/$name" | wc -c)
met=$([ "$count" -le 6 ] && echo met || echo missed)
small=$([ "$bytes" -le 20000 ] && echo met || echo missed)
echo "| status writes of a session with $targets targets, 60 s | $count | ≤ 6: $met | $phase, $summary targets with data, $samples samples |"
echo "| size of that session as an object | $((bytes / 1000)).$((bytes / 100 % 10)) KB | ≤ 20 KB: $small | as JSON, with managed fields |"
