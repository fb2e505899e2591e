"""A target with one guilty function: nine tenths of its CPU time. One thread sleeps."""
import sys
import threading
import time


def guilty(n):
    x = 0
    for i in range(n):
        x += i * i  # the guilty line
    return x


def innocent(n):
    x = 0
    for i in range(n):
        x += i * i
    return x


def sleeper():
    while True:
        time.sleep(0.05)


def main():
    threading.Thread(target=sleeper, daemon=True).start()
    end = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None
    while end is None or time.monotonic() < end:
        guilty(90_000)
        innocent(10_000)


main()
