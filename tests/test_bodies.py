import io

import numpy as np
import pytest

from servers.bodies import (
    BadBody,
    UnsupportedAccept,
    UnsupportedContentType,
    decode,
    encode,
)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_numbers_in_json_become_an_array() -> None:
    """A JSON list of rows of numbers is read as an array."""
    value = decode(b"[[1, 2.5], [3, 4]]", "application/json")
    assert isinstance(value, np.ndarray)
    assert value.tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"inputs": "hello"}', {"inputs": "hello"}),
        (b'["a", "b"]', ["a", "b"]),
        (b"[[1], [2, 3]]", [[1], [2, 3]]),
        (b"null", None),
    ],
)
def test_other_json_stays_as_it_is(body: bytes, value: object) -> None:
    """JSON that is no array of numbers is handed on unchanged."""
    assert decode(body, "application/json") == value


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json; charset=utf-8", "Application/JSON"]
)
def test_content_type_is_read_leniently(content_type: str | None) -> None:
    """Parameters and case of a content type do not matter, and none at all means JSON."""
    assert decode(b'{"a": 1}', content_type) == {"a": 1}


def test_csv_is_always_a_table() -> None:
    """One row of CSV has two dimensions, like many rows."""
    one, two = decode(b"1,2.5", "text/csv"), decode(b"1,2\r\n3,4\r\n", "text/csv; charset=utf-8")
    assert isinstance(one, np.ndarray)
    assert isinstance(two, np.ndarray)
    assert (one.tolist(), two.tolist()) == ([[1, 2.5]], [[1, 2], [3, 4]])


def test_npy_comes_back_as_it_was_sent() -> None:
    """An NPY body is the array that was saved, in its order, and may be written to."""
    sent = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    value = decode(npy(sent), "application/x-npy")
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.float32
    assert value.tolist() == sent.tolist()
    value[0, 0] = 9


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[1, 2", "application/json"),
        (b"", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe", "text/csv"),
        (b"  \n", "text/csv"),
        (b"length,width\n1,2\n", "text/csv"),
        (b"1,2\n3\n", "text/csv"),
        (b"", "application/x-npy"),
        (b"PK\x03\x04", "application/x-npy"),
        (npy(np.array([{"a": 1}], dtype=object)), "application/x-npy"),
        (npy(np.arange(4))[:-1], "application/x-npy"),
        (npy(np.arange(4)).replace(b"(4,)", b"(9**9,)"), "application/x-npy"),
        (npy(np.arange(4)).replace(b"(4,)", b"(-4,)"), "application/x-npy"),
    ],
)
def test_a_body_that_cannot_be_read_is_the_callers_mistake(body: bytes, content_type: str) -> None:
    """Whatever does not fit its content type is a BadBody, answered with 400."""
    with pytest.raises(BadBody) as caught:
        decode(body, content_type)
    assert caught.value.status_code == 400


def test_an_npy_header_is_not_believed() -> None:
    """A short body that claims a huge array is refused before memory is taken for it."""
    claim = npy(np.arange(4)).replace(b"(4,)", b"(99999999999,)", 1)
    with pytest.raises(BadBody):
        decode(claim, "application/x-npy")


def test_an_unknown_content_type_names_the_known_ones() -> None:
    """The refusal of a content type says what can be sent."""
    with pytest.raises(UnsupportedContentType, match=r"'image/png'.*application/json, text/csv"):
        decode(b"", "image/png")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, (b"[[1,2],[3,4]]", "application/json")),
        ("*/*", (b"[[1,2],[3,4]]", "application/json")),
        ("text/html, text/csv;q=0.5", (b"1,2\n3,4\n", "text/csv")),
        ("application/x-npy", (npy(np.array([[1, 2], [3, 4]])), "application/x-npy")),
    ],
)
def test_answers_are_written_as_accepted(accept: str | None, expected: tuple[bytes, str]) -> None:
    """The first content type in Accept that can be made is the one of the answer."""
    assert encode(np.array([[1, 2], [3, 4]]), accept) == expected


def test_accept_that_cannot_be_met_is_refused() -> None:
    """An Accept without any known type is answered with 406."""
    with pytest.raises(UnsupportedAccept, match="'image/png'"):
        encode([1], "image/png")


class Tensor:
    """Stands for any library's tensor: it has ``tolist`` and nothing else."""

    def tolist(self) -> list[float]:
        return [0.5, 1.5]


def test_tensors_need_no_import() -> None:
    """Whatever has tolist is written like an array, inside other values as well."""
    assert encode({"scores": Tensor()}, "application/json")[0] == b'{"scores":[0.5,1.5]}'
    assert encode(Tensor(), "text/csv")[0] == b"0.5\n1.5\n"
    assert encode([Tensor()], "text/csv")[0] == b"0.5,1.5\n"


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-npy"])
def test_what_cannot_be_written_is_a_type_error(accept: str) -> None:
    """A prediction that has no such form is the model's fault, not the caller's."""
    with pytest.raises(TypeError):
        encode(object(), accept)
