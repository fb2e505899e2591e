#!/usr/bin/env python3
"""Installs versions of CPython to test with, and prints the paths of their programs: pythons.py [VERSION…]

The interpreters are those of python-build-standalone, which the Go module go-embed-python carries. They are kept
in the cache of the tests, outside of the checkout.
"""

import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

MODULE = "github.com/kluctl/go-embed-python"
# The version of the module that carries a version of Python, and the hash of its archive.
ARCHIVES = {
    "3.10": ("v0.0.0-3.10.16-20241219-1", "b51a1325f4aef595562ba4cff37550a53d9da7f5936175234b515b92b0f72fe3"),
    "3.12": ("v0.0.0-3.12.3-20240415-1", "cdf469d56ecf157cf920c8667ba235df787962409544bd8dfd6e96b7e77eca9e"),
    "3.13": ("v0.0.0-3.13.1-20241219-1", "709cd4f40171c6aeaa59a7537bf27230d11b71b8b6e1b2c57c633275ce5c4977"),
    "3.14": ("v0.0.0-3.14.6-20260610-1", "fa0d4ee2e90380a416d767e98ba500ce38d12f221eeb7af10cbe01fede77ee3a"),
}
PLATFORM = "/linux-amd64/"


def install(version, cache):
    """Installs a version of Python into the cache where it is not there yet; returns the path of its program."""
    module, wanted = ARCHIVES[version]
    home = cache / module
    program = home / "bin" / f"python{version}"
    if program.exists():
        return program
    proxy = os.environ.get("GOPROXY", "https://proxy.golang.org").split(",")[0]
    with tempfile.TemporaryFile() as archive, tempfile.TemporaryDirectory(dir=cache) as new:
        with urllib.request.urlopen(f"{proxy}/{MODULE}/@v/{module}.zip", timeout=300) as answer:
            shutil.copyfileobj(answer, archive)
        archive.seek(0)
        found = hashlib.file_digest(archive, "sha256").hexdigest()
        if found != wanted:
            sys.exit(f"error: {module}.zip of {proxy} has the SHA-256 {found}, not {wanted}; it is not used")
        unpack(archive, Path(new) / "python")
        (Path(new) / "python").rename(home)
    return program


def unpack(archive, home):
    """Writes what the archive has for this platform; the larger files in it are compressed once more."""
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if PLATFORM not in name or name.endswith("/"):
                continue
            path = home / name.split(PLATFORM, 1)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            data = files.read(name)
            if path.suffix == ".gz" and data.startswith(b"\x1f\x8b"):
                path, data = path.with_suffix(""), gzip.decompress(data)
            path.write_bytes(data)
            if path.parent.name == "bin":
                path.chmod(0o755)


def main():
    """Installs what is asked for, or all."""
    versions = sys.argv[1:] or list(ARCHIVES)
    unknown = [version for version in versions if version not in ARCHIVES]
    if unknown:
        sys.exit(f"error: there is no Python {unknown[0]} here; choose of {', '.join(ARCHIVES)}")
    cache = Path(os.environ.get("FLEETPROF_CACHE_DIR") or Path.home() / ".cache" / "fleetprof") / "pythons"
    cache.mkdir(parents=True, exist_ok=True)
    for version in versions:
        print(install(version, cache))


if __name__ == "__main__":
    main()
