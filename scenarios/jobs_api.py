"""Batch transform over plain HTTP: objects put and read, jobs created and watched."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any, Protocol

HTTP_TIMEOUT_S = 600.0
ENDED = ("Completed", "Failed", "Stopped")


class Readable(Protocol):
    """A file."""

    def read(self, size: int = -1, /) -> bytes: ...


class JobRefused(Exception):
    """The server did not do it; ``code`` is the API's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class JobsApi:
    """The store and the jobs of one server."""

    def __init__(self, address: str) -> None:
        self._address = address

    def make_bucket(self, bucket: str) -> None:
        self._http("PUT", f"/s3/{bucket}", b"")

    def put(self, bucket: str, key: str, content: bytes | Readable, size: int) -> None:
        """Store ``size`` bytes; a file is sent piece by piece."""
        self._http("PUT", f"/s3/{bucket}/{key}", content, {"Content-Length": str(size)})

    @contextlib.contextmanager
    def reading(self, bucket: str, key: str) -> Iterator[IO[bytes]]:
        """An object, to be read piece by piece."""
        with self._opened("GET", f"/s3/{bucket}/{key}", None, {}) as answer:
            yield answer

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """One operation of SageMaker's control API."""
        headers = {
            "X-Amz-Target": f"SageMaker.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        answer = self._http("POST", "/", json.dumps(members).encode(), headers)
        document: dict[str, Any] = json.loads(answer)
        return document

    def _http(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        with self._opened(method, path, body, headers or {}) as answer:
            return answer.read()

    @contextlib.contextmanager
    def _opened(
        self, method: str, path: str, body: bytes | Readable | None, headers: dict[str, str]
    ) -> Iterator[IO[bytes]]:
        request = urllib.request.Request(
            self._address + path, data=body, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                document = json.loads(text)
                raise JobRefused(document["__type"], str(document["Message"])) from None
            except (ValueError, KeyError, TypeError):
                raise JobRefused(f"HTTP {error.code}", text[:500]) from None
        except OSError as error:
            raise JobRefused(type(error).__name__, str(error)) from error
