#!/usr/bin/env python3
"""How is a release made? `make release VERSION=0.2.0`, with DRY_RUN=1 to see what it would do.

    check ─► rewrite the version and the changelog ─► images, chart, plugin, bills of materials ─► what to run next

It refuses a dirty tree and a version that is not greater than the last one. Nothing is committed, tagged or
pushed.
"""

import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import krew

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = "x86_64-unknown-linux-gnu"
PACKAGES = {"operator": "fleetprof-operator", "agent": "fleetprof-agent"}
# The plugin runs on machines of people, so it is not static: a static program cannot ask all of their name services.
PLUGIN = "fleetprof-plugin"
CHANGELOG = "CHANGELOG.md"
# Numeric parts have no leading zeros: semver.org, item 2 and 9.
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?")
LOCKED = r'(name = "fleetprof-[a-z-]+"\nversion = ")VERSION(")'
IMAGE = r"(fleetprof-(?:operator|agent):)VERSION(?![0-9A-Za-z.-]*[0-9A-Za-z])()"
# File -> the places of the version in it; each has to be there at least once.
PLACES = {
    "Cargo.toml": [r'(\[workspace\.package\]\nversion = ")VERSION(")'],
    "Cargo.lock": [LOCKED],
    "operator/profile/fuzz/Cargo.lock": [LOCKED],
    "charts/fleetprof/Chart.yaml": [r"(?m)(^version: )VERSION($)", r"(?m)(^appVersion: )VERSION($)"],
    "README.md": [IMAGE],
    "docs/reference.md": [IMAGE],
    "docs/plugin.md": [r"(kubectl-fleetprof_v)VERSION(_linux_amd64\.tar\.gz)"],
    "operator/controller/Dockerfile": [IMAGE],
    "operator/agent/Dockerfile": [IMAGE],
}


# Which program of others is in an image beside ours, and where its version is said. It is not linked, so no
# Cargo.lock names it; inferno is part of it. Their sources are on crates.io.
RBSPY = ("tests/rbspy.sh", r"(?m)^version=(\S+)$")


class Refused(Exception):
    """Why no release is made."""


def parsed(version):
    """A key that orders versions as semver does. Build metadata is refused: image tags cannot carry it."""
    match = SEMVER.fullmatch(version)
    if not match:
        raise Refused(f"{version!r} is not a version such as 0.2.0 or 0.2.0-rc.1")
    parts = (match[4] or "").split(".") if match[4] else []
    if any(part.isdigit() and part != "0" and part.startswith("0") for part in parts):
        raise Refused(f"{version!r} has a number with a leading zero")
    identifiers = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
    return tuple(int(number) for number in match.groups()[:3]), not parts, identifiers


def current(cargo_toml):
    """The version of the workspace."""
    return re.search(r'\[workspace\.package\]\nversion = "([^"]+)"', cargo_toml)[1]


def released(changelog):
    """The versions that the changelog has sections of, newest first."""
    return re.findall(r"(?m)^## \[(\d[^\]]*)\]", changelog)


def check(version, present, changelog):
    """Refuses what is not greater than all that was released, or less than what the workspace says."""
    for other in released(changelog):
        if parsed(version) <= parsed(other):
            raise Refused(f"{version} is not greater than {other}, which is released")
    if parsed(version) < parsed(present):
        raise Refused(f"{version} is less than {present}, the version of the workspace")


def rewritten(text, places, old, new):
    """The text with the version replaced in each of its places, and nowhere else."""
    for place in places:
        text, count = re.subn(place.replace("VERSION", re.escape(old)), rf"\g<1>{new}\g<2>", text)
        if not count:
            raise Refused(f"version {old} is not where it was expected: {place}")
    return text


def with_section(changelog, version, day):
    """The changelog with its section Unreleased under the version's name, and an empty one above it."""
    heading = "## [Unreleased]\n"
    before, found, after = changelog.partition(heading)
    if not found:
        raise Refused(f"{CHANGELOG} has no section Unreleased")
    body = after.split("\n## [")[0]
    if "- " not in body:
        raise Refused(f"{CHANGELOG} lists nothing under Unreleased")
    notes = re.sub(r"\nThe first release, [^\n]*\n", "", after)
    return f"{before}{heading}\n## [{version}] - {day}\n{notes}"


def plan(read, version, day):
    """File -> its new text. `read` gives the present text of a file."""
    changelog, present = read(CHANGELOG), current(read("Cargo.toml"))
    check(version, present, changelog)
    changed = {file: rewritten(read(file), at, present, version) for file, at in PLACES.items()}
    return {**changed, CHANGELOG: with_section(changelog, version, day)}


def linked(metadata, package, built):
    """The packages that a binary links: its normal dependencies and theirs, from `cargo metadata`.
    That unites the features of all crates of the workspace, so only those count that are `built` for it."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {one["id"]: one for one in metadata["packages"]}
    todo = [one["id"] for one in metadata["packages"] if one["name"] == package]
    found = {}
    while todo:
        one = todo.pop()
        if one in found:
            continue
        normal = [dep["pkg"] for dep in nodes[one]["deps"]
                  if any(kind["kind"] is None for kind in dep["dep_kinds"])
                  and (packages[dep["pkg"]]["name"], packages[dep["pkg"]]["version"]) in built]
        found[one] = sorted(normal)
        todo.extend(normal)
    return {one: (packages[one], deps) for one, deps in found.items()}


def beside(version):
    """The components of rbspy, as a bill of materials lists them."""
    def component(kind, name, licence, ref, **more):
        return {"type": kind, "name": name, "bom-ref": ref, "licenses": [{"expression": licence}], **more}

    purl = f"pkg:cargo/rbspy@{version}"
    return [component("application", "rbspy", "MIT", purl, version=version, purl=purl),
            component("library", "inferno", "CDDL-1.0", "inferno", description="part of rbspy")]


def bill(metadata, package, built, checksums, others_beside=()):
    """A CycloneDX bill of materials of a binary, and of the programs that lie beside it in its image."""
    def purl(one):
        return f"pkg:cargo/{one['name']}@{one['version']}"

    def component(one):
        checksum = checksums.get((one["name"], one["version"]))
        hashes = {"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {}
        expression = (one.get("license") or "").replace("/", " OR ")
        licence = {"licenses": [{"expression": expression}]} if expression else {}
        return {"type": "library", "bom-ref": purl(one), "name": one["name"], "version": one["version"],
                "purl": purl(one), **hashes, **licence}

    all_of_it = linked(metadata, package, built)
    top = next(one for one, _ in all_of_it.values() if one["name"] == package)
    others = sorted((one for one, _ in all_of_it.values() if one is not top), key=purl)
    depends = [{"ref": purl(one), "dependsOn": sorted(purl(all_of_it[dep][0]) for dep in deps)}
               for one, deps in all_of_it.values()]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"component": {**component(top), "type": "application"}},
            "components": [*(component(one) for one in others), *others_beside],
            "dependencies": sorted(depends, key=lambda one: one["ref"])}


def checksums(lock):
    """(name, version) -> SHA-256 of the packages of a Cargo.lock."""
    entry = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "([0-9a-f]{64})"')
    return {(name, version): checksum for name, version, checksum in entry.findall(lock)}


def tree(text):
    """(name, version) of the packages that `cargo tree` printed, one a line."""
    words = (line.split() for line in text.splitlines())
    return {(line[0], line[1].removeprefix("v")) for line in words if len(line) > 1}


def run(*command, **options):
    """Runs a command in the checkout and gives what it printed."""
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def tool(name):
    """A program of the local Kubernetes' tools, which are built if they are not there."""
    tools = dict(line.split("=", 1) for line in run("tests/cluster/cluster", "tools").splitlines())
    return str(Path(tools["BIN_DIR"]) / name)


def rbspy_version(text):
    """The version of rbspy in the script that builds it."""
    return re.search(RBSPY[1], text)[1]


def images(version, out):
    """Static binaries as OCI image tars: what the Dockerfiles build, where there is no Docker."""
    crates = [f"--package={crate}" for crate in PACKAGES.values()]
    run("cargo", "build", "--release", "--locked", f"--target={PLATFORM}", *crates,
        env={**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static"})
    # An attached agent has no volume of its own and spools in /tmp.
    tmp = ROOT / "target" / "images" / "tmp"
    tmp.mkdir(parents=True, exist_ok=True)
    # Run, not read: the kernel then hides the process from the program that it looks at.
    beside_agent = ["--layer", f"target/{PLATFORM}/release/fleetprof-worker=/fleetprof-worker:0755",
                    "--layer", f"{run(RBSPY[0]).strip()}=/rbspy:0111"]
    for name, crate in PACKAGES.items():
        run("tests/cluster/cluster", "image", f"{crate}:{version}", "-o", str(out / f"{name}.tar"),
            "--layer", f"target/{PLATFORM}/release/{crate}=/{crate}:0755", "--layer", f"{tmp}=/tmp:1777",
            *(beside_agent if name == "agent" else []), "--entrypoint", json.dumps([f"/{crate}"]), "--user", "65532")


def plugin(version, out):
    """The archive of the plugin and the manifest for Krew. A folder of its own keeps the static build."""
    folder = ROOT / "target" / "plugin"
    # The variable replaces the static linking of `.cargo/config.toml`: names are found as the machine's other programs
    # find them.
    dynamic = {**os.environ, "RUSTFLAGS": "-C target-feature=-crt-static"}
    run("cargo", "build", "--release", "--locked", f"--target={PLATFORM}", f"--package={PLUGIN}",
        f"--target-dir={folder}", env=dynamic)
    program = folder / PLATFORM / "release" / krew.PLUGIN
    if b"/ld-linux" not in program.read_bytes():
        sys.exit(f"error: {program} is static, and so finds no name that the C library of a machine looks up elsewhere; "
                 "check RUSTFLAGS in .ci/release.py")
    krew.release(program, version, out, "linux", "amd64")


def package(version, out):
    """Images, chart, plugin, bills of materials and their checksums, into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    images(version, out)
    plugin(version, out)
    run(tool("helm"), "package", "charts/fleetprof", "--destination", str(out))
    metadata = json.loads(run("cargo", "metadata", "--format-version=1", "--locked",
                              f"--filter-platform={PLATFORM}"))
    known = checksums((ROOT / "Cargo.lock").read_text())
    for name, crate in {**PACKAGES, "plugin": PLUGIN}.items():
        built = tree(run("cargo", "tree", "--package", crate, "--edges=normal,no-proc-macro", "--prefix=none",
                         "--locked", f"--target={PLATFORM}"))
        others = beside(rbspy_version((ROOT / RBSPY[0]).read_text())) if name == "agent" else []
        text = json.dumps(bill(metadata, crate, built, known, others), indent=1, sort_keys=True)
        (out / f"fleetprof-{name}-{version}.cdx.json").write_text(text + "\n")
    files = sorted(path for path in out.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums))


def differences(changed):
    """What would change, as a unified diff without the lines around it."""
    for file, text in sorted(changed.items()):
        old = (ROOT / file).read_text().splitlines(keepends=True)
        yield from difflib.unified_diff(old, text.splitlines(keepends=True), file, file, n=0)


def next_steps(version, out):
    """What is left to a person."""
    return f"""Release {version} is in {out}. Look at `git diff`, then:
  git commit -am 'release: {version}' && git tag -a v{version} -m 'fleetprof {version}'
  skopeo copy oci-archive:{out}/operator.tar docker://REGISTRY/fleetprof-operator:{version}
  skopeo copy oci-archive:{out}/agent.tar docker://REGISTRY/fleetprof-agent:{version}
  helm push {out}/fleetprof-{version}.tgz oci://REGISTRY/charts
  tests/krew.sh {out}
  publish the plugin's archive where {out}/{krew.MANIFEST} says (RELEASES=https://… sets it), then that file in Krew's index
With Docker, build the images by operator/controller/Dockerfile and operator/agent/Dockerfile instead."""


def main(arguments):
    """Makes the release, or says what it would do."""
    if len(arguments) != 1 or not arguments[0]:
        raise Refused("say which version: make release VERSION=0.2.0")
    version, dry = arguments[0], os.environ.get("DRY_RUN", "") not in ("", "0")
    parsed(version)
    if run("git", "status", "--porcelain"):
        raise Refused("the tree has changes that are not committed; a release is made of a commit")
    changed = plan(lambda file: (ROOT / file).read_text(), version, date.today().isoformat())
    out = Path("target") / f"release-{version}"
    if dry:
        sys.stdout.writelines(differences(changed))
        print(f"\nDry run: nothing was written. Then images, chart, plugin and bills of materials go to {out}.")
        return
    for file, text in changed.items():
        (ROOT / file).write_text(text)
    try:
        package(version, ROOT / out)
    except subprocess.CalledProcessError as failure:
        raise Refused(f"{failure}; `git checkout .` takes the new version back") from failure
    print(next_steps(version, out))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refusal:
        sys.exit(f"No release: {refusal}.")
