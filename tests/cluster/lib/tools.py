"""Which programs does the cluster need, and how do they get onto the machine?"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from . import settings
from .process import run
from .steps import ClusterError, duration, say, step

MODULE = settings.SOURCE_DIR / "tools"
METRICS_MODULE = settings.SOURCE_DIR / "metrics-server"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
         "kubelet", "kube-proxy", "kubectl", "coredns", "helm")
CNI_DIRS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
# Program -> Debian package; a package is installed only for a program that is missing,
# so that another source's containerd is left alone.
PACKAGES = {
    "containerd": "containerd", "ctr": "containerd", "runc": "runc", "iptables": "iptables",
    "conntrack": "conntrack", "socat": "socat", "ip": "iproute2", "ebtables": "ebtables",
    "ethtool": "ethtool", "modprobe": "kmod", "openssl": "openssl", "gcc": "gcc libc6-dev",
}


def key(module=MODULE):
    """What the binary that is built of a Go module depends on, as a short hash."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        if (module / name).exists():
            digest.update((module / name).read_bytes())
    return digest.hexdigest()[:16]


def bin_dir():
    """Where the built programs of this version of the sources are cached."""
    return settings.CACHE / "tools" / key()


def program(name):
    """The path of one of `NAMES`; it may not be built yet."""
    return bin_dir() / name


@contextmanager
def locked(path):
    """Hold the lock file `path`, so that two runs of this program do not meet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"- waiting for another run that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build():
    """Build the multi-call binary and link its names, unless that was done before."""
    target = bin_dir()
    with locked(settings.CACHE / "tools" / "lock"):
        binary = target / "kubestack"
        if not binary.exists():
            with step(f"building Kubernetes {settings.KUBERNETES_VERSION}, CoreDNS and Helm",
                      "about 10 min on 2 cores the first time, then cached"):
                target.mkdir(parents=True, exist_ok=True)
                _go_build(target / "kubestack.part")
                (target / "kubestack.part").replace(binary)
        for name in NAMES:
            if not (target / name).is_symlink():
                (target / name).symlink_to("kubestack")


def metrics_server():
    """Build the metrics server, unless that was done before; return its path."""
    binary = settings.CACHE / "tools" / key(METRICS_MODULE) / "metrics-server"
    with locked(settings.CACHE / "tools" / "lock"):
        if not binary.exists():
            with step("building the metrics server", "about 3 min on 2 cores the first time, then cached"):
                binary.parent.mkdir(parents=True, exist_ok=True)
                part = binary.with_suffix(".part")
                _go_build(part, METRICS_MODULE, "sigs.k8s.io/metrics-server/cmd/metrics-server")
                part.replace(binary)
    return binary


def _go_build(output, module=MODULE, package="."):
    if not shutil.which("go"):
        raise ClusterError("Go is not installed; install Go 1.26 or later (https://go.dev/dl) and try again")
    version = f"v{settings.KUBERNETES_VERSION}"
    flags = " ".join(["-s -w"] + [f"-X {package}.gitVersion={version}" for package in
                                  ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")])
    # Without "direct" a module that the proxy does not serve fails at once instead of after a long wait.
    proxies = run(["go", "env", "GOPROXY"]).stdout.strip().split(",")
    proxy = ",".join(one for one in proxies if one != "direct") or "direct"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOPROXY": proxy}
    command = ["nice", "-n", "10", "go", "build", "-buildvcs=false", "-trimpath",
               "-ldflags", flags, "-o", str(output), package]
    with _heartbeat():
        done = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"building {module} failed:\n{done.stderr[-4000:]}")


@contextmanager
def _heartbeat(every=60):
    """Say that a long step is still at work."""
    over = threading.Event()

    def beat():
        waited = 0
        while not over.wait(every):
            waited += every
            say(f"  still building after {duration(waited)}")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cni_dir():
    """The directory that holds the CNI plugins, or None."""
    for directory in CNI_DIRS:
        if all(Path(directory, plugin).exists() for plugin in ("bridge", "host-local", "portmap", "loopback")):
            return directory
    return None


def ensure_packages(programs=tuple(PACKAGES), cni=True):
    """Install the Debian packages of those `programs` (and CNI plugins) that are missing."""
    missing = {PACKAGES.get(name, name) for name in programs if not _which(name)}
    if cni and not cni_dir():
        missing.add("containernetworking-plugins")
    if not missing:
        return
    words = sorted(word for package in missing for word in package.split())
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise ClusterError(f"these packages are missing: {' '.join(words)}; install them and try again")
    with step(f"installing {' '.join(words)}", "about 30 s"):
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=environment)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *words], env=environment)


def _which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
