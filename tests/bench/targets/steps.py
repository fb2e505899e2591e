"""A Python target that does the same work in each step and says after each how far its clocks are.

    steps.py [BUSY [CALLERS]]

Prints `MONOTONIC_NS CPU_NS` a step (about 5 ms). The work is done below CALLERS (12) more callers, beside 4 threads that wait, as in a
web server, and BUSY (0) that do the same work.
"""

import os
import sys
import threading
import time


def price(items):
    """Some arithmetic and a dictionary, as programs do."""
    total = 0.0
    seen = {}
    for number in items:
        seen[number & 255] = seen.get(number & 255, 0) + 1
        total += number * 0.19
    return total + len(seen)


def basket(depth, items):
    """Adds callers to the stack."""
    if depth:
        return basket(depth - 1, items)
    return sum(price(items) for _ in range(25))


def forever(callers, items):
    """Works without telling."""
    while True:
        basket(callers, items)


def main(busy="0", callers="12"):
    """Steps until it is stopped."""
    for _ in range(4):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    items = list(range(2000))
    for _ in range(int(busy)):
        threading.Thread(target=forever, args=(int(callers), items), daemon=True).start()
    while True:
        basket(int(callers), items)
        os.write(1, b"%d %d\n" % (time.monotonic_ns(), time.process_time_ns()))


main(*sys.argv[1:])
