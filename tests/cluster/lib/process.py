"""Which processes are ours, are they alive, and how are they started and stopped?

A pid is ours only together with its start time and the machine's boot id: a pid
that was given to another program meanwhile is never signalled.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from .steps import ClusterError, say

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid):
    """When `pid` started, in ticks since boot; None for a process that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may itself hold blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class Process:
    """One detached program of a cluster, known by its pid file."""

    def __init__(self, settings, name):
        self.name = name
        self.file = settings.pids / f"{name}.json"
        self.log = settings.logs / f"{name}.log"

    def _record(self):
        try:
            return json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None

    def pid(self):
        """The pid while the process runs, else None."""
        record = self._record()
        if not record or record["boot"] != BOOT_ID:
            return None
        started = start_time(record["pid"])
        # A program that ended before its start time could be read has none on record.
        return record["pid"] if started is not None and started == record["start"] else None

    def ensure(self, argv, stamp="", env=None):
        """Run `argv` unless just that, with the same `stamp` of its files, runs already."""
        argv = [str(word) for word in argv]
        record = self._record()
        if self.pid():
            if record["argv"] == argv and record["stamp"] == stamp:
                return False
            self.stop()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "wb") as log:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd="/", env={**os.environ, **(env or {})},
            )
        self._write({"pid": child.pid, "start": start_time(child.pid), "boot": BOOT_ID,
                     "argv": argv, "stamp": stamp})
        say(f"  started {self.name} (pid {child.pid}, log {self.log})")
        return True

    def _write(self, record):
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(self.file)

    def stop(self, grace=10.0):
        """End the process: politely, and after `grace` seconds for certain."""
        pid = self.pid()
        if pid:
            _signal(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self.pid() and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.pid():
                _signal(pid, signal.SIGKILL)
                while self.pid():
                    time.sleep(0.02)
            say(f"  stopped {self.name} (pid {pid})")
        self.file.unlink(missing_ok=True)

    def require_alive(self):
        """Raise with the end of the log when the process has ended by itself."""
        if self.pid():
            return
        tail = ""
        if self.log.exists():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise ClusterError(f"{self.name} exited; its log {self.log} ends with:\n{tail}")


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def run(argv, check=True, text=None, timeout=None, env=None):
    """Run a program and return its output; raise with its error output if it fails."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as error:
        raise ClusterError(f"the program {argv[0]} is not installed; install it and try again") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{' '.join(argv)}` did not finish within {timeout} s") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(f"`{' '.join(argv)}` failed with exit code {done.returncode}: {said}")
    return done
