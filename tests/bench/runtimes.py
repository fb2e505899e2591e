"""What does a capture of native, Java, Go and Node.js programs cost, beside the profiler that comes with each?

    runtimes.py WORKER FOLDER [ROUNDS, 2 or more]

FOLDER has the compiled targets of runtimes.sh. The method is that of capture.py, with windows of two seconds. Prints rows of the table of
`make bench`.
"""

import os
import shutil
import socket
import sys
import tempfile

sys.dont_write_bytecode = True

from capture import compare  # noqa: E402
from collectors import Failed, Fleetprof  # noqa: E402
from rivals import FlightRecorder, GoHandler, Perf, V8Profiler  # noqa: E402

# /debug/pprof/profile takes whole seconds.
SECONDS = 2


def free_port():
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(worker, folder, rounds="8"):
    """One target after the other."""
    rounds = int(rounds)

    def both(title, command, method, rival, **bound):
        ours = Fleetprof(f"fleetprof, {method}", worker, method, **bound)
        # Java compiles itself in its first seconds.
        compare(f"slowdown of a {title} app, windows of {SECONDS} s,", command, [ours, rival], rounds, SECONDS, "blend", warm_up=5)
    if shutil.which("perf"):
        both("native", [os.path.join(folder, "steps")], "perf",
             Perf("perf record --call-graph dwarf", ["--call-graph", "dwarf"]))
    else:
        print("perf is missing, so native programs are left out: apt-get install linux-perf", file=sys.stderr)
    both("Java", ["java", "-XX:+UseG1GC", "-Xmx128m", "-cp", folder, "Steps"], "jfr", FlightRecorder("a plain JFR recording"))
    port = free_port()
    both("Go", [os.path.join(folder, "steps-go"), str(port)], "go-pprof", GoHandler("/debug/pprof/profile", port, SECONDS),
         seconds=SECONDS)
    with tempfile.TemporaryDirectory() as own:
        profile = os.path.join(own, "profile")
        target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "targets/steps.mjs")
        both("Node.js", ["node", target, profile], "inspector", V8Profiler("V8's profiler (--cpu-prof)", profile))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as error:
        sys.exit(str(error))
