"""The request as it goes over the wire, but for its body."""

from urllib.parse import urlsplit

from bench.errors import ConfigError
from bench.workload import Workload

CONNECT_TIMEOUT_S = 10.0


def target(url: str) -> str:
    """Path and query: what stands in the first line of the request."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def address_for(url: str, stream: bool) -> str:
    """``url``, or where the same endpoint answers with a stream."""
    return f"{url}-response-stream" if stream and url.endswith("/invocations") else url


def headers(workload: Workload) -> dict[str, str]:
    """What the workload says of its bodies and of the answers it takes."""
    payload = workload.payload
    found = {"Content-Type": payload.content_type}
    if payload.accept:
        found["Accept"] = payload.accept
    for name, value in found.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{name} {value!r} cannot be sent: only printable ASCII can.")
    return found


def head(url: str, workload: Workload, body_bytes: int) -> bytes:
    """Everything before a body of this size."""
    fields = {
        "Host": urlsplit(url).netloc.rpartition("@")[2],
        "User-Agent": "weighbridge",
        **headers(workload),
        "Content-Length": str(body_bytes),
    }
    lines = [f"POST {target(url)} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
