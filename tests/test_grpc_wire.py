"""What the messages of all calls may hold before they have come to their end."""

import pytest

from servers.frames import END_HEADERS, Code, Kind, frame, reset
from servers.grpc_wire import framed
from tests.test_http2 import ECHO, Peer, call, peer, toy

__all__ = ["peer", "toy"]


def test_what_all_calls_hold_is_bounded(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that would hold too much fails, and gives back what it held."""
    monkeypatch.setattr("servers.grpc_wire.MAX_HELD_BYTES", 1000)
    part = framed(bytes(2000))[:600]
    for of in (1, 3):
        peer.say(frame(Kind.HEADERS, END_HEADERS, of, ECHO), frame(Kind.DATA, 0, of, part))
    assert any(b"grpc-status\x018" in each[3] for each in peer.frames() if each[2] == 3)
    peer.say(reset(1, Code.CANCEL), call("/toy/Echo", bytes(900), stream_id=5))
    assert peer.answer(5) == framed(bytes(900))
