"""A container for tests of callers: real HTTP on a free port, in a thread."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, bytes]


@contextlib.contextmanager
def container(answer: Callable[[bytes, dict[str, str]], Reply]) -> Iterator[str]:
    """The address of a container that answers each body with ``answer(body, headers)``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # else headers and body leave apart, and wait for one another

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            if "content-length" in headers:
                body = self.rfile.read(int(headers["content-length"]))
            else:
                body = b"".join(_chunks(self))
            status, content = answer(body, headers)
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    while size := int(handler.rfile.readline(), 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
