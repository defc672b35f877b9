"""Header blocks of HTTP/2 (HPACK, RFC 7541), read and written with the library hpack.

Nearly every block that a gRPC client sends consists of references to what it sent before. Such a
block means the same until another one changes the table that it refers to, so it is read once.
"""

from collections.abc import Callable, Iterable
from typing import Any

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple, OversizedHeaderListError

from servers.frames import Broken, Code

Fields = list[tuple[bytes, bytes]]

MAX_BYTES = 64 * 1024
"""Most bytes of a block, as it comes and unpacked."""

_REFERENCES = bytes(range(0x80, 0xFF))
"""Each of these is by itself a reference to the table; 0xFF begins a longer one."""

_KNOWN = 64


class Reader:
    """Reads a connection's blocks in their order; ``describe`` says what their fields mean."""

    def __init__(self, describe: Callable[[Fields], Any]) -> None:
        self._describe = describe
        self._decoder = Decoder(MAX_BYTES)
        self._known: dict[bytes, Any] = {}

    def read(self, block: bytes) -> Any:
        """What ``describe`` makes of the block; `Broken` when it is none."""
        found = self._known.get(block)
        if found is not None:
            return found
        try:
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise Broken(Code.ENHANCE_YOUR_CALM, str(error)) from error
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, str(error)) from error
        found = self._describe(fields)
        if block.translate(None, _REFERENCES):
            self._known.clear()
        elif len(self._known) < _KNOWN:
            self._known[block] = found
        return found


def written(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block that says the same on every connection: it leaves the peer's table alone."""
    never_indexed = [NeverIndexedHeaderTuple(name, value) for name, value in fields]
    return bytes(Encoder().encode(never_indexed, huffman=False))
