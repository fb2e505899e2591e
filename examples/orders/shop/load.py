"""Customers: places orders at a steady rate for a while, then says how it went."""

import http.client
import json
import os
import random
import sys
import threading
import time

COUPONS = ("", "", "", "TEATIME", "WELCOME")
SKUS = ("tea-green", "tea-black", "pot-cast", "cup-2", "book-tea", "sieve")
REPORT_EVERY = 10


def card_number(rng):
    """A number of one of the banks that the shop knows, with the right check digit."""
    body = str(40_000_000 + rng.randrange(200 * 130 * 2_000)) + "".join(str(rng.randrange(10)) for _ in range(7))
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def order(rng):
    """What one customer sends."""
    items = [{"sku": sku, "quantity": rng.randint(1, 3)} for sku in rng.sample(SKUS, rng.randint(1, 4))]
    return json.dumps({"items": items, "card": card_number(rng), "coupon": rng.choice(COUPONS)})


class Tally:
    """Counts answers and remembers how long they took."""

    def __init__(self):
        self._lock = threading.Lock()
        self.accepted = self.refused = self.lost = 0
        self._times = []

    def add(self, status, seconds):
        """Notes one answer; status 0 means that there was none."""
        with self._lock:
            self.accepted += status == 201
            self.refused += status not in (0, 201)
            self.lost += status == 0
            self._times.append(seconds)

    def line(self):
        """The counts so far and the times since the last line."""
        with self._lock:
            times, self._times = sorted(self._times), []
        counts = f"accepted {self.accepted}  refused {self.refused}  lost {self.lost}"
        if not times:
            return counts
        middle, high = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
        return f"{counts}  p50 {middle:.0f} ms  p99 {high:.0f} ms"


class Customer(threading.Thread):
    """Places an order every `pause` seconds on a connection of its own. Late orders are left out, not hurried after."""

    def __init__(self, number, host, pause, end, tally):
        super().__init__(daemon=True)
        self.rng = random.Random(number)
        self.host, self.pause, self.end, self.tally = host, pause, end, tally
        self.next = time.monotonic() + pause * self.rng.random()

    def run(self):
        """Until the end."""
        connection = None
        while self.next < self.end:
            time.sleep(max(0.0, self.next - time.monotonic()))
            connection = self.place(connection)
            self.next = max(self.next + self.pause, time.monotonic())

    def place(self, connection):
        """Sends one order; gives the connection back while it is good for another."""
        began = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection(self.host, timeout=15)
            connection.request("POST", "/api/orders", order(self.rng), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.tally.add(answer.status, time.monotonic() - began)
            return connection
        except (OSError, http.client.HTTPException):
            self.tally.add(0, time.monotonic() - began)
            connection.close()
            return None


def wait_for_shop(host, patience=120):
    """Comes back once the shop is open, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(1)


def main():
    """RATE orders a second against TARGET (host:port) for DURATION seconds."""
    host = os.environ.get("TARGET", "orders:8080")
    rate = float(os.environ.get("RATE", "8"))
    seconds = float(os.environ.get("DURATION", "1800"))
    customers = int(os.environ.get("CUSTOMERS", "4"))
    wait_for_shop(host)
    tally, end = Tally(), time.monotonic() + seconds
    print(f"{rate:g} orders a second to {host} for {seconds:g} s", flush=True)
    crowd = [Customer(number, host, customers / rate, end, tally) for number in range(customers)]
    for customer in crowd:
        customer.start()
    while time.monotonic() < end:
        time.sleep(max(0.0, min(REPORT_EVERY, end - time.monotonic())))
        print(tally.line(), flush=True)
    for customer in crowd:
        customer.join(timeout=20)
    print("done:", tally.line(), flush=True)
    return 0 if tally.accepted else 1


if __name__ == "__main__":
    sys.exit(main())
