"""HTTP answers as their bytes arrive, in any pieces."""

import pytest

from scenarios.answer import Answer

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


def fed(*pieces: bytes) -> Answer:
    answer = Answer()
    for piece in pieces:
        answer.feed(memoryview(piece))
    return answer


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_is_complete_with_its_last_byte(raw: bytes, size: int) -> None:
    """However it is cut, and not a byte earlier."""
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
    assert not fed(*pieces[:-1]).complete
    answer = fed(*pieces)
    assert (answer.complete, answer.status, answer.body_bytes) == (True, 200, 5)
    assert answer.reusable


def test_headers_are_read_whatever_their_case() -> None:
    """Server-Timing and the error type are kept."""
    head = b"HTTP/1.1 424 No\r\nSERVER-TIMING: a;dur=1\r\nX-Amzn-ErrorType: ModelError\r\n"
    answer = fed(head + b"content-length: 0\r\n\r\n")
    assert (answer.server_timing, answer.error_type) == ("a;dur=1", "ModelError")


def test_an_interim_answer_is_not_the_answer() -> None:
    """100 Continue is read over."""
    answer = fed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert not answer.complete
    answer.feed(memoryview(PLAIN))
    assert (answer.complete, answer.status) == (True, 200)


def test_without_a_length_the_answer_ends_with_the_connection() -> None:
    """The end completes it, and the connection is gone."""
    answer = fed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not answer.complete
    answer.end()
    assert (answer.complete, answer.reusable, answer.body_bytes) == (True, False, 5)


@pytest.mark.parametrize("raw", [b"", PLAIN[:10], PLAIN[:-1], CHUNKED[:-1]])
def test_an_answer_cut_short_is_never_complete(raw: bytes) -> None:
    """A length that was promised and not kept is a failure."""
    answer = fed(raw)
    answer.end()
    assert not answer.complete


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n", b"\x00\x01\x02\x03", b"HTTP/9.9 9 9\r\n\r\n"])
def test_what_is_not_http_is_broken(raw: bytes) -> None:
    """And it is not an answer."""
    answer = fed(raw)
    assert (answer.broken, answer.complete) == (True, False)


@pytest.mark.parametrize("more", [PLAIN, b"x"])
def test_more_than_was_asked_for_costs_the_connection_alone(more: bytes) -> None:
    """The answer stands; nothing else is sent on that connection."""
    answer = fed(PLAIN + more)
    assert (answer.complete, answer.broken, answer.reusable) == (True, False, False)
    assert answer.body_bytes == 5


def test_a_connection_serves_one_answer_after_the_other() -> None:
    """Nothing of the first is left in the second."""
    answer = fed(CHUNKED)
    answer.restart()
    assert (answer.complete, answer.status) == (False, 0)
    answer.feed(memoryview(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
    assert (answer.complete, answer.status, answer.body_bytes) == (True, 503, 0)
    assert not answer.reusable
