#!/usr/bin/env python3
"""Measures a merge of slices by fleetprof beside `go tool pprof -proto` on the same files, and prints a row
for `make bench`: wall time, CPU time and the most memory of each, medians of five runs in turn.

    tests/bench/views.py EXAMPLE [SLICES]     EXAMPLE is the built example `views`; SLICES defaults to 100
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 5


def measure(command):
    """Wall seconds, CPU seconds and MiB of a command, its children included."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    if status != 0:
        sys.exit(f"{command[0]} failed with {status}")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def medians(*commands):
    """Of each command, what it mostly takes. They run in turn: other work then slows down all alike."""
    runs = [[measure(command) for command in commands] for _ in range(RUNS)]
    return [tuple(statistics.median(column) for column in zip(*of_one)) for of_one in zip(*runs)]


def pprof_itself():
    """The program behind `go tool pprof`, whose start takes time that pprof does not."""
    found = subprocess.run(["go", "tool", "-n", "pprof"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main():
    example, slices = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "100"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([example, "slices", folder, slices], check=True)
        files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
        output = "-output=" + os.path.join(folder, "theirs")
        ours, theirs = medians(
            [example, "merge", os.path.join(folder, "ours"), *files],
            [pprof_itself(), "-proto", output, *files],
        )
    factor = [their / our for our, their in zip(ours, theirs)]
    met = "met" if factor[0] >= 3 and factor[2] >= 2 else "missed"
    print(
        f"| merge of {slices} slices of 16,000 samples | {ours[0]:.2f} s, {ours[1]:.2f} CPU s, "
        f"{ours[2]:.0f} MiB | 3 times as fast as pprof with half the memory: {met} | `go tool pprof -proto` "
        f"{theirs[0]:.2f} s, {theirs[1]:.2f} CPU s, {theirs[2]:.0f} MiB: {factor[0]:.1f}, {factor[1]:.1f} "
        f"and {factor[2]:.1f} times |"
    )


main()
