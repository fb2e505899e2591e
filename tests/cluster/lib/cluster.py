"""In which order does the cluster come up, and is it well?"""

from . import addons, certs, control_plane, images, node, teardown, tools
from .process import Process
from .steps import ClusterError, say, step, wait_until

API_PARTS = ("etcd", "kube-apiserver")
ALL_PARTS = ("containerd", *API_PARTS, "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


def up_api(settings, with_controllers):
    """Bring up etcd and the API server alone, with a few controllers when asked for."""
    tools.ensure_packages(programs=("openssl",), cni=False)
    tools.build()
    with tools.locked(settings.dir.with_name(settings.dir.name + ".lock")):
        settings.create()
        certs.ensure(settings)
        with step("starting etcd and the API server", "about 5 s"):
            control_plane.start_etcd(settings)
            control_plane.start_apiserver(settings)
        if with_controllers:
            control_plane.start_controllers(settings, only=control_plane.API_ONLY_CONTROLLERS)


def up_full(settings):
    """Bring up a cluster of one node: this machine."""
    tools.ensure_packages()
    tools.build()
    with tools.locked(settings.dir.with_name(settings.dir.name + ".lock")):
        settings.create()
        with step("making certificates and images", "about 10 s the first time, then cached"):
            certs.ensure(settings)
            own_images = [images.pause(), images.coredns()]
        with step("starting containerd", "about 2 s"):
            node.prepare_host(settings)
            node.start_containerd(settings)
        for path in own_images:
            images.load(path, settings)
        with step("starting etcd and the API server", "about 5 s"):
            control_plane.start_etcd(settings)
            control_plane.start_apiserver(settings)
        with step("starting the controllers, the kubelet and kube-proxy", "about 1 s"):
            control_plane.start_controllers(settings)
            control_plane.start_scheduler(settings)
            node.start_kubelet(settings)
            node.start_proxy(settings)
        _settle(settings)


def _settle(settings):
    def alive():
        for name in ALL_PARTS:
            Process(settings, name).require_alive()

    with step("waiting for the node", "about 15 s when it is new"):
        addons.apply(settings)
        wait_until(lambda: addons.node_ready(settings), "the node's readiness", 120, every=0.5, meanwhile=alive)
    with step("waiting for DNS and volumes", "about 5 s when they are new"):
        wait_until(lambda: addons.dns_ready(settings), "the DNS server's readiness", 120, every=0.5, meanwhile=alive)
        addons.recycle_volumes(settings)
    alive()


def down(settings):
    """Take the cluster down and remove all that it made but the caches."""
    settings.dir.parent.mkdir(parents=True, exist_ok=True)
    with tools.locked(settings.dir.with_name(settings.dir.name + ".lock")):
        teardown.down(settings)


def status(settings):
    """Print each part's state; return whether all is well."""
    if not settings.kubeconfig.exists():
        print(f"no cluster in {settings.dir}")
        return False
    parts = API_PARTS if settings.api_only else ALL_PARTS
    pids = {name: Process(settings, name).pid() for name in parts}
    controllers = Process(settings, "kube-controller-manager")
    if settings.api_only and controllers.file.exists():
        pids["kube-controller-manager"] = controllers.pid()
    facts = {name: f"running (pid {pid})" if pid else "not running" for name, pid in pids.items()}
    well = all(pids.values())
    checks = {"API server ready": control_plane.ready(settings)}
    if not settings.api_only:
        checks["node ready"] = checks["API server ready"] and addons.node_ready(settings)
        checks["DNS ready"] = checks["API server ready"] and addons.dns_ready(settings)
    facts.update({name: "yes" if good else "no" for name, good in checks.items()})
    facts.update({"address": settings.server(), "kubeconfig": settings.kubeconfig, "logs": settings.logs})
    for name, value in facts.items():
        print(f"{name:24} {value}")
    return well and all(checks.values())


def load(settings, paths):
    """Import image tars into the full cluster's containerd."""
    if not Process(settings, "containerd").pid():
        raise ClusterError("the cluster is not up; run `tests/cluster/cluster up` first")
    for path in paths:
        images.load(path, settings)


def say_ready(settings):
    """Tell how to use the cluster."""
    say(f"ready: export KUBECONFIG={settings.kubeconfig} PATH={tools.bin_dir()}:$PATH")
