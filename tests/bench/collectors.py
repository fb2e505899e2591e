"""How is each collector started, known to sample, stopped, and asked what it took?"""

import json
import os
import re
import signal
import subprocess
import time
from typing import NamedTuple

HERTZ = 99


class Failed(Exception):
    """A sentence for who runs the benchmark."""


def cpu_seconds(pid):
    """CPU time of a process so far: its clock, as in clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def peak_mib(pid):
    """Peak resident memory, or none when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def below(profiles, function):
    """The share of the samples of these pprof files that were taken below a function."""
    top = subprocess.run(["go", "tool", "pprof", "-top", "-nodefraction=0", *profiles], capture_output=True, text=True, check=True)
    for row in top.stdout.splitlines():
        fields = row.split(maxsplit=5)
        if len(fields) == 6 and re.search(rf"\b{function}\b", fields[5]):
            return float(fields[4].rstrip("%")) / 100
    return 0.0


class Taken(NamedTuple):
    """What a capture took: CPU seconds of the collector's whole life, samples, and the share of them below the function that works."""

    cpu: float
    samples: int
    share: float


class Collector:
    """One run of a profiler against one process."""

    def __init__(self, command, out, request=None):
        # Files and not pipes for what nobody reads meanwhile, so that no collector ever waits for us.
        self.out = out
        with open(out, "wb") as stdout:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.STDOUT)
        if request:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        self.peak = 0.0
        self.usage = None

    def cpu(self):
        """CPU seconds so far."""
        return cpu_seconds(self.process.pid)

    def abandon(self):
        """Ends it if it is not over."""
        if self.usage is None:
            self.process.kill()

    def said(self):
        """All of its output so far."""
        with open(self.out, encoding="utf-8", errors="replace") as text:
            return text.read()

    def ended(self):
        """Whether it is over; notes its peak of memory while it is not."""
        self.peak = max(self.peak, peak_mib(self.process.pid) or 0.0)
        if self.usage is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.usage = usage
                self.process.returncode = os.waitstatus_to_exitcode(status)
        return self.usage is not None

    def wait_for(self, what, limit, test):
        """Waits until a test of what it said passes; an end before that, or no pass in `limit` seconds, is a failure."""
        end = time.monotonic() + limit
        while not test():
            if self.ended() and not test():
                raise Failed(f"{self.process.args[0]} ended before {what}: {self.said()[-800:]}")
            if time.monotonic() > end:
                self.process.kill()
                raise Failed(f"{self.process.args[0]} did not come to {what} within {limit} s: {self.said()[-800:]}")
            time.sleep(0.004)

    def stop(self, number):
        """Signals the end, waits for it, and returns CPU seconds of its whole life."""
        self.process.send_signal(number)
        self.wait_for("its end", 20, self.ended)
        self.process.stdin.close()
        return self.usage.ru_utime + self.usage.ru_stime


class Fleetprof:
    """The worker of this checkout; `launcher` takes rights from it first, and `seconds` bounds a capture that would not end on a signal with
    what it has."""

    def __init__(self, name, worker, method, launcher=(), seconds=120):
        self.name, self.worker, self.method, self.launcher, self.seconds = name, worker, method, list(launcher), seconds

    def start(self, pid, folder):
        """Starts a capture and returns when it samples."""
        request = {"pid": pid, "profiles": ["cpu"], "durationMs": self.seconds * 1000, "frequencyHz": HERTZ, "sliceMs": 12_000,
                   "outputDir": folder, "labels": {}, "assumeTargetUid": False}
        run = Collector(self.launcher + [self.worker], os.path.join(folder, "events"), request)
        run.wait_for("its start", 20, lambda: '"started"' in run.said())
        if f'"method":"{self.method}"' not in run.said():
            run.process.kill()
            raise Failed(f"The worker was expected to sample by {self.method}: {run.said()}")
        return run

    def finish(self, run, folder, function):
        """Ends the capture, and says what it took."""
        if self.seconds < 120:
            run.wait_for("its end", 20, run.ended)
            cpu = run.usage.ru_utime + run.usage.ru_stime
        else:
            cpu = run.stop(signal.SIGTERM)
        for line in run.said().splitlines():
            event = json.loads(line) if line.startswith('{"finished"') else {}
            if event.get("finished", {}).get("samples"):
                slices = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".pb.gz")]
                return Taken(cpu, event["finished"]["taken"], below(slices, function))
        raise Failed(f"The worker took no samples: {run.said()}")


class PySpy:
    """py-spy's own program."""

    def __init__(self, name, program, options=()):
        self.name, self.program, self.options = name, program, list(options)

    def command(self, pid, folder):
        """The command line of a capture that lasts until it is stopped."""
        out = os.path.join(folder, "stacks")
        return [self.program, "record", "--pid", str(pid), "--rate", str(HERTZ), "--duration", "120", "--format", "raw",
                "--output", out, *self.options]

    def start(self, pid, folder):
        """Starts a capture and returns when it samples."""
        run = Collector(self.command(pid, folder), os.path.join(folder, "said"))
        run.wait_for("its start", 20, lambda: "Sampling process" in run.said())
        return run

    def finish(self, run, folder, function):
        """Ends the capture, and says what it took."""
        cpu = run.stop(signal.SIGINT)
        stacks = os.path.join(folder, "stacks")
        if not os.path.exists(stacks):
            raise Failed(f"py-spy wrote nothing: {run.said()[-800:]}")
        with open(stacks, encoding="utf-8") as lines:
            # Of the thread that works: it takes those that wait for busy now and then.
            rows = [(line, int(line.rsplit(" ", 1)[1])) for line in lines if "main (steps.py" in line]
        taken = sum(count for _, count in rows)
        if not taken:
            raise Failed(f"py-spy took no samples: {run.said()[-800:]}")
        return Taken(cpu, taken, sum(count for line, count in rows if f";{function} (" in line) / taken)

    def refusal(self, pid, folder):
        """What it says to a process that is not Python."""
        done = subprocess.run(self.command(pid, folder), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            raise Failed("py-spy captured a native process; measure it then.")
        return next(line for line in done.stderr.splitlines() if line.strip())
