"""Small servers for tests of the generator, a thread a connection."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\n"

Serve = Callable[[socket.socket, int], None]
"""Talks over one connection, which is told its number, until it ends."""


@contextlib.contextmanager
def listening(
    serve: Serve, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server on a free port of ``host``; its address, by name where that is 127.0.0.1."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=run, args=(connection, number), daemon=True).start()

    def run(connection: socket.socket, number: int) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(ConnectionError, ssl.SSLError))
            stack.enter_context(connection)
            if tls is not None:
                connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
            serve(connection, number)

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    # By name: it may mean IPv6 first, where nobody listens.
    name = f"[{host}]" if ":" in host else "localhost" if host == "127.0.0.1" else host
    try:
        yield f"{'http' if tls is None else 'https'}://{name}:{port}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def read_request(connection: socket.socket) -> bytes | None:
    """The next request's body; None when the caller has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65536)):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < size:
        body += connection.recv(65536)
    return body


def plainly(connection: socket.socket, number: int) -> None:
    """Answer every request with nothing."""
    del number
    while read_request(connection) is not None:
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")
