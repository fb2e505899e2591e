"""Which images does the cluster bring itself, and how does containerd get an image?"""

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


def python(output=None):
    """An image with Python 3 on a small Debian, for test workloads; made once, then cached."""
    cached = DIR / "python.tar"
    rootfs = DIR / "python-rootfs"
    with tools.locked(DIR / "python.lock"):
        if not cached.exists():
            tools.ensure_packages(programs=("debootstrap",), cni=False)
            with step("making the Python image with debootstrap", "about 1 min the first time, then cached"):
                shutil.rmtree(rootfs, ignore_errors=True)
                run(["debootstrap", "--variant=minbase", "--include=python3", SUITE, rootfs, _mirror()])
                image.write(cached, PYTHON, rootfs=rootfs, entrypoint=["/usr/bin/python3"])
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
