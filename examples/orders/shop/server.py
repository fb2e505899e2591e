"""The shop on the network: GET /healthz, /metrics, /api/products, /api/stock and POST /api/orders."""

import itertools
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import basket
import cards
import catalog
import metrics
import pricing

MAX_BODY = 64 * 1024
SLOW_MS = 50


def log(event, **fields):
    """One line of JSON; card numbers come masked."""
    print(json.dumps({"time": round(time.time(), 3), "event": event, **fields}), flush=True)


class Shop:
    """Takes orders: check the basket, price it, check the card, take the goods."""

    def __init__(self):
        self.stock = catalog.Stock()
        self._numbers = itertools.count(1)

    def order(self, body):
        """Books one order and says what it costs."""
        wanted = basket.read_basket(body)
        quote = pricing.price(wanted)
        issuer = cards.validate(wanted.card)
        self.stock.take(wanted.lines)
        return {
            "order": next(self._numbers),
            "total": quote.total,
            "tax": quote.tax,
            "discount": quote.discount,
            "card": cards.masked(wanted.card),
            "bank": issuer.bank,
        }


class Handler(BaseHTTPRequestHandler):
    """One connection; kept open between requests."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    # Head and body go out in two writes: without this the second waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    shop = Shop()
    latency = metrics.Latency()

    def do_GET(self):
        """Everything that only reads."""
        if self.path == "/healthz":
            self.answer(200, {"status": "ok"})
        elif self.path == "/metrics":
            self.send(200, "text/plain; version=0.0.4", self.latency.text().encode())
        elif self.path == "/api/products":
            self.answer(200, [vars(product) for product in catalog.PRODUCTS.values()])
        elif self.path == "/api/stock":
            self.answer(200, self.shop.stock.left())
        else:
            self.answer(404, {"error": "there is nothing here"})

    def do_POST(self):
        """Orders."""
        began = time.perf_counter()
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= MAX_BODY:
            self.close_connection = True
            self.answer(413, {"error": f"an order has 1 to {MAX_BODY} bytes"})
            return
        body = self.rfile.read(size)
        if self.path != "/api/orders":
            self.answer(404, {"error": "there is nothing here"})
            return
        status, reply = self.place(body)
        self.answer(status, reply)
        seconds = time.perf_counter() - began
        self.latency.add(self.path, status, seconds)
        took = round(seconds * 1000, 1)
        if took > SLOW_MS:
            log("slow order", status=status, ms=took)

    def place(self, body):
        """The status and body that answer an order."""
        try:
            return 201, self.shop.order(json.loads(body))
        except (ValueError, basket.BadOrder) as error:
            return 400, {"error": str(error)}
        except cards.BadCard as error:
            return 402, {"error": str(error)}
        except catalog.OutOfStock as error:
            return 409, {"error": str(error)}

    def answer(self, status, body):
        """Sends `body` as JSON."""
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status, kind, data):
        """Sends `data`, which is of the media type `kind`."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Requests are not logged one by one; slow ones are, see do_POST."""


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Ignores disconnects; logs anything else in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log("request failed", error=repr(error))


def main():
    """Serves until it is told to stop."""
    port = int(os.environ.get("PORT", "8080"))
    server = Server(("", port), Handler)

    def stop(*_):
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log("serving", port=port, issuers=len(cards.ISSUERS), python=sys.version.split()[0])
    server.serve_forever()
    log("stopped")


if __name__ == "__main__":
    main()
