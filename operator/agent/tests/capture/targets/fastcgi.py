"""Has PHP-FPM run a script again and again, with two requests at a time: fastcgi.py PORT SCRIPT"""
import socket
import struct
import sys
import threading
import time

BEGIN, PARAMETERS, BODY = 1, 4, 5


def record(kind, content):
    return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def pair(name, value):
    return bytes([len(name), len(value)]) + name + value


def serve(port, script):
    parameters = pair(b"SCRIPT_FILENAME", script) + pair(b"REQUEST_METHOD", b"GET")
    begin = record(BEGIN, bytes([0, 1, 0, 0, 0, 0, 0, 0]))
    request = begin + record(PARAMETERS, parameters) + record(PARAMETERS, b"") + record(BODY, b"")
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as server:
                server.sendall(request)
                while server.recv(65536):
                    pass
        except OSError:
            time.sleep(0.2)


arguments = int(sys.argv[1]), sys.argv[2].encode()
threading.Thread(target=serve, args=arguments, daemon=True).start()
serve(*arguments)
