"""A function of the user's own as a client."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients import Function
from bench.errors import ConfigError
from bench.workload import Workload
from scenarios.bodies import BodyReader
from scenarios.compatible import Call
from scenarios.request import headers


@dataclass(frozen=True)
class Request:
    """What a user's function is given; its answer is whatever it returns.

    Returned bytes or text are the answer's body, a whole number is its HTTP status, None says that
    all went well; what it raises is a failed request.
    """

    url: str
    headers: dict[str, str]
    timeout_s: float
    index: int
    """Which of the bodies it is."""
    body: bytes | BodyReader
    """The body; a large one is a file, open for reading."""
    first_byte: Callable[[], None]
    """To be called when the answer begins, for those who can tell."""


class FunctionCaller:
    """Calls it in a greenlet: Locust has made the standard library cooperative by then."""

    def __init__(self, kind: Function, url: str, workload: Workload) -> None:
        self._url = url
        self._headers = headers(workload)
        self._timeout_s = workload.request_timeout_s
        self._function = _function(kind.path)

    def call(self, call: Call) -> None:
        """Call the function, and take what it returns for the answer."""
        answer = self._function(
            Request(
                self._url,
                dict(self._headers),
                self._timeout_s,
                call.index,
                call.body(),
                call.first_byte,
            )
        )
        if isinstance(answer, int) and not isinstance(answer, bool):
            call.refused(answer)
        elif isinstance(answer, bytes | str):
            call.response_bytes = len(answer)

    def close(self) -> None:
        """The function keeps its own connections."""


def _function(where: str) -> Callable[[Request], Any]:
    path, _, name = where.rpartition(":")
    file = Path(path).resolve()
    spec = importlib.util.spec_from_file_location(f"_weighbridge_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"client.path = {where!r}: there is no Python file {file}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"client.path: {file} fails: {type(error).__name__}: {error}.") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"client.path = {where!r}: {file} has no function {name!r}.")
    found: Callable[[Request], Any] = function
    return found
