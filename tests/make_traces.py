"""Traces for the tests, and what a replay makes of them."""

from typing import Any

from bench.arrivals import due_times
from bench.replay import Replay

NGINX = (
    '203.0.113.9 - frank [{came}] "POST /invocations HTTP/1.1" 200 612 '
    '"https://example.com/\\x22" "Mozilla/5.0 (X11; Linux x86_64)"'
)
"""A line of nginx with the time left open."""


def csv(*stamps: object) -> list[str]:
    return ["timestamp", *map(str, stamps)]


def replayed(path: str, **settings: Any) -> list[float]:
    """The whole schedule of a replay."""
    replay = Replay(path, **settings)
    return [round(due, 6) for due in due_times(replay, replay.length_s(), 1)]
