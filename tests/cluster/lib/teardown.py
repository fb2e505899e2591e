"""How does everything that the cluster made go away, and nothing else?"""

import json
import os
import shutil
import signal
import time
from pathlib import Path

from . import node, tools
from . import settings as names
from .process import Process, run, start_time
from .steps import ClusterError, say, step

# Killed at once: their data goes away too, so there is nothing to finish.
ORDER = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager")


def down(settings):
    """Stop our processes, remove pods, networks, mounts and the state directory."""
    if not (settings.dir / names.MARKER).exists():
        say(f"- there is no cluster in {settings.dir}")
        return
    with step(f"taking down the cluster in {settings.dir}", "about 10 s"):
        for name in ORDER:
            Process(settings, name).stop(grace=3)
        if not settings.api_only and _is_owner(settings):
            _remove_containers(settings)
            _remove_network(settings)
            _restore_sysctls(settings)
            _remove_traces(settings)
        for name in ("kube-apiserver", "etcd"):
            Process(settings, name).stop(grace=1)
        _remove_state(settings)


def _is_owner(settings):
    owner = names.RUN_DIR / "owner"
    return owner.exists() and owner.read_text() == str(settings.dir)


def _remove_containers(settings):
    daemon = Process(settings, "containerd")
    if daemon.pid():
        tasks = node.ctr("tasks", "ls", "-q", check=False).stdout.split()
        for task in tasks:
            node.ctr("tasks", "rm", "--force", task, check=False)
    daemon.stop(grace=5)
    for shim in _shims():
        _kill_tree(shim)
    names.RUN_DIR.joinpath("owner").unlink(missing_ok=True)


def _shims():
    """The pids of the shims that our containerd started, known by its socket's address."""
    address = f"-address\0{names.CONTAINERD_SOCKET}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"containerd-shim" in line.split(b"\0")[0] and address in line:
                found.append(int(entry.name))
    return found


def _kill_tree(pid):
    """Kill a shim's containers (with a first process its whole pid namespace ends), then the shim."""
    children = [int(entry.name) for entry in Path("/proc").iterdir()
                if entry.name.isdigit() and _parent(entry) == pid]
    for one in [*children, pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 5
    while start_time(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _parent(entry):
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _remove_network(settings):
    run([tools.program("kube-proxy"), "--cleanup"], check=False, timeout=60)
    for command in ("iptables", "ip6tables"):
        for table in ("nat", "filter", "mangle"):
            _remove_chains(command, table)
    run(["ip", "link", "delete", names.BRIDGE], check=False)


def _restore_sysctls(settings):
    before = settings.conf / "sysctls.json"
    if before.exists():
        for name, value in json.loads(before.read_text()).items():
            Path("/proc/sys", name).write_text(value)


def _remove_traces(settings):
    """Remove what the kubelet and the CNI library leave at fixed places, as far as it is ours."""
    sandboxes = settings.dir / "containerd" / "io.containerd.grpc.v1.cri" / "sandboxes"
    ours = {entry.name for entry in sandboxes.iterdir()} if sandboxes.exists() else set()
    for result in Path("/var/lib/cni/results").glob("*"):
        if result.name.startswith(f"{names.NETWORK}-") or any(one in result.name for one in ours):
            result.unlink()
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and os.readlink(link).startswith(f"{settings.dir}/"):
            link.unlink()


def _remove_chains(command, table):
    """Remove the kubelet's chains and those of our CNI network, with the rules that lead there."""
    rules = run([command, "-t", table, "-S"], check=False).stdout.splitlines()
    mark = f'name: \\"{names.NETWORK}\\"'
    ours = {line.split()[1] for line in rules if line.startswith(("-N KUBE-", "-N CNI-HOSTPORT-"))}
    for line in rules:
        words = line.split()
        if mark in line and "-j" in words and words[words.index("-j") + 1].startswith("CNI-"):
            ours.add(words[words.index("-j") + 1])
    script = [f"-F {chain}" for chain in ours]
    script += ["-D" + line[2:] for line in rules
               if line.startswith("-A") and line.split()[1] not in ours and _target(line) in ours]
    script += [f"-X {chain}" for chain in ours]
    if script:
        text = "\n".join([f"*{table}", *script, "COMMIT", ""])
        run([f"{command}-restore", "--noflush"], text=text, check=False)


def _target(line):
    words = line.split()
    return words[words.index("-j") + 1] if "-j" in words else None


def _mounts_below(*roots):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if any(point.startswith(f"{root}/") for root in roots)]


def _remove_state(settings):
    roots = [settings.dir] if settings.api_only else [settings.dir, names.RUN_DIR]
    if not settings.api_only:
        for point in sorted(_mounts_below(*roots), key=len, reverse=True):
            run(["umount", point], check=False)
        for point in sorted(_mounts_below(*roots), key=len, reverse=True):
            run(["umount", "--lazy", point], check=False)
        _remove_cgroups()
    # A mount that is left may be a directory of the machine's own: then nothing below is removed.
    left = _mounts_below(*roots)
    if left:
        raise ClusterError(f"{left[0]} is still mounted; unmount it and run `down` again")
    for root in roots:
        if root.exists():
            shutil.rmtree(root)


def _remove_cgroups():
    """Remove the kubelet's empty groups; one that is in use stays, which the kernel sees to."""
    hierarchies = [Path("/sys/fs/cgroup"), *(p for p in Path("/sys/fs/cgroup").iterdir() if p.is_dir())]
    for hierarchy in hierarchies:
        for directory, _, _ in os.walk(hierarchy / "kubepods", topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
