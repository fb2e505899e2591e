"""How much slower is an application while it is captured, and what does the capture itself cost?

    capture.py AGENT PYSPY LAUNCH NATIVE-TARGET [ROUNDS, 2 or more [SECONDS]]

A target does equal steps without pause. Windows without a capture alternate with windows of each collector; a window's cost of a step
is compared with the mean of the windows before and after it. Many short windows, since a neighbour on the same physical core can make a
step twice as long for a second. Prints rows of the table of `make bench`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from collectors import HERTZ, Failed, Fleetprof, PySpy  # noqa: E402


class Target:
    """A process that steps, and the file that it writes its clocks to."""

    def __init__(self, command, folder, warm_up=1):
        self.path = os.path.join(folder, "clocks")
        with open(self.path, "wb") as clocks:
            self.process = subprocess.Popen(command, stdout=clocks)
        time.sleep(warm_up)

    def step(self, window):
        """Wall and CPU seconds of a step in a window of the monotonic clock."""
        with open(self.path, encoding="ascii") as lines:
            clocks = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
        inside = [c for c in clocks if window[0] <= c[0] <= window[1]]
        if len(inside) < 20:
            raise Failed(f"The target did only {len(inside)} steps in a window: the machine is too busy, or it has ended.")
        steps = len(inside) - 1
        return (inside[-1][0] - inside[0][0]) / 1e9 / steps, (inside[-1][1] - inside[0][1]) / 1e9 / steps


class Cost:
    """What was seen of one collector over the rounds."""

    def __init__(self):
        self.wall, self.cpu, self.rate, self.share, self.rest, self.right, self.peak = [], [], [], [], [], [], 0.0

    def row(self, figure):
        """One row of the table."""
        def spread(values):
            low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
            return f"{middle:.3f} ({low:.3f}–{high:.3f}; {min(values):.2f}–{max(values):.2f})"
        return (f"| {figure} | wall time × {spread(self.wall)}, CPU time × {spread(self.cpu)} | – | collector: "
                f"{statistics.median(self.share) * 100:.1f} % of a core and {statistics.median(self.rate):.0f} samples/s, "
                f"{statistics.median(self.right) * 100:.0f} % of them below the function that works, "
                f"{statistics.median(self.rest):.2f} CPU s to start and stop, peak RSS {self.peak:.0f} MB |")


def window(seconds):
    """Waits, and says from when to when."""
    began = time.monotonic_ns()
    time.sleep(seconds)
    return began, time.monotonic_ns()


def captured(collector, pid, seconds, cost, function):
    """A window under a capture."""
    with tempfile.TemporaryDirectory() as folder:
        run = collector.start(pid, folder)
        try:
            before = run.cpu()
            began = time.monotonic()
            during = window(seconds)
            used = run.cpu() - before
            length = time.monotonic() - began
            taken = collector.finish(run, folder, function)
            cost.rate.append(taken.samples / length)
            cost.right.append(taken.share)
        finally:
            run.abandon()
    cost.share.append(used / ((during[1] - during[0]) / 1e9))
    cost.rest.append(taken.cpu - used)
    cost.peak = max(cost.peak, run.peak)
    return during


def measure(target, collectors, rounds, seconds, function):
    """The costs of each collector, in alternation with none, while a function works."""
    costs = {collector.name: Cost() for collector in collectors}
    plain = [window(seconds)]
    order = []
    for _ in range(rounds):
        for collector in collectors:
            during = captured(collector, target.process.pid, seconds, costs[collector.name], function)
            order.append((costs[collector.name], during))
            plain.append(window(seconds))
    for number, (cost, during) in enumerate(order):
        alone = [target.step(plain[number]), target.step(plain[number + 1])]
        for kind, ratios in ((0, cost.wall), (1, cost.cpu)):
            ratios.append(target.step(during)[kind] / statistics.mean(step[kind] for step in alone))
    return costs


def compare(title, command, collectors, rounds, seconds, function, also=None, warm_up=1):
    """Measures one target, in which a function works, and prints its rows; `also` is a further look at the running target."""
    print(f"{title}: {rounds} rounds of {len(collectors)} collectors, about "
          f"{(2 * len(collectors) * rounds + 1) * seconds + 0.3 * len(collectors) * rounds:.0f} s", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        target = Target(command, folder, warm_up)
        try:
            for name, cost in measure(target, collectors, rounds, seconds, function).items():
                print(cost.row(f"{title} at {HERTZ} Hz by {name}"), flush=True)
            if also:
                also(target.process.pid, folder)
        finally:
            target.process.kill()
            target.process.wait()


def main(worker, pyspy, launch, native, rounds="20", seconds="0.8"):
    """Both targets."""
    here = os.path.dirname(os.path.abspath(__file__))
    rounds, seconds = int(rounds), float(seconds)
    version = subprocess.run([pyspy, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    python = ".".join(map(str, sys.version_info[:3]))
    blocking = PySpy(f"{version}", pyspy)
    steps = [os.path.realpath(sys.executable), os.path.join(here, "targets/steps.py")]
    ours = Fleetprof("fleetprof", worker, "cpython")
    nonblocking = PySpy(f"{version} --nonblocking", pyspy, ["--nonblocking"])
    compare(f"slowdown of a Python app ({python})", steps, [ours, blocking, nonblocking], rounds, seconds, "price")
    compare(f"slowdown of 4 busy threads of 40 frames ({python})", [*steps, "3", "36"], [ours, nonblocking],
            max(2, rounds // 2), 2.5 * seconds, "price")

    def refused(pid, folder):
        print(f"| slowdown of a native app at {HERTZ} Hz by {version} | not possible: “{blocking.refusal(pid, folder)}” | – | |")
    compare("slowdown of a native app", [native],
            [Fleetprof("fleetprof, perf", worker, "perf"), Fleetprof("fleetprof, ptrace (perf refused)", worker, "ptrace", [launch, "-s"])],
            rounds, seconds, "blend", refused)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as error:
        sys.exit(str(error))
