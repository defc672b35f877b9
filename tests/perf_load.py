"""A closed loop for the perf parts, in a process of its own: ``perf_load.py URL CONNECTIONS S``.

The body comes on stdin; one JSON line tells what was found. It costs about 15 µs a request, so one
core of it fills any server of ours, and nothing has to be installed.
"""

import json
import select
import socket
import sys
import time
from urllib.parse import urlsplit

RECEIVE_BYTES = 256 * 1024
MAX_TIMES = 500_000
"""Latencies kept; those that are more are only counted."""


class _Caller:
    """One connection, one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_s = 0.0
        self.left = 0
        """Bytes of the answer that are still to come, once its head is known."""
        self.seen = b""

    def ask(self, request: bytes) -> None:
        self.sent_s = time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> int:
        """The status, once the whole answer is here; else 0."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server has closed the connection")
        if self.left:
            self.left -= len(data)
            return 0 if self.left else int(self.seen[9:12])
        self.seen += data
        head, found, body = self.seen.partition(b"\r\n\r\n")
        if not found:
            return 0
        _, found, length = head.lower().partition(b"content-length:")
        if not found:  # in chunks
            if not body.endswith(b"0\r\n\r\n"):
                return 0
        else:
            self.left = int(length.partition(b"\r\n")[0]) - len(body)
            if self.left:
                return 0
        return int(head[9:12])


def load(url: str, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Ask again and again on each connection until the time is over."""
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 80
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    callers = {
        each.socket.fileno(): each for each in (_Caller(address) for _ in range(connections))
    }
    poll = select.epoll()
    for number, caller in callers.items():
        poll.register(number, select.EPOLLIN)
        caller.ask(request)
    times, done, wrong = [], 0, 0
    began_s = now_s = time.perf_counter()
    while now_s < began_s + seconds:
        for number, _ in poll.poll(1.0):
            caller = callers[number]
            status = caller.answered()
            if status:
                done += 1
                wrong += status != 200
                if done <= MAX_TIMES:
                    times.append(time.perf_counter() - caller.sent_s)
                caller.seen = b""
                caller.ask(request)
        now_s = time.perf_counter()
    for caller in callers.values():
        caller.socket.close()
    times.sort()
    quantiles = {f"p{q}_ms": times[len(times) * q // 100] * 1e3 for q in (50, 99)} if times else {}
    return {"rate": done / (now_s - began_s), "requests": done, "wrong": wrong, **quantiles}


if __name__ == "__main__":
    url, connections, seconds = sys.argv[1:]
    print(json.dumps(load(url, sys.stdin.buffer.read(), int(connections), float(seconds))))
