"""Which certificates, keys and kubeconfigs do the components show each other?"""

import base64
import json
import os
import socket

from . import settings as names
from .process import run

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
# name -> (common name, organization)
CLIENTS = {
    "admin": ("fleetprof-test-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kubelet": (f"system:node:{names.NODE_NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", None),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
}


def ensure(settings):
    """Make what is missing: two authorities, the server's and clients' certificates, kubeconfigs."""
    before = os.umask(0o077)
    try:
        _ensure(settings, settings.certs)
    finally:
        os.umask(before)


def _ensure(settings, directory):
    for authority in ("ca", "front-proxy-ca"):
        _authority(directory, authority)
    _signed(directory, "apiserver", "ca", "kube-apiserver", None, _server_names())
    _signed(directory, "front-proxy", "front-proxy-ca", "front-proxy-client", None)
    for name, (common_name, organization) in CLIENTS.items():
        _signed(directory, name, "ca", common_name, organization)
    if not (directory / "sa.pub").exists():
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-out", directory / "sa.key"])
        run(["openssl", "pkey", "-in", directory / "sa.key", "-pubout", "-out", directory / "sa.pub"])
    _kubeconfigs(settings)


def _authority(directory, name):
    if not (directory / f"{name}.crt").exists():
        run(["openssl", "req", "-x509", *KEY, "-days", "3650", "-subj", f"/CN=fleetprof-test-{name}",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
             "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.crt"])


def _signed(directory, name, authority, common_name, organization, alternatives=None):
    if (directory / f"{name}.crt").exists():
        return
    subject = (f"/O={organization}" if organization else "") + f"/CN={common_name}"
    usage = "serverAuth" if alternatives else "clientAuth"
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE",
                  "-addext", "keyUsage=critical,digitalSignature",
                  "-addext", f"extendedKeyUsage={usage}"]
    if alternatives:
        extensions += ["-addext", f"subjectAltName={alternatives}"]
    part = directory / f"{name}.part"
    run(["openssl", "req", "-x509", *KEY, "-days", "3650", "-subj", subject, *extensions,
         "-CA", directory / f"{authority}.crt", "-CAkey", directory / f"{authority}.key",
         "-keyout", directory / f"{name}.key", "-out", part])
    part.replace(directory / f"{name}.crt")


def _server_names():
    hosts = {"kubernetes", "kubernetes.default", "kubernetes.default.svc",
             "kubernetes.default.svc.cluster.local", "localhost", socket.gethostname()}
    addresses = ("127.0.0.1", names.KUBERNETES_SERVICE_IP, names.BRIDGE_IP)
    return ",".join([f"DNS:{host}" for host in sorted(hosts)] + [f"IP:{one}" for one in addresses])


def _kubeconfigs(settings):
    for name in CLIENTS:
        path = settings.kubeconfig if name == "admin" else settings.conf / f"{name}.kubeconfig"
        text = _kubeconfig(settings, name)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _kubeconfig(settings, name):
    """A kubeconfig with everything inside, as YAML whose values are JSON strings."""
    def embedded(file):
        return base64.b64encode((settings.certs / file).read_bytes()).decode()

    cluster = "fleetprof-api" if settings.api_only else "fleetprof"
    return "\n".join([
        "apiVersion: v1", "kind: Config", f"current-context: {cluster}",
        "clusters:", f"- name: {cluster}", "  cluster:",
        f"    server: {json.dumps(settings.server())}",
        f"    certificate-authority-data: {embedded('ca.crt')}",
        "users:", f"- name: {name}", "  user:",
        f"    client-certificate-data: {embedded(name + '.crt')}",
        f"    client-key-data: {embedded(name + '.key')}",
        "contexts:", f"- name: {cluster}", "  context:",
        f"    cluster: {cluster}", f"    user: {name}", "",
    ])
