"""How is a container image written without Docker and without a registry?

An OCI layout in one tar: a layer per source, a config, a manifest and an index that
names the image. Equal input gives equal bytes: entries are sorted and have no time.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

from .steps import ClusterError

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
# What a root file system's own tools made at run time, and what no container reads.
ROOTFS_SKIP = ("dev", "proc", "sys", "run", "tmp", "var/cache", "var/lib/apt/lists", "var/log",
               "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "debootstrap")
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}


def full_name(name):
    """`docker.io/library/NAME:TAG` of a short name; a name with a registry stays as it is."""
    if ":" not in name.rpartition("/")[2]:
        raise ClusterError(f"the image name {name!r} has no tag; write NAME:TAG")
    if "/" not in name:
        return f"docker.io/library/{name}"
    host = name.split("/")[0]
    return name if "." in host or ":" in host or host == "localhost" else f"docker.io/{name}"


def write(output, name, layers=(), rootfs=None, base=None, entrypoint=None, command=None,
          user=None, env=(), workdir=None):
    """Write the image to `output`; `layers` are `SRC=DST[:mode]`, `base` another image tar."""
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
        inherited, descriptors = _base_layers(archive, base) if base else ({}, [])
        if rootfs:
            descriptors.append(_add_layer(archive, output, lambda tar: _pack_rootfs(tar, Path(rootfs))))
        if layers:
            descriptors.append(_add_layer(archive, output, lambda tar: _pack_sources(tar, layers)))
        config = dict(inherited)
        config.update({key: value for key, value in {
            "Entrypoint": entrypoint, "Cmd": command, "User": user, "WorkingDir": workdir,
        }.items() if value is not None})
        config["Env"] = merged_env(inherited.get("Env", []), env)
        _finish(archive, full_name(name), config, descriptors)
    part.replace(output)


def merged_env(inherited, given):
    """The environment `given` over the `inherited` one, with a search path in any case."""
    merged = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for pair in [*inherited, *given]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ClusterError(f"the environment entry {pair!r} has no '='; write NAME=VALUE")
        merged[key] = value
    return [f"{key}={value}" for key, value in sorted(merged.items())]


def manifest_digest(path):
    """(image name, manifest digest) of an image tar; None if it is not an OCI layout with a name."""
    with tarfile.open(path) as archive:
        try:
            index = json.load(archive.extractfile("index.json"))
        except KeyError:
            return None
    entry = index["manifests"][0]
    name = entry.get("annotations", {}).get("io.containerd.image.name")
    return (name, entry["digest"]) if name else None


def _finish(archive, name, config, layers):
    image = {"architecture": MACHINE.get(os.uname().machine, os.uname().machine), "os": "linux",
             "config": config, "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                "config": _add_json(archive, CONFIG, image), "layers": layers}
    descriptor = _add_json(archive, MANIFEST, manifest)
    descriptor["annotations"] = {"io.containerd.image.name": name,
                                 "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
    _add_bytes(archive, "index.json", _json(index))
    _add_bytes(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add_json(archive, media_type, value):
    data = _json(value)
    digest = hashlib.sha256(data).hexdigest()
    _add_bytes(archive, f"blobs/sha256/{digest}", data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _add_bytes(archive, name, data):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))


def _add_layer(archive, output, pack):
    """Pack a layer into a file beside `output`, then into the archive under its digest."""
    scratch = output.with_name(output.name + ".layer")
    try:
        with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as tar:
            pack(tar)
        with open(scratch, "rb") as file:
            return _add_blob(archive, file)
    finally:
        scratch.unlink(missing_ok=True)


def _add_blob(archive, file):
    whole = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        whole.update(chunk)
    digest, size = whole.hexdigest(), file.tell()
    file.seek(0)
    entry = tarfile.TarInfo(f"blobs/sha256/{digest}")
    entry.size, entry.mode = size, 0o644
    archive.addfile(entry, file)
    return {"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}


def _base_layers(archive, base):
    """Copy the layers of another image tar; return its container config and their descriptors."""
    with tarfile.open(base) as tar:
        def blob(digest):
            return tar.extractfile(f"blobs/sha256/{digest.partition(':')[2]}")

        index = json.load(tar.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        config = json.load(blob(manifest["config"]["digest"]))["config"]
        if any(layer["mediaType"] != LAYER for layer in manifest["layers"]):
            raise ClusterError(f"{base} was not written by `cluster image`; --base requires such a tar")
        for layer in manifest["layers"]:
            entry = tarfile.TarInfo(f"blobs/sha256/{layer['digest'].partition(':')[2]}")
            entry.size, entry.mode = layer["size"], 0o644
            archive.addfile(entry, blob(layer["digest"]))
    return config, list(manifest["layers"])


def _pack_rootfs(tar, root):
    """Pack a root file system with its owners and modes, without devices and caches."""
    if not root.is_dir():
        raise ClusterError(f"--rootfs {root} is not a directory")
    for path in sorted(_walk(root)):
        relative = path.relative_to(root).as_posix()
        if any(relative.startswith(skip + "/") for skip in ROOTFS_SKIP):
            continue
        entry = tar.gettarinfo(path, arcname=relative)
        if entry is None or entry.isdev():
            continue
        entry.mtime, entry.uname, entry.gname = 0, "", ""
        if entry.isreg():
            with open(path, "rb") as file:
                tar.addfile(entry, file)
        else:
            tar.addfile(entry)


def _walk(root):
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            yield Path(directory, name)


def _pack_sources(tar, sources):
    """Pack `SRC=DST[:mode]` sources, owned by root; parents of DST are made."""
    files = {}
    for source in sources:
        for target, path, mode in _expand(source):
            files[target] = (path, mode)
    directories = {parent.as_posix() for target in files for parent in Path(target).parents} - {"."}
    for target in sorted(directories | set(files)):
        entry = tarfile.TarInfo(target)
        if target in files and not files[target][0].is_dir():
            path, mode = files[target]
            entry.size, entry.mode = path.stat().st_size, mode
            with open(path, "rb") as file:
                tar.addfile(entry, file)
        else:
            entry.type = tarfile.DIRTYPE
            entry.mode = files[target][1] if target in files else 0o755
            tar.addfile(entry)


def _expand(source):
    """(path in the image, path here, mode) of each file of one `SRC=DST[:mode]`."""
    here, equals, there = source.partition("=")
    there, _, mode = there.partition(":")
    here, target = Path(here), there.strip("/")
    if not equals or not target:
        raise ClusterError(f"--layer {source!r} must be SRC=DST[:mode], such as target/app=/app:0755")
    if not here.exists():
        raise ClusterError(f"--layer {source!r}: {here} not found")
    for path in sorted([here, *_walk(here)] if here.is_dir() else [here]):
        inside = path.relative_to(here).as_posix()
        name = target if inside == "." else f"{target}/{inside}"
        runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        # The mode of a directory is its own and that of the files in it, not that of directories below.
        given = mode and (inside == "." or not path.is_dir())
        yield name, path, int(mode, 8) if given else 0o755 if runnable else 0o644
