"""What does the cluster hold before a test begins: DNS and volumes?"""

import json
import shutil

from . import images, tools
from . import settings as names
from .process import run

COREFILE = """cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    health
    ready
    kubernetes {
        pods insecure
        ttl 5
    }
    cache 5
    reload
}
.:53 {
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
"""
LABELS = {"k8s-app": "kube-dns"}
VOLUMES = 12


def kubectl(settings, *words, text=None, check=True, timeout=60):
    """Run kubectl against the cluster as its administrator."""
    return run([tools.program("kubectl"), f"--kubeconfig={settings.kubeconfig}", *words],
               text=text, check=check, timeout=timeout)


def apply(settings):
    """Apply the DNS server and the default storage class with its volumes."""
    items = [*_dns(), *_storage(settings)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl(settings, "apply", "--server-side", "--force-conflicts", "--field-manager=fleetprof-cluster",
            "-f", "-", text=text)


def kubernetes_object(api, kind, name, namespace=None, labels=None, **rest):
    """An object of Kubernetes, as it is applied."""
    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def _dns():
    rules = [{"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
             {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        kubernetes_object("v1", "ServiceAccount", "coredns", "kube-system"),
        kubernetes_object("rbac.authorization.k8s.io/v1", "ClusterRole", "system:coredns", rules=rules),
        kubernetes_object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "system:coredns",
                roleRef=role, subjects=[account]),
        kubernetes_object("v1", "ConfigMap", "coredns", "kube-system", data={"Corefile": COREFILE}),
        kubernetes_object("v1", "Service", "kube-dns", "kube-system", LABELS,
                spec={"clusterIP": names.DNS_IP, "selector": LABELS, "ports": ports}),
        kubernetes_object("apps/v1", "Deployment", "coredns", "kube-system", LABELS, spec={
            "replicas": 1, "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": _dns_pod()}}),
    ]


def _dns_pod():
    def probe(path, port):
        return {"httpGet": {"path": path, "port": port}, "periodSeconds": 2}

    container = {
        "name": "coredns", "image": f"docker.io/library/{images.coredns_name()}", "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}],
        "readinessProbe": probe("/ready", 8181),
        "livenessProbe": {**probe("/health", 8080), "periodSeconds": 10, "failureThreshold": 5},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    return {"serviceAccountName": "coredns", "priorityClassName": "system-cluster-critical",
            "dnsPolicy": "Default", "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": "coredns"}}]}


def _storage(settings):
    """A default class and some volumes of it: directories of this machine that honour fsGroup."""
    storage_class = kubernetes_object("storage.k8s.io/v1", "StorageClass", "standard",
                            provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer",
                            reclaimPolicy="Retain")
    storage_class["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [storage_class, *(_volume(settings, number) for number in range(VOLUMES))]


def _volume(settings, number):
    directory = settings.dir / "volumes" / f"{number:02}"
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [names.NODE_NAME]}
    return kubernetes_object("v1", "PersistentVolume", f"fleetprof-{number:02}", spec={
        "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "standard",
        "local": {"path": str(directory)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}})


def recycle_volumes(settings):
    """Empty the volumes whose claim is gone and offer them again."""
    listed = json.loads(kubectl(settings, "get", "persistentvolumes", "-o", "json").stdout)
    for volume in listed["items"]:
        name = volume["metadata"]["name"]
        if volume["status"].get("phase") != "Released" or not name.startswith("fleetprof-"):
            continue
        directory = settings.dir / "volumes" / name.removeprefix("fleetprof-")
        shutil.rmtree(directory)
        directory.mkdir()
        kubectl(settings, "patch", "persistentvolume", name, "--type=json",
                "-p", '[{"op":"remove","path":"/spec/claimRef"}]')


def dns_ready(settings):
    """Whether the DNS server's Deployment has its replica available."""
    got = kubectl(settings, "-n", "kube-system", "get", "deployment", "coredns", "-o",
                  "jsonpath={.status.availableReplicas}/{.status.updatedReplicas}/"
                  "{.metadata.generation}/{.status.observedGeneration}", check=False)
    available, _, rest = got.stdout.partition("/")
    updated, _, rest = rest.partition("/")
    generation, _, observed = rest.partition("/")
    return available == "1" and updated == "1" and generation == observed


def node_ready(settings):
    """Whether the node reports Ready."""
    got = kubectl(settings, "get", "node", names.NODE_NAME, "-o",
                  "jsonpath={.status.conditions[?(@.type=='Ready')].status}", check=False)
    return got.stdout == "True"
