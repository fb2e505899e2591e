"""Which images does the cluster bring itself, and how does containerd get an image?"""

import hashlib
import shutil
from pathlib import Path

from . import image, node, settings, tools
from .process import run
from .steps import ClusterError, say, step

DIR = settings.CACHE / "images"
PAUSE = "fleetprof-pause:1"
PYTHON = "fleetprof-python:bookworm"
SUITE = "bookworm"


def coredns_name():
    """The name of the DNS server's image; it changes with the tools."""
    return f"fleetprof-coredns:{tools.key()}"


def pause():
    """The image of every pod's first process, compiled here."""
    source = settings.SOURCE_DIR / "pause.c"
    output = DIR / "pause.tar"
    if not output.exists() or output.stat().st_mtime < source.stat().st_mtime:
        DIR.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-static", "-Os", "-Wall", "-Werror", "-o", DIR / "pause", source])
        image.write(output, PAUSE, layers=[f"{DIR / 'pause'}=/pause:0755"], entrypoint=["/pause"], user="65535")
    return output


def coredns():
    """The DNS server's image: the multi-call binary under its name."""
    output = DIR / f"coredns-{tools.key()}.tar"
    if not output.exists():
        for old in DIR.glob("coredns-*.tar"):
            old.unlink()
        image.write(output, coredns_name(), layers=[f"{tools.bin_dir() / 'kubestack'}=/coredns:0755"],
                    entrypoint=["/coredns"])
    return output


def metrics_server_name():
    """The name of the metrics server's image; it changes with what that is built of."""
    return f"fleetprof-metrics-server:{tools.key(tools.METRICS_MODULE)}"


def metrics_server():
    """The metrics server's image, which needs a directory for its certificate."""
    output = DIR / f"metrics-server-{tools.key(tools.METRICS_MODULE)}.tar"
    if not output.exists():
        DIR.mkdir(parents=True, exist_ok=True)
        image.write(output, metrics_server_name(), layers=[f"{tools.metrics_server()}=/metrics-server:0755"],
                    entrypoint=["/metrics-server"], user="65535")
    return output


def python(output=None):
    """An image with Python 3 on a small Debian, for test workloads; made once, then cached."""
    return _debian(DIR / "python", PYTHON, ("python3",), ["/usr/bin/python3"], output)


def debian(packages, output=None):
    """An image with these packages on a small Debian; made once for each set of them, then cached."""
    key = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:16]
    return _debian(DIR / f"debian-{key}", f"fleetprof-debian:{key}", packages, None, output)


def _debian(stem, name, packages, entrypoint, output):
    cached, rootfs = Path(f"{stem}.tar"), Path(f"{stem}-rootfs")
    with tools.locked(Path(f"{stem}.lock")):
        if not cached.exists():
            tools.ensure_packages(programs=("debootstrap",), cni=False)
            with step(f"making {name} with debootstrap", "1 to 3 min the first time, then cached"):
                shutil.rmtree(rootfs, ignore_errors=True)
                run(["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, rootfs, _mirror()])
                image.write(cached, name, rootfs=rootfs, entrypoint=entrypoint)
                shutil.rmtree(rootfs)
    if output:
        shutil.copyfile(cached, output)
    return output or cached


def _mirror():
    """The Debian mirror that this machine itself uses."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for line in "\n".join(one.read_text() for one in sources if one.exists()).splitlines():
        for word in line.split():
            if word.startswith("http") and word.rstrip("/").endswith("/debian"):
                return word
    return "http://deb.debian.org/debian"


def load(path, cluster):
    """Import an image tar into the containerd of `cluster`, unless the very same image is there."""
    known = image.manifest_digest(path)
    if known and _present(*known):
        say(f"- image {known[0]} is already loaded")
        return
    with step(f"loading {known[0] if known else path}", "a few seconds"):
        try:
            node.ctr("images", "import", "--snapshotter", node.snapshotter(cluster), path)
        except ClusterError as error:
            raise ClusterError(f"{error}; is the cluster up (`cluster status`)?") from error


def _present(name, digest):
    listed = node.ctr("images", "ls", f"name=={name}", check=False)
    return digest in listed.stdout
