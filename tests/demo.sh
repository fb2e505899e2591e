#!/usr/bin/env bash
# Demonstrates fleetprof on a real cluster: install it, link apps, profile on demand, read the profile, wait for the schedule,
# and try without permission. Prints what a user would see, and stops at the first failure.
#   tests/demo.sh                                                             on the project's own cluster
#   KUBECONFIG=… FLEETPROF_REGISTRY=registry.example.com/team tests/demo.sh    on your cluster, with images from a registry (see images.sh)
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
data=/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions
mkdir -p target/demo
mine=app.kubernetes.io/managed-by
registry=${FLEETPROF_REGISTRY:-}
registry=${registry%/}

# Nodes of other clusters cannot use images that only exist on this machine.
if [ "$own_cluster" = no ] && [ -z "$registry" ]; then
    cat >&2 <<END
KUBECONFIG is set, so the nodes of your cluster must be able to pull the images. Build these four images, push them to a registry that
needs no pull secret, and set FLEETPROF_REGISTRY, for example to registry.example.com/team. Or unset KUBECONFIG to use a local cluster.
  fleetprof-operator:$(version)  operator/controller/Dockerfile
  fleetprof-agent:$(version)     operator/agent/Dockerfile
  fleetprof-orders:demo     examples/orders/shop/Dockerfile
  fleetprof-worker:demo     examples/orders/worker/Dockerfile
END
    exit 1
fi
images=()
if [ "$own_cluster" = no ]; then
    images=(--set "image.operator.registry=$registry" --set "image.agent.registry=$registry")
else
    registry=docker.io/library # the registry in the names of images loaded by images.sh
fi

# only_ours NAMESPACE: exits if the namespace exists but was not created by the demo, which deletes objects in one namespace and
# upgrades the release in the other.
only_ours() {
    local found
    found=$(kubectl get namespace "$1" --ignore-not-found -o jsonpath="{.metadata.name} {.metadata.labels.${mine//./\\.}}")
    [ -z "$found" ] || [ "$found" = "$1 fleetprof-demo" ] || {
        echo "The cluster of $KUBECONFIG has a namespace $1 that was not created by this demo (it has no label $mine=fleetprof-demo). The demo" \
            "would delete or replace its contents. Nothing was changed. Use another cluster, or delete the namespace if it is not needed." >&2
        exit 1
    }
}

# namespace NAME: creates the namespace with the label that marks it as created by the demo.
namespace() {
    kubectl get namespace "$1" -o name >/dev/null 2>&1 || kubectl create -f - <<YAML
{apiVersion: v1, kind: Namespace, metadata: {name: $1, labels: {$mine: fleetprof-demo}}}
YAML
}

step "1/8  Start Kubernetes (about 12 min the first time, then 30 s; 0 s if it is running)"
up
if [ "$own_cluster" = no ]; then
    only_ours shop
    only_ours fleetprof
fi
kubectl get nodes

step "2/8  helm install (images: about 10 min the first time, then seconds)"
tests/images.sh
namespace fleetprof
helm upgrade --install fleetprof charts/fleetprof -n fleetprof --wait --timeout 3m "${images[@]}"
# The same tag may refer to a newer build.
kubectl -n fleetprof rollout restart deployment >/dev/null
kubectl -n fleetprof rollout status deployment/fleetprof-operator --timeout 2m
kubectl -n fleetprof rollout status deployment/fleetprof-webhook --timeout 2m
kubectl -n fleetprof get pods

step "3/8  Deploy a shop with a slow POST /api/orders, a load generator, and a native worker (20 s)"
kubectl -n shop delete ppol,psess --all --ignore-not-found >/dev/null 2>&1 || true
kubectl -n shop delete deployment,job --all --ignore-not-found --wait >/dev/null 2>&1 || true
cat >target/demo/kustomization.yaml <<YAML
resources: [../../examples/orders]
images:
  - {name: docker.io/library/fleetprof-orders, newName: $registry/fleetprof-orders}
  - {name: docker.io/library/fleetprof-worker, newName: $registry/fleetprof-worker}
patches:
  - patch: '{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {$mine: fleetprof-demo}}}'
YAML
kubectl apply -k target/demo
kubectl -n shop rollout status deployment/orders --timeout 2m
kubectl -n shop rollout status deployment/worker --timeout 2m

step "4/8  One policy links both apps, although their pods are older than the policy"
kubectl apply -f examples/policy.yaml
both_linked() { [ "$(kubectl -n shop get ppol shop -o jsonpath='{.status.linkedAppCount}')" = 2 ]; }
within 30 both_linked
echo "New pods get the agent as a sidecar:"
kubectl -n shop rollout restart deployment/worker
kubectl -n shop rollout status deployment/worker --timeout 2m
has_sidecar() { kubectl -n shop get pods -l app.kubernetes.io/name=worker -o jsonpath='{.items[*].spec.initContainers[*].name}' | grep -q fleetprof-agent; }
within 20 has_sidecar
kubectl -n shop get pods -o custom-columns='POD:.metadata.name,SIDECAR:.spec.initContainers[*].name,CONTAINERS:.spec.containers[*].name'
worker_linked() { [ "$(kubectl -n shop get ppol shop -o jsonpath='{.status.linkedApps[?(@.name=="worker")].reason}')" = Linked ]; }
within 60 worker_linked
kubectl -n shop get ppol shop -o yaml | sed -n '/^status:/,$p'

# profile_now APP EXPECTED-FUNCTION
profile_now() {
    local session top
    session=$(kubectl create -f - -o name <<YAML
$(sed -e "s/orders-now-/$1-now-/" -e "s/name: orders$/name: $1/" -e 's/duration: 30s/duration: 15s/' examples/session.yaml)
YAML
)
    echo "created $session"
    kubectl -n shop get "$session" -w --request-timeout 90s &
    local watch=$!
    kubectl -n shop wait "$session" --for=condition=Complete --timeout 120s >/dev/null
    sleep 0.5
    kill $watch 2>/dev/null || true
    wait $watch 2>/dev/null || true
    kubectl -n shop get "$session" -o jsonpath='{.status.phase}: {.status.message}{"\n"}CPU {.status.cpuPercent} %, memory {.status.memoryPercent} %, collector {.status.targets[0].collector} ({.status.targets[0].runtime}), agent attached as {.status.targets[0].attachedAs}{"\n"}'
    kubectl -n shop get "$session" -o jsonpath='{range .status.topFunctions[*]}{.selfPercent}{" %  "}{.name}{"  "}{.location}{"\n"}{end}'
    [ "$(kubectl -n shop get "$session" -o jsonpath='{.status.phase}')" = Succeeded ]
    profiled=${session#*/}
    kubectl get --raw "$data/$profiled/profile" >"target/demo/$1.pb.gz"
    echo "\$ go tool pprof -top -lines $1.pb.gz"
    top=$(go tool pprof -top -lines -nodecount 6 "target/demo/$1.pb.gz" 2>/dev/null)
    echo "$top"
    go tool pprof -top -nodecount 6 "target/demo/$1.pb.gz" 2>/dev/null | sed -n '/flat%/{n;p;}' | grep -q "$2" || {
        echo "The hottest function of $1 is not $2." >&2
        exit 1
    }
    echo "$top" | grep -Eq "$2.*:[0-9]+" || { echo "The profile of $1 has no line numbers." >&2; exit 1; }
}
step "5+6/8  Profile Now: the shop, with an agent attached to the running pod (30 s)"
profile_now orders find_issuer
step "5+6/8  Profile Now: the native worker, with its sidecar (30 s)"
profile_now worker soften
# kubectl finds plugins in PATH.
PATH=$(built):$PATH
echo "\$ kubectl fleetprof top $profiled -n shop --rows 5"
top=$(kubectl fleetprof top "$profiled" -n shop --rows 5)
echo "$top"
grep -q soften <<<"$top"

step "7/8  The policy profiles on schedule (every minute for the demo; up to 2 min)"
kubectl -n shop patch ppol shop --type=merge -p '{"spec":{"schedule":{"every":"1m","duration":"10s"}}}'
scheduled() { kubectl -n shop get psess -o jsonpath='{range .items[?(@.spec.trigger=="Schedule")]}{.status.phase}{"\n"}{end}' | grep -q Succeeded; }
within 150 scheduled
kubectl -n shop get psess
kubectl -n shop get ppol

step "8/8  Users without permission are rejected, and told what is missing"
refused() { # refused USER EXPECTED-TEXT
    local answer
    echo "\$ kubectl --as $1 create -f examples/session.yaml"
    if answer=$(kubectl --as "$1" --as-group system:authenticated create -f examples/session.yaml 2>&1); then
        echo "$1 was not rejected: $answer" >&2
        exit 1
    fi
    echo "$answer"
    grep -q "$2" <<<"$answer"
}
refused eve 'cannot create resource "profilesessions"'
kubectl -n shop create role session-creator --verb=create --resource=profilesessions.fleetprof.dev --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl -n shop create rolebinding mallory-creates --role=session-creator --user=mallory --dry-run=client -o yaml | kubectl apply -f - >/dev/null
refused mallory 'profile'

removal=" make down"
[ "$own_cluster" = yes ] || removal="
  helm uninstall fleetprof -n fleetprof
  kubectl delete namespace shop
  kubectl delete validatingadmissionpolicybinding,validatingadmissionpolicy fleetprof-gate fleetprof-status fleetprof-keep
  kubectl delete crd profilesessions.fleetprof.dev profilingpolicies.fleetprof.dev clusterprofilingpolicies.fleetprof.dev
  kubectl delete namespace fleetprof"
cat <<END

The demo succeeded. The cluster stays up; explore it with
  export KUBECONFIG=$KUBECONFIG
  export PATH=$(built):$(dirname "$(command -v kubectl)"):\$PATH
  kubectl -n shop get ppol,psess
  kubectl -n shop describe psess
  kubectl fleetprof console -n shop     # sessions, linked apps and flame graphs in your browser
To remove everything:$removal
END
