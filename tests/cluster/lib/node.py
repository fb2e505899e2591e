"""How does this machine become the cluster's one node?"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from . import settings as names
from . import tools
from .process import Process, run
from .steps import ClusterError, wait_until

# What we, the kubelet and kube-proxy set; `down` sets them back.
SYSCTLS = ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/bridge/bridge-nf-call-iptables",
           "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
CRI = "plugins.\"io.containerd.grpc.v1.cri\""


def ctr(*words, check=True, timeout=600):
    """Talk to the cluster's own containerd, in the kubelet's namespace."""
    return run(["ctr", "--address", names.CONTAINERD_SOCKET, "--namespace", "k8s.io", *words],
               check=check, timeout=timeout)


def prepare_host(settings):
    """Set what a node needs of its kernel: forwarding, shared mounts, our bridge."""
    for module in ("overlay", "br_netfilter", "nf_conntrack"):
        run(["modprobe", module], check=False)
    before = settings.conf / "sysctls.json"
    if not before.exists():
        found = {name: Path("/proc/sys", name) for name in SYSCTLS}
        before.write_text(json.dumps({name: path.read_text().strip() for name, path in found.items()
                                      if path.exists()}))
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        if Path("/proc/sys", name).exists():
            Path("/proc/sys", name).write_text("1")
    # Volumes that the kubelet mounts must become visible in containers that run already.
    run(["mount", "--make-rshared", "/"])
    if not Path("/sys/class/net", names.BRIDGE).exists():
        run(["ip", "link", "add", names.BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{names.BRIDGE_IP}/24", "dev", names.BRIDGE])
    run(["ip", "link", "set", names.BRIDGE, "up"])


def start_containerd(settings):
    """Start a containerd of our own: its root, state and socket are not the machine's."""
    names.RUN_DIR.mkdir(mode=0o711, exist_ok=True)
    owner = names.RUN_DIR / "owner"
    if owner.exists() and owner.read_text() != str(settings.dir) and Path(owner.read_text(), names.MARKER).exists():
        raise ClusterError(f"a cluster in {owner.read_text()} is already running on this machine; stop it first: "
                           f"FLEETPROF_CLUSTER_DIR={owner.read_text()} tests/cluster/cluster down")
    owner.write_text(str(settings.dir))
    _write(settings.conf / "cni" / "10-fleetprof.conflist", json.dumps(_cni(), indent=1))
    config = settings.conf / "containerd.toml"
    stamp = _write(config, _containerd_config(settings, snapshotter(settings)))
    daemon = Process(settings, "containerd")
    daemon.ensure(["containerd", "--config", config], stamp=stamp)
    wait_until(lambda: ctr("version", check=False).returncode == 0, "containerd's answer", 30,
               meanwhile=daemon.require_alive)


def snapshotter(settings):
    """overlayfs, or plain copies where the state directory's file system cannot be an upper layer."""
    answer = settings.conf / "snapshotter"
    if not answer.exists():
        probe = settings.dir / "overlay-probe"
        for name in ("lower", "upper", "work", "merged"):
            (probe / name).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
        mounted = run(["mount", "-t", "overlay", "overlay", "-o", layers, probe / "merged"], check=False)
        if mounted.returncode == 0:
            run(["umount", probe / "merged"])
        shutil.rmtree(probe)
        answer.write_text("native" if mounted.returncode else "overlayfs")
    return answer.read_text()


def _containerd_config(settings, snapshots):
    # Without CAP_SYS_RESOURCE the sandboxes' oom_score_adj cannot be lowered and every pod fails.
    return f"""version = 2
root = "{settings.dir / 'containerd'}"
state = "{names.RUN_DIR / 'state'}"
[grpc]
  address = "{names.CONTAINERD_SOCKET}"
[{CRI}]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "docker.io/library/fleetprof-pause:1"
  [{CRI}.containerd]
    snapshotter = "{snapshots}"
    default_runtime_name = "runc"
    [{CRI}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{CRI}.containerd.runtimes.runc.options]
        Root = "{names.RUN_DIR / 'runc'}"
        SystemdCgroup = false
  [{CRI}.cni]
    bin_dir = "{tools.cni_dir()}"
    conf_dir = "{settings.conf / 'cni'}"
"""


def _cni():
    # Leases live under /run, so that a reboot frees those of pods that died with it.
    return {
        "cniVersion": "0.4.0", "name": names.NETWORK,
        "plugins": [
            {"type": "bridge", "bridge": names.BRIDGE, "isGateway": True, "ipMasq": True,
             "hairpinMode": True,
             "ipam": {"type": "host-local", "dataDir": str(names.RUN_DIR / "addresses"),
                      "ranges": [[{"subnet": names.POD_CIDR}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def start_kubelet(settings):
    """Start the kubelet; it registers the node by itself."""
    root = settings.dir / "kubelet"
    root.mkdir(exist_ok=True)
    config = settings.conf / "kubelet.json"
    stamp = _write(config, json.dumps(_kubelet_config(settings), indent=1))
    Process(settings, "kubelet").ensure([
        tools.program("kubelet"), f"--config={config}",
        f"--kubeconfig={settings.conf / 'kubelet.kubeconfig'}",
        f"--root-dir={root}", f"--cert-dir={root / 'pki'}",
        f"--hostname-override={names.NODE_NAME}", f"--node-ip={names.BRIDGE_IP}",
    ], stamp=stamp)


def _kubelet_config(settings):
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": str(settings.certs / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "port": settings.port("kubelet"), "healthzPort": settings.port("kubelet-healthz"),
        "containerRuntimeEndpoint": f"unix://{names.CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False,
        "enforceNodeAllocatable": [], "maxPods": 200, "seccompDefault": True,
        "clusterDNS": [names.DNS_IP], "clusterDomain": "cluster.local",
        "podLogsDir": str(settings.dir / "pod-logs"),
        "volumePluginDir": str(settings.dir / "volume-plugins"),
        # Images come from nowhere else, so they are never collected; a full disk stops pods late.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "logging": {"verbosity": 1},
    }


def start_proxy(settings):
    """Start kube-proxy, which makes Services reachable from pods and from this machine."""
    config = settings.conf / "kube-proxy.json"
    stamp = _write(config, json.dumps({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(settings.conf / "kube-proxy.kubeconfig")},
        "mode": "iptables", "clusterCIDR": names.POD_CIDR, "hostnameOverride": names.NODE_NAME,
        # Where bridged packets pass no iptables, a reply between pods must come through this machine.
        "iptables": {"masqueradeAll": not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables")},
        "healthzBindAddress": f"127.0.0.1:{settings.port('kube-proxy-healthz')}",
        "metricsBindAddress": f"127.0.0.1:{settings.port('kube-proxy-metrics')}",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }, indent=1))
    Process(settings, "kube-proxy").ensure([tools.program("kube-proxy"), f"--config={config}"], stamp=stamp)


def _write(path, text):
    """Write a configuration and return a stamp of it, so that a change restarts its reader."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # kube-proxy ends when its file is touched, even with the same content.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
