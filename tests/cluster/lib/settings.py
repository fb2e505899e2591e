"""Where does everything of the cluster live, and on which addresses and ports?"""

import json
import os
import random
import socket
from pathlib import Path

from .steps import ClusterError

KUBERNETES_VERSION = "1.35.4"
NODE_NAME = "fleetprof-node"
BRIDGE = "fpcni0"
NETWORK = "fleetprof"
POD_CIDR = "10.244.0.0/24"
BRIDGE_IP = "10.244.0.1"
SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"

SOURCE_DIR = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("FLEETPROF_CACHE_DIR", Path.home() / ".cache" / "fleetprof"))
MARKER = ".fleetprof-cluster"
# A Unix socket's path has 107 characters at most, so sockets do not live in the state directory.
RUN_DIR = Path("/run/fleetprof-containerd")
CONTAINERD_SOCKET = RUN_DIR / "containerd.sock"

# Away from the usual numbers, so that another cluster on the machine keeps its own.
PREFERRED_PORTS = {
    "etcd": 12379,
    "etcd-peer": 12380,
    "kube-apiserver": 16443,
    "kube-controller-manager": 11257,
    "kube-scheduler": 11259,
    "kubelet": 11250,
    "kubelet-healthz": 11248,
    "kube-proxy-healthz": 11256,
    "kube-proxy-metrics": 11249,
}


class Settings:
    """The paths and ports of one cluster: the full one, or the API server alone."""

    def __init__(self, api_only):
        self.api_only = api_only
        base = os.environ.get("FLEETPROF_CLUSTER_DIR", str(CACHE / "cluster"))
        self.dir = Path(base + "-api" if api_only else base).absolute()
        self.certs = self.dir / "certs"
        self.logs = self.dir / "logs"
        self.pids = self.dir / "pids"
        self.conf = self.dir / "conf"
        self.kubeconfig = self.dir / "kubeconfig"
        self._ports = None

    @property
    def advertise_ip(self):
        """Where pods find the API server; the bridge exists whatever the machine's network is."""
        return "127.0.0.1" if self.api_only else BRIDGE_IP

    def create(self):
        """Make the state directory, readable by its owner alone since it holds keys."""
        for path in (self.dir, self.certs, self.logs, self.pids, self.conf):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.dir / MARKER).touch()

    def port(self, name):
        """The port of a component: chosen once, then the same until `down`."""
        file = self.conf / "ports.json"
        if self._ports is None:
            self._ports = json.loads(file.read_text()) if file.exists() else {}
        if name not in self._ports:
            taken = set(self._ports.values())
            self._ports[name] = self._choose(name, taken)
            file.write_text(json.dumps(self._ports))
        return self._ports[name]

    def _choose(self, name, taken):
        # Below the range of outgoing connections and of NodePorts, so that a chosen port is still
        # free when the component is started again.
        others = [random.randrange(20000, 30000) for _ in range(50)]
        for candidate in others if self.api_only else [PREFERRED_PORTS[name], *others]:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", candidate))
                except OSError:
                    continue
            if candidate not in taken:
                return candidate
        raise ClusterError(f"no free port found for {name}; see `ss -ltn`")

    def server(self):
        """The API server's address for programs on this machine."""
        return f"https://127.0.0.1:{self.port('kube-apiserver')}"
