"""A service that waits: each order asks a third party by HTTP, then computes. Its pool has nothing to do."""
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor


def pay(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return answer.read()


def guilty(seconds):
    x, end = 0, time.thread_time() + seconds
    while time.thread_time() < end:
        for i in range(5_000):
            x += i * i
    return x


def order(port):
    pay(port)
    guilty(0.02)


def main():
    pool, all_there = ThreadPoolExecutor(3), threading.Barrier(3)
    for started in [pool.submit(all_there.wait) for _ in range(3)]:
        started.result()
    while True:
        order(int(sys.argv[1]))


main()
