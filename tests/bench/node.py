"""Measures the agent of a node beside sidecars, see node.sh.

Each container is a process in a cgroup of its own, whose name has an id as the kubelet gives it. A sidecar shares
a process namespace with its container. The gateway is a small one in this process: it answers heartbeats, orders
captures and takes slices. What agents use is read in /proc: CPU time with that of workers that have ended, and the
proportional share of memory (PSS), since 110 agents share the pages of their program.
"""

import http.server
import json
import os
import pathlib
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

TICK = os.sysconf("SC_CLK_TCK")
CAPTURE = 15
BUSY = 10


class Gateway:
    """What agents are told, and what they said."""

    def __init__(self, work):
        self.changed = threading.Condition()
        self.version, self.orders, self.done, self.slices, self.bytes = 1, {}, {}, 0, 0
        self.beats = {}
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def body(self):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def answer(self, body, status=200):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.answer(gateway.heartbeat(json.loads(self.body()), self.path.endswith("/changes")))

            def do_PUT(self):
                gateway.stored(len(self.body()))
                self.answer({"duplicate": False})

            def do_GET(self):
                asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                self.answer(gateway.list(asked["agent"][0], asked.get("have", [None])[0]))

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(work / "cert.pem", work / "key.pem")
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"

    def heartbeat(self, told, is_changes):
        beat = told["heartbeat"] if is_changes else told
        with self.changed:
            seen = self.beats.setdefault(beat["instance"], set())
            if not is_changes:
                seen.clear()
            seen.update(row["id"] for row in beat.get("containers", []))
            for capture in beat.get("captures", []):
                self.done[capture["capture"]] = capture
            settled = [c["capture"] for c in beat.get("captures", []) if is_final(c)]
            self.changed.notify_all()
        # What a leader says in a fleet of some hundred agents.
        return {"nextMs": 30000, "settled": settled, "holds": beat.get("number")}

    def list(self, agent, have):
        """The orders of containers that this agent sees."""
        with self.changed:
            self.changed.wait_for(lambda: str(self.version) != have, timeout=25)
            seen = self.beats.get(agent, set())
            own = [order for order in self.orders.values() if order["containerId"] in seen]
            return {"version": self.version, "orders": own}

    def stored(self, size):
        with self.changed:
            self.slices += 1
            self.bytes += size

    def capture(self, containers):
        """Orders captures of these containers; their last reports once all of them have ended."""
        order = {
            "session": secrets.token_hex(8), "protocol": 1, "profile": "cpu", "profiles": ["cpu"], "frequencyHz": 99,
            "durationMs": CAPTURE * 1000, "sliceMs": 10000, "startBefore": int(time.time()) + 60,
            "startWithinMs": 60000, "cancel": False,
        }
        with self.changed:
            new = {secrets.token_hex(8): container for container in containers}
            self.orders = {c: {**order, "capture": c, "containerId": id} for c, id in new.items()}
            self.version += 1
            self.changed.notify_all()
            ended = lambda: all(c in self.done and is_final(self.done[c]) for c in new)
            if not self.changed.wait_for(ended, timeout=CAPTURE + 90):
                sys.exit(f"captures did not end: {[self.done.get(c) for c in new]}")
            self.orders = {}
            self.version += 1
            self.changed.notify_all()
            return [self.done[c] for c in new]


def is_final(capture):
    return capture["state"] in ("Finished", "Failed", "Cancelled", "Skipped")


class Cgroups:
    """Cgroups of containers, in the tree of v2, which machines with v1 have beside it."""

    def __init__(self):
        mounts = [line.split() for line in open("/proc/mounts")]
        found = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
        if not found:
            sys.exit("no cgroup2 file system is mounted: it tells which process is of which container")
        self.root = pathlib.Path(found[0]) / f"fleetprof-bench-{os.getpid()}"
        self.pods = self.root / "kubepods"
        self.pods.mkdir(parents=True)

    def new(self):
        container = secrets.token_hex(32)
        (self.pods / container).mkdir()
        return container

    def remove(self):
        for path in [*self.pods.iterdir(), self.pods, self.root]:
            for _ in range(50):
                try:
                    if path.is_dir():
                        path.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


class Bench:
    def __init__(self, work, count):
        self.work, self.count, self.groups = work, count, []
        self.gateway, self.cgroups = Gateway(work), Cgroups()

    def environment(self, name):
        spool = self.work / f"spool-{name}"
        spool.mkdir()
        token = self.work / "token"
        token.write_text("bench")
        return {
            "PATH": os.environ["PATH"], "FLEETPROF_GATEWAY": self.gateway.url, "FLEETPROF_SPOOL": str(spool),
            "FLEETPROF_CA": (self.work / "cert.pem").read_text(), "FLEETPROF_TOKEN_FILE": str(token),
            "FLEETPROF_LOG": "error",
        }

    def start(self, command, environment=None):
        log = open(self.work / "log", "a")
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
        self.groups.append(process)
        return process

    def inside(self, container, permille):
        """The command of a container's process: it enters the cgroup by itself."""
        procs = self.cgroups.pods / container / "cgroup.procs"
        return f'echo $$ >"{procs}" && exec "{self.work}/duty" {permille}'

    def containers(self):
        return [(self.cgroups.new(), 100 if n < BUSY else 0) for n in range(self.count)]

    def node(self):
        """The agent of a node, and the containers."""
        all = self.containers()
        for container, permille in all:
            self.start(["sh", "-c", self.inside(container, permille)])
        agent = self.start([self.work / "fleetprof-agent", "node"], self.environment("node"))
        self.until_seen([container for container, _ in all], agents=1)
        return [agent.pid], [container for container, permille in all if permille]

    def sidecars(self):
        """A sidecar for each container, in a process namespace of their own."""
        all = self.containers()
        for n, (container, permille) in enumerate(all):
            own = self.cgroups.new()
            (self.work / f"container-{n}").write_text(self.inside(container, permille))
            script = (f'sh "{self.work}/container-{n}" & '
                      f'echo $$ >"{self.cgroups.pods / own}/cgroup.procs" && '
                      f'exec "{self.work}/fleetprof-agent" sidecar')
            command = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", script]
            self.start(command, self.environment(n))
        self.until_seen([container for container, _ in all], agents=self.count)
        agents = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self.is_sidecar(pid)]
        return agents, [container for container, permille in all if permille]

    def is_sidecar(self, pid):
        try:
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return line[:2] == [f"{self.work}/fleetprof-agent".encode(), b"sidecar"]

    def until_seen(self, containers, agents):
        wanted = set(containers)
        seen = lambda: set().union(*self.gateway.beats.values()) if self.gateway.beats else set()
        with self.gateway.changed:
            if not self.gateway.changed.wait_for(
                lambda: wanted <= seen() and len(self.gateway.beats) >= agents, timeout=120
            ):
                log = (self.work / "log").read_text()[-2000:]
                sys.exit(f"{len(wanted & seen())} of {len(wanted)} containers were seen, by "
                         f"{len(self.gateway.beats)} of {agents} agents: {log}")

    def stop(self):
        for process in self.groups:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self.groups = []
        self.gateway.beats.clear()


def cpu(pids):
    """CPU time in seconds, with that of children that have ended."""
    def of(pid):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        # Ticks are too coarse for an agent that waits, but tell nothing else of children.
        own = sum(int(task.read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return own / 1e9 + sum(map(int, fields[13:15])) / TICK
    return sum(map(of, pids))


def family(pids):
    """These processes and their children."""
    children = lambda pid: pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = list(pids)
    for pid in found:
        try:
            found.extend(map(int, children(pid)))
        except OSError:
            pass
    return found


def memory(pids):
    """(PSS, RSS) in MiB."""
    pss = rss = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                pss += int(line.split()[1]) if line.startswith("Pss:") else 0
                rss += int(line.split()[1]) if line.startswith("Rss:") else 0
        except OSError:
            pass
    return pss / 1024, rss / 1024


def captured(bench, agents, containers):
    """CPU seconds and the highest PSS of agents and workers while these containers are captured."""
    before, peak, over = cpu(agents), [0.0], threading.Event()

    def watch():
        while not over.wait(0.5):
            peak[0] = max(peak[0], memory(family(agents))[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    reports = bench.gateway.capture(containers)
    over.set()
    watcher.join()
    failed = [report for report in reports if report["state"] != "Finished" or report["samples"] == 0]
    if failed:
        sys.exit(f"captures failed: {json.dumps(failed, indent=1)}")
    return cpu(agents) - before, peak[0], {report["collector"] for report in reports}


def measured(bench, way, name, seconds):
    agents, busy = getattr(bench, way)()
    time.sleep(20)  # what an agent does at its start
    before = cpu(agents)
    time.sleep(seconds)
    used = (cpu(agents) - before) / seconds * 1000
    pss, rss = memory(agents)
    goal = f"≤ 20 MB: {'met' if pss <= 20 else 'missed'}" if way == "node" else ""
    print(f"| {name}, {bench.count} containers, at rest | {used:.1f} m CPU, {pss:.1f} MiB | {goal} | PSS; RSS "
          f"{rss:.1f} MiB; over {seconds} s, a heartbeat each 30 s |", flush=True)
    for number in (1, min(BUSY, bench.count)):
        took, peak, collectors = captured(bench, agents, busy[:number])
        print(f"| {name}, {number} of them captured at 99 Hz | {took / CAPTURE * 1000:.0f} m CPU, {peak:.1f} MiB | | "
              f"{', '.join(sorted(collectors))}; {took:.2f} s of CPU for {CAPTURE} s, each uses 0.1 cores; PSS of agents "
              f"and workers |", flush=True)
    bench.stop()


def main():
    work, count, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    bench = Bench(work, count)
    try:
        measured(bench, "node", "Agent of a node", seconds)
        measured(bench, "sidecars", "Sidecars", seconds)
    finally:
        bench.stop()
        bench.cgroups.remove()


if __name__ == "__main__":
    main()
