#!/usr/bin/env python3
"""Measures the time from the start of a command to the first byte that it prints, and its CPU time, for commands in
turn, and prints rows for `make bench`. The CPU time tells something of a busy machine too.

    tests/bench/plugin.py NAMESPACE RUNS
"""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

GOAL = 0.050
WARM_UP = 3


def first_output(command):
    """Seconds until a command prints something, until it ends, and of CPU time."""
    begin, used = time.monotonic(), cpu()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = os.read(process.stdout.fileno(), 1)
    printed = time.monotonic() - begin
    rest, said = process.communicate()
    if process.returncode or not first or b"s-50" not in first + rest:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}: {said.decode()}")
    return printed, time.monotonic() - begin, cpu() - used


def cpu():
    """CPU seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    namespace, runs = ["-n", sys.argv[1]], int(sys.argv[2])
    commands = {
        "`kubectl get profilesessions`": ["kubectl", "get", "profilesessions", *namespace],
        "`kubectl fleetprof sessions`": ["kubectl", "fleetprof", "sessions", *namespace],
        "`kubectl-fleetprof sessions`, without kubectl": ["kubectl-fleetprof", "sessions", *namespace],
    }
    # In turn, so that whatever else the machine does meets all of them.
    measured = [{name: first_output(command) for name, command in commands.items()} for _ in range(WARM_UP + runs)]
    medians = {}
    for name in commands:
        printed, ended, used = zip(*(one[name] for one in measured[WARM_UP:]))
        medians[name] = statistics.median(printed)
        quartiles = statistics.quantiles(printed, n=4)
        print(f"| {name}: start to first output, 50 sessions | median {medians[name] * 1000:.0f} ms "
              f"(quartiles {quartiles[0] * 1000:.0f}–{quartiles[2] * 1000:.0f}), end {statistics.median(ended) * 1000:.0f} ms "
              f"| {goal(name, medians[name])} | {runs} runs in turn, CPU time {statistics.median(used) * 1000:.0f} ms |")
    get, plugin, _ = medians.values()
    print(f"plugin: {(plugin - get) * 1000:+.0f} ms beside kubectl get, which is {shutil.which('kubectl')}", file=sys.stderr)


def goal(name, seconds):
    """What is wanted of the plugin itself; kubectl's own start is not its to shorten."""
    if "without kubectl" not in name:
        return "–"
    return f"≤ {GOAL * 1000:.0f} ms: {'met' if seconds <= GOAL else 'missed'}"


main()
