"""The profilers that come with a runtime or a distribution: started, stopped, and asked what they took, as those of collectors.py are."""

import json
import os
import re
import signal
import subprocess
import time

from collectors import HERTZ, Collector, Failed, Taken, below


class Perf:
    """`perf record` of the distribution, with stacks that `perf script` unwinds and names afterwards, which counts as its stop."""

    def __init__(self, name, options):
        self.name, self.options = name, options

    def start(self, pid, folder):
        """Starts a capture and returns when it samples."""
        out = os.path.join(folder, "perf.data")
        run = Collector(["perf", "record", "--quiet", "--pid", str(pid), "--freq", str(HERTZ), "--event", "cpu-clock:u", "--output", out,
                         *self.options], os.path.join(folder, "said"))
        run.wait_for("its start", 20, lambda: os.path.exists(out) and os.path.getsize(out) > 0)
        return run

    def finish(self, run, folder, function):
        """Ends the capture, and says what it took."""
        cpu = run.stop(signal.SIGINT)
        script = Collector(["perf", "script", "--input", os.path.join(folder, "perf.data"), "--fields", "ip,sym"],
                           os.path.join(folder, "stacks"))
        script.wait_for("its end", 60, script.ended)
        stacks = [stack for stack in script.said().split("\n\n") if stack.strip()]
        if not stacks:
            raise Failed(f"perf took no samples: {run.said()[-800:]}")
        right = sum(re.search(rf"\b{function}\b", stack) is not None for stack in stacks)
        return Taken(cpu + script.usage.ru_utime + script.usage.ru_stime, len(stacks), right / len(stacks))


class Inside:
    """A profiler that runs in the target: what it uses meanwhile is the target's."""

    def __init__(self):
        self.peak = 0.0

    def cpu(self):
        """CPU seconds of its own so far: none."""
        return 0.0

    def abandon(self):
        """Nothing is left when it is stopped, and the target ends with the benchmark."""


def children():
    """CPU seconds of all ended programs that this one started."""
    times = os.times()
    return times.children_user + times.children_system


class FlightRecorder:
    """A plain recording of Java, by `jcmd`."""

    def __init__(self, name):
        self.name = name

    def start(self, pid, folder):
        """Starts a recording."""
        run = Inside()
        run.pid, run.began = pid, children()
        settings = os.path.join(folder, "bench.jfc")
        with open(settings, "w", encoding="ascii") as text:
            # The nearest to 99 Hz, and nothing else: a default recording has 150 more events.
            text.write('<configuration version="2.0"><event name="jdk.ExecutionSample"><setting name="enabled">true</setting>'
                       '<setting name="period">10 ms</setting></event></configuration>')
        subprocess.run(["jcmd", str(pid), "JFR.start", "name=bench", f"settings={settings}"], capture_output=True, check=True)
        return run

    def finish(self, run, folder, function):
        """Ends the recording, and says what it took."""
        out = os.path.join(folder, "bench.jfr")
        subprocess.run(["jcmd", str(run.pid), "JFR.stop", "name=bench", f"filename={out}"], capture_output=True, check=True)
        cpu = children() - run.began
        text = subprocess.run(["jfr", "print", "--events", "jdk.ExecutionSample", "--stack-depth", "64", out],
                              capture_output=True, text=True, check=True)
        stacks = text.stdout.split("jdk.ExecutionSample {")[1:]
        if not stacks:
            raise Failed("Java's recorder took no samples.")
        return Taken(cpu, len(stacks), sum(f".{function}(" in stack for stack in stacks) / len(stacks))


class GoHandler:
    """`/debug/pprof/profile` of a Go program, for as many whole seconds as a window has."""

    def __init__(self, name, port, seconds):
        self.name, self.url = name, f"http://127.0.0.1:{port}/debug/pprof/profile?seconds={seconds}"

    def start(self, _pid, folder):
        """Asks for a profile; the program samples from then on."""
        return Collector(["curl", "--silent", "--fail", "--output", os.path.join(folder, "profile.pb.gz"), self.url],
                         os.path.join(folder, "said"))

    def finish(self, run, folder, function):
        """Waits for the profile, and says what it took."""
        run.wait_for("its end", 20, run.ended)
        profile = os.path.join(folder, "profile.pb.gz")
        raw = subprocess.run(["go", "tool", "pprof", "-raw", profile], capture_output=True, text=True, check=True)
        counts = [int(row[1]) for row in re.finditer(r"^\s+(\d+)\s+\d+:", raw.stdout, re.MULTILINE)]
        return Taken(run.usage.ru_utime + run.usage.ru_stime, sum(counts), below([profile], function))


class V8Profiler:
    """V8's own profiler, switched on and off in the target by a signal (targets/steps.mjs); --cpu-prof is the same for a whole life."""

    def __init__(self, name, profile):
        self.name, self.profile = name, profile

    def start(self, pid, _folder):
        """Switches it on."""
        run = Inside()
        run.pid = pid
        os.kill(pid, signal.SIGUSR2)
        time.sleep(0.1)
        return run

    def finish(self, run, _folder, function):
        """Switches it off, and says what it took."""
        os.kill(run.pid, signal.SIGUSR2)
        end = time.monotonic() + 20
        while not os.path.exists(self.profile) or not os.path.getsize(self.profile):
            if time.monotonic() > end:
                raise Failed("V8's profiler wrote nothing within 20 s.")
            time.sleep(0.01)
        time.sleep(0.2)
        with open(self.profile, encoding="utf-8") as text:
            profile = json.load(text)
        os.remove(self.profile)
        nodes = {node["id"]: node for node in profile["nodes"]}
        inside = set()
        pending = [(profile["nodes"][0]["id"], False)]
        while pending:
            number, is_below = pending.pop()
            node = nodes[number]
            is_below = is_below or node["callFrame"]["functionName"] == function
            if is_below:
                inside.add(number)
            pending.extend((child, is_below) for child in node.get("children", ()))
        samples = profile["samples"]
        return Taken(0.0, len(samples), sum(number in inside for number in samples) / len(samples))
