"""Any S3-compatible store by its address, through obstore; keys come from AWS_* variables.

An answer is staged in a local file until its outcome is decided, and then uploaded whole: readers
see no part of it. obstore sends large objects in parts.
"""

import asyncio
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store as Client

from servers.store import PIECE_BYTES, About, Location, Pieces, Staged, StoreError, no_such_key

CLIENTS_MAX = 100
PART_BYTES = 8 << 20


class S3Store:
    """A `Store` behind an S3 address."""

    def __init__(self, url: str, staging: Path | None = None) -> None:
        self._url = url
        self._staging = staging or Path(tempfile.gettempdir()) / "weighbridge-staged"
        self._clients: dict[str, Client] = {}

    async def stage(self, pieces: Pieces) -> Staged:
        self._staging.mkdir(parents=True, exist_ok=True)
        path, size = self._staging / uuid.uuid4().hex, 0
        try:
            with path.open("wb", buffering=0) as file:
                async for piece in pieces:
                    size += len(piece)
                    await asyncio.to_thread(_write, file.fileno(), piece)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(507, "InsufficientStorage", f"It cannot be staged: {error}") from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Staged(str(path), size, "")

    async def publish(self, where: Location, staged: str, about: About) -> None:
        path = Path(staged)
        if not path.exists():
            return  # published before
        client = self._client(where.bucket)
        with _worded(where):
            await obstore.put_async(
                client,
                where.key,
                path,
                attributes={"Content-Type": about.content_type},
                chunk_size=PART_BYTES,
                max_concurrency=2,
            )
        path.unlink(missing_ok=True)

    async def discard(self, staged: str) -> None:
        Path(staged).unlink(missing_ok=True)

    async def check(self, where: Location) -> None:
        """Nothing is asked: whether a put succeeds is seen when it is made."""

    async def put(self, where: Location, pieces: Pieces, about: About) -> About:
        staged = await self.stage(pieces)
        await self.publish(where, staged.ref, about)
        return await self.head(where)

    async def read(
        self, where: Location, begin: int = 0, end: int | None = None
    ) -> tuple[About, "_Reading"]:
        about = await self.head(where)
        last = about.size if end is None else end
        client = self._client(where.bucket)

        async def start() -> Any:
            with _worded(where):
                options: Any = {"range": (begin, last)}
                return await obstore.get_async(client, where.key, options=options)

        return about, _Reading(start if last > begin else None, where)

    async def head(self, where: Location) -> About:
        with _worded(where):
            meta = await obstore.head_async(self._client(where.bucket), where.key)
        tag = (meta.get("e_tag") or "").strip('"')
        return About(int(meta["size"]), tag, meta["last_modified"].timestamp())

    async def close(self) -> None:
        self._clients.clear()

    def _client(self, bucket: str) -> Client:
        if bucket not in self._clients:
            if len(self._clients) >= CLIENTS_MAX:
                self._clients.clear()
            self._clients[bucket] = Client(
                bucket,
                endpoint=self._url,
                region=os.environ.get("AWS_REGION", "us-east-1"),
                virtual_hosted_style_request=False,
                client_options={"allow_http": self._url.startswith("http://"), "timeout": "60s"},
            )
        return self._clients[bucket]


class _Reading:
    def __init__(self, start: Callable[[], Any] | None, where: Location) -> None:
        self._start = start
        self._where = where
        self._pieces: Any = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._start is None:
            raise StopAsyncIteration
        with _worded(self._where):
            if self._pieces is None:
                result = await self._start()
                self._pieces = aiter(result.stream(min_chunk_size=PIECE_BYTES))
            return bytes(await anext(self._pieces))

    async def aclose(self) -> None:
        self._start = self._pieces = None


@contextlib.contextmanager
def _worded(where: Location) -> Any:
    """obstore's errors as a `StoreError`."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise no_such_key(where) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(403, "AccessDenied", f"{where}: access denied") from error
    except StopAsyncIteration:
        raise
    except obstore.exceptions.BaseError as error:
        text = str(error).splitlines()[0][:300]
        raise StoreError(
            502, "ServiceUnavailable", f"{where} at {time.time():.0f}: {text}"
        ) from error


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]
