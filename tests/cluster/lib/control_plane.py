"""With which flags do etcd, the API server, the controller manager and the scheduler run?"""

import ssl
import urllib.error
import urllib.request

from . import settings as names
from . import tools
from .process import Process
from .steps import wait_until

# What an API server without nodes needs, so that roles aggregate, namespaces go away and
# pods find their service account.
API_ONLY_CONTROLLERS = ("clusterrole-aggregation-controller,serviceaccount-controller,namespace-controller,"
                        "garbage-collector-controller,validatingadmissionpolicy-status-controller")


def start_etcd(settings):
    """Start etcd; what it holds is a test's, so it does not wait for the disk."""
    client = f"http://127.0.0.1:{settings.port('etcd')}"
    peer = f"http://127.0.0.1:{settings.port('etcd-peer')}"
    Process(settings, "etcd").ensure([
        tools.program("etcd"), "--name=default", f"--data-dir={settings.dir / 'etcd'}",
        "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ])


def start_apiserver(settings):
    """Start the API server and wait until it is ready."""
    certs = settings.certs
    server = Process(settings, "kube-apiserver")
    server.ensure([tools.program("kube-apiserver"), *_apiserver_flags(settings, certs)])
    context = ssl.create_default_context(cafile=str(certs / "ca.crt"))
    context.load_cert_chain(certs / "admin.crt", certs / "admin.key")

    def both_alive():
        Process(settings, "etcd").require_alive()
        server.require_alive()

    wait_until(lambda: ready(settings, context), f"{settings.server()}/readyz", 120,
               meanwhile=both_alive)


def _apiserver_flags(settings, certs):
    flags = [
        f"--etcd-servers=http://127.0.0.1:{settings.port('etcd')}",
        f"--secure-port={settings.port('kube-apiserver')}",
        f"--advertise-address={settings.advertise_ip}",
        f"--service-cluster-ip-range={names.SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--tls-cert-file={certs / 'apiserver.crt'}", f"--tls-private-key-file={certs / 'apiserver.key'}",
        f"--client-ca-file={certs / 'ca.crt'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={certs / 'sa.key'}",
        f"--service-account-key-file={certs / 'sa.pub'}",
        f"--kubelet-client-certificate={certs / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={certs / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={certs / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={certs / 'front-proxy.crt'}",
        f"--proxy-client-key-file={certs / 'front-proxy.key'}",
        "--enable-aggregator-routing=true",
        "--max-requests-inflight=1500", "--max-mutating-requests-inflight=750",
    ]
    if settings.api_only:
        # Nothing can reach the server through the `kubernetes` Service; a loopback endpoint is not allowed.
        flags += ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
    return flags


def ready(settings, context=None):
    """Whether the API server says that it is ready."""
    if context is None:
        context = ssl.create_default_context(cafile=str(settings.certs / "ca.crt"))
    try:
        with urllib.request.urlopen(f"{settings.server()}/readyz", context=context, timeout=3) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def start_controllers(settings, only=None):
    """Start the controller manager, with all its default controllers or `only` those named."""
    certs = settings.certs
    flags = [
        *_own_kubeconfig(settings, "kube-controller-manager"),
        "--use-service-account-credentials=true", f"--root-ca-file={certs / 'ca.crt'}",
        f"--service-account-private-key-file={certs / 'sa.key'}",
        f"--cluster-signing-cert-file={certs / 'ca.crt'}", f"--cluster-signing-key-file={certs / 'ca.key'}",
        f"--service-cluster-ip-range={names.SERVICE_CIDR}",
        f"--flex-volume-plugin-dir={settings.dir / 'volume-plugins'}",
    ]
    if only:
        flags.append(f"--controllers={only}")
    Process(settings, "kube-controller-manager").ensure([tools.program("kube-controller-manager"), *flags])


def start_scheduler(settings):
    """Start the scheduler."""
    Process(settings, "kube-scheduler").ensure(
        [tools.program("kube-scheduler"), *_own_kubeconfig(settings, "kube-scheduler")])


def _own_kubeconfig(settings, name):
    file = settings.conf / f"{name}.kubeconfig"
    return [f"--kubeconfig={file}", f"--authentication-kubeconfig={file}",
            f"--authorization-kubeconfig={file}", "--bind-address=127.0.0.1",
            f"--secure-port={settings.port(name)}", "--leader-elect=false"]
