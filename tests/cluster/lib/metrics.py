"""How does the cluster measure its pods, where a test asks for it? By the metrics server, as autoscalers need it."""

import json

from . import addons, images
from .addons import kubernetes_object as object_of
from .steps import step, wait_until

NAME = "metrics-server"
LABELS = {"k8s-app": NAME}
# The least that the metrics server allows; an autoscaler looks every 15 s.
RESOLUTION = "10s"
API_SERVICE = "v1beta1.metrics.k8s.io"
RBAC = "rbac.authorization.k8s.io"


def up(settings):
    """Apply the metrics server and wait until it has measured the node."""
    images.load(images.metrics_server(), settings)
    items = [*_access(), *_served(), _deployment()]
    addons.kubectl(settings, "apply", "--server-side", "--force-conflicts", "--field-manager=fleetprof-cluster",
                   "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    with step("waiting for the first measurements", "about 30 s"):
        wait_until(lambda: _measures(settings), "metrics of the node", 120, every=0.5)


def down(settings):
    """Remove the metrics server; an API service without a server would keep namespaces from being deleted."""
    kinds = "apiservices,deployments,services,serviceaccounts,rolebindings,clusterrolebindings,clusterroles"
    addons.kubectl(settings, "delete", kinds, "-n", "kube-system", "-l", f"k8s-app={NAME}", "--ignore-not-found",
                   timeout=120)


def _measures(settings):
    listed = addons.kubectl(settings, "get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", check=False)
    return listed.returncode == 0 and bool(json.loads(listed.stdout).get("items"))


def _access():
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": "kube-system"}
    rules = [{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
             {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]

    def binding(kind, name, of_kind, role, namespace=None):
        return object_of(f"{RBAC}/v1", kind, name, namespace, LABELS, subjects=[account],
                         roleRef={"apiGroup": RBAC, "kind": of_kind, "name": role})

    return [
        object_of("v1", "ServiceAccount", NAME, "kube-system", LABELS),
        object_of(f"{RBAC}/v1", "ClusterRole", f"system:{NAME}", labels=LABELS, rules=rules),
        binding("ClusterRoleBinding", f"system:{NAME}", "ClusterRole", f"system:{NAME}"),
        binding("ClusterRoleBinding", f"{NAME}:system:auth-delegator", "ClusterRole", "system:auth-delegator"),
        binding("RoleBinding", f"{NAME}-auth-reader", "Role", "extension-apiserver-authentication-reader",
                "kube-system"),
    ]


def _served():
    group, version = "metrics.k8s.io", "v1beta1"
    return [
        object_of("v1", "Service", NAME, "kube-system", LABELS,
                  spec={"selector": LABELS, "ports": [{"port": 443, "targetPort": 10250}]}),
        object_of("apiregistration.k8s.io/v1", "APIService", API_SERVICE, labels=LABELS, spec={
            "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": True, "service": {"name": NAME, "namespace": "kube-system"}}),
    ]


def _deployment():
    # The kubelet's certificate is its own.
    flags = ["--cert-dir=/tmp", "--secure-port=10250", "--kubelet-use-node-status-port", "--kubelet-insecure-tls",
             "--kubelet-preferred-address-types=InternalIP", f"--metric-resolution={RESOLUTION}",
             "--kubelet-request-timeout=5s"]
    container = {
        "name": NAME, "image": f"docker.io/library/{images.metrics_server_name()}", "imagePullPolicy": "Never",
        "args": flags,
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 10250, "scheme": "HTTPS"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsUser": 65535,
                            "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {"serviceAccountName": NAME, "priorityClassName": "system-cluster-critical",
           "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return object_of("apps/v1", "Deployment", NAME, "kube-system", LABELS, spec={
        "replicas": 1, "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": pod}})
