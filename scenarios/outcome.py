"""What became of one request."""

import math
import re

from msgspec import Struct

_DURATION = re.compile(r"([\w-]+);dur=(\d{1,12}(?:\.\d{0,12})?)(?![\d.])")
_INSTANCE = re.compile(r'instance;desc="([^"]*)"')


class Outcome(Struct, frozen=True, gc=False):
    """How a request went. Times on the clock; NaN is "did not happen"."""

    done_s: float
    sent_s: float = math.nan
    first_byte_s: float = math.nan
    status: int = 0
    error: str = ""
    server_timing: str = ""
    response_bytes: int = 0
    connect_s: float = math.nan
    """What opening a connection took, when this request opened one."""
    upload_s: float = math.nan
    """What uploading the input object took, when there is one."""


def error_code(status: int, code: str) -> str:
    """Empty for an answer as it should be, else the server's own ``code`` or the status."""
    if 200 <= status < 300:
        return ""
    return code or f"HTTP {status}"


def instance(server_timing: str) -> str:
    """Who answered, from a Server-Timing header."""
    found = _INSTANCE.search(server_timing) if "instance" in server_timing else None
    return found[1] if found else ""


def durations_s(server_timing: str) -> dict[str, float]:
    """The durations of a Server-Timing header (W3C), in seconds by name."""
    if not server_timing:
        return {}
    found = {}
    for metric in server_timing.split(", "):
        name, _, value = metric.partition(";dur=")
        whole, _, part = value.partition(".")
        if whole.isdecimal() and part.isdecimal() and name.isidentifier() and len(value) < 14:
            found[name] = float(value) / 1000
        elif value or '"' not in metric:  # not as servers usually write it: four times as slow
            return {name: float(value) / 1000 for name, value in _DURATION.findall(server_timing)}
    return found
