"""Documents of AWS's JSON 1.1 control APIs: read, refused, sorted and paged alike everywhere."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from servers.wire import ACCOUNT, REGION, ApiError

Document = dict[str, Any]

MAX_RESULTS = 100

T = TypeVar("T")


class Listed(Protocol):
    """What a list operation shows."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def created_s(self) -> float: ...
    @property
    def modified_s(self) -> float: ...


L = TypeVar("L", bound=Listed)

_SORT: dict[str, Callable[[Any], Any]] = {
    "Name": lambda item: item.name,
    "CreationTime": lambda item: (item.created_s, item.name),
    "Status": lambda item: (item.status, item.name),
}
_ORDER = {"Ascending": False, "Descending": True}


class QueryError(ApiError):
    """Of an API that was spoken in queries before: boto3 shows the code that it had there."""

    def __init__(self, status: int, code: str, message: str, query_code: str = "") -> None:
        super().__init__(status, code, message)
        self.query_code = query_code or code


def invalid(message: str) -> ApiError:
    """400: a member breaks a rule."""
    return ApiError(400, "ValidationException", message)


def arn(kind: str, name: str) -> str:
    """The Amazon resource name, as the service spells it."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


def document_of(body: bytes) -> Document:
    """The request; SerializationException when it is not a JSON object."""
    try:
        document = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, RecursionError):
        raise ApiError(400, "SerializationException", "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise ApiError(400, "SerializationException", "The body is not a JSON object.")
    return document


def converted(body: Document, kind: type[T]) -> T:
    """The request as a value; ValidationException names the member and the rule it breaks."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise invalid(f"1 validation error detected: {error}") from None


def text_of(body: Document, name: str) -> str:
    """A member that must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"1 validation error detected: {name} must be a text.")
    return value


def known(document: Document) -> Document:
    """The members that have a value: JSON's null is not an absent member."""
    return {name: value for name, value in document.items() if value is not None}


def page_of(items: Iterable[L], body: Document) -> tuple[list[L], Document]:
    """The items that the request wants, in its order, and ``NextToken`` where there are more."""
    found = sorted(
        (item for item in items if _wanted(item, body)),
        key=_chosen(_SORT, body, "SortBy", "CreationTime"),
        reverse=_chosen(_ORDER, body, "SortOrder", "Descending"),
    )
    size, token = body.get("MaxResults") or MAX_RESULTS, str(body.get("NextToken") or "0")
    # A token of thousands of digits is no number that Python reads.
    good = isinstance(size, int) and 1 <= size <= MAX_RESULTS
    if not good or not token.isdecimal() or len(token) > 9:
        raise invalid("1 validation error detected: MaxResults is 1 to 100; NextToken as answered.")
    begin = int(token)
    more = {"NextToken": str(begin + size)} if begin + size < len(found) else {}
    return found[begin : begin + size], more


def _wanted(item: Listed, body: Document) -> bool:
    tests: dict[str, Callable[[Any], bool]] = {
        "NameContains": lambda text: str(text).lower() in item.name.lower(),
        "StatusEquals": lambda status: bool(item.status == status),
        "CreationTimeAfter": lambda at_s: item.created_s > _number(at_s),
        "CreationTimeBefore": lambda at_s: item.created_s < _number(at_s),
        "LastModifiedTimeAfter": lambda at_s: item.modified_s > _number(at_s),
        "LastModifiedTimeBefore": lambda at_s: item.modified_s < _number(at_s),
    }
    return all(test(body[name]) for name, test in tests.items() if body.get(name) is not None)


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise invalid(f"1 validation error detected: {value!r} is not a time.")
    return float(value)


def _chosen(choices: dict[str, Any], body: Document, name: str, default: str) -> Any:
    value = body.get(name) or default
    if value not in choices:
        raise invalid(f"1 validation error detected: {name} must be one of {', '.join(choices)}.")
    return choices[value]
