#!/usr/bin/env python3
"""What does Krew need of a release? An archive for each platform, and a manifest with their checksums.

    .ci/krew.py BINARY OUT      packs a binary for this machine and writes OUT/fleetprof.yaml

`make release` calls the same functions. The manifest lists every archive of its version in the folder: one that was
packed on a machine of another platform is put beside the others, and the manifest is written again.
"""

import gzip
import hashlib
import io
import os
import platform
import re
import string
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "kubectl-fleetprof"
TEMPLATE = ROOT / ".ci" / "krew.yaml"
MANIFEST = "fleetprof.yaml"
# Where archives are downloaded from. Only who publishes the release knows it; RELEASES in the environment sets it.
RELEASES = "https://RELEASES"
# Names of Go, which Krew uses, for those of Python and Rust.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PLATFORM = """\
    - selector:
        matchLabels:
          os: {os}
          arch: {arch}
      uri: {releases}/v{version}/{name}
      sha256: {sha256}
      bin: {plugin}
"""


def archive_name(version, system, arch):
    """The name of an archive, which says for what it is."""
    return f"{PLUGIN}_v{version}_{system}_{arch}.tar.gz"


def platforms(names, version):
    """(os, arch) -> name of those archives that are of this version."""
    ours = re.compile(re.escape(f"{PLUGIN}_v{version}_") + r"([a-z]+)_([a-z0-9]+)\.tar\.gz")
    return {match.groups(): name for name in sorted(names) if (match := ours.fullmatch(name))}


def manifest(template, version, sums, releases=RELEASES):
    """The manifest of these archives: name -> SHA-256."""
    found = platforms(sums, version)
    if not found:
        raise ValueError(f"there is no archive of version {version}: pack a binary first")
    listed = [PLATFORM.format(os=system, arch=arch, releases=releases.rstrip("/"), version=version, name=name,
                              sha256=sums[name], plugin=PLUGIN) for (system, arch), name in found.items()]
    body = "".join(line for line in template.splitlines(keepends=True) if not line.startswith("#"))
    return string.Template(body).substitute(version=version, platforms="".join(listed).rstrip("\n"))


def pack(members):
    """A gzipped tar of (name, mode, content): the same bytes for the same content, whoever packs it and when."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped, \
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode, content in sorted(members):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def members(binary):
    """The plugin, its licence, which Krew's index demands, and its man pages, which the plugin itself writes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([binary, "man", folder], check=True, stderr=subprocess.DEVNULL)
        pages = [(f"man/man1/{page.name}", 0o644, page.read_bytes()) for page in Path(folder).iterdir()]
    return [(PLUGIN, 0o755, Path(binary).read_bytes()), ("LICENSE", 0o644, (ROOT / "LICENSE").read_bytes()), *pages]


def release(binary, version, out, system, arch):
    """Packs a binary into the folder `out`, and writes the manifest of all archives that are there."""
    (out / archive_name(version, system, arch)).write_bytes(pack(members(binary)))
    found = platforms((path.name for path in out.iterdir()), version).values()
    sums = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in found}
    text = manifest(TEMPLATE.read_text(), version, sums, os.environ.get("RELEASES", RELEASES))
    (out / MANIFEST).write_text(text)


def main(arguments):
    """Packs a binary for this machine, with the version that it says it has."""
    if len(arguments) != 2:
        sys.exit("Which binary, and where to? .ci/krew.py BINARY OUT")
    binary, out = arguments[0], Path(arguments[1])
    if (arch := ARCHITECTURES.get(platform.machine())) is None:
        sys.exit(f"error: no archive for {platform.machine()}: Krew's users have {' or '.join(ARCHITECTURES)}")
    said = subprocess.run([binary, "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout
    out.mkdir(parents=True, exist_ok=True)
    release(binary, said.split()[-1], out, platform.system().lower(), arch)


if __name__ == "__main__":
    main(sys.argv[1:])
