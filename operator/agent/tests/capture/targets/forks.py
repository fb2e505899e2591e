"""Processes that do the work of their parent: `spawn` a child by multiprocessing, or `prefork` two by name."""
import ctypes
import multiprocessing
import os
import sys


def guilty():
    x = 0
    while True:
        for i in range(90_000):
            x += i * i


def named(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
    guilty()


def spawn():
    child = multiprocessing.get_context("spawn").Process(target=guilty)
    child.start()
    child.join()


def prefork():
    for name in ("gunicorn: one", "gunicorn: two"):
        if os.fork() == 0:
            named(name)
    os.wait()


def give_up_root():
    os.setgid(1000)
    os.setuid(1000)
    guilty()


if __name__ == "__main__":
    {"spawn": spawn, "prefork": prefork, "giveuproot": give_up_root}[sys.argv[1]]()
