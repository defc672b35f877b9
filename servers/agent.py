"""One input object from the store through a model and back: a batch job's unit of work.

`transform_object` is a plain function of plain values, so any `concurrent.futures.Executor` can
run it: in a process beside each instance, or in a cluster's workers.
"""

import contextlib
import os
import struct
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from msgspec import Struct

from servers.caller import Caller, CallOrder, HttpCaller, Lost, Refused
from servers.joining import Kind, Processing, Stamp
from servers.jsonpath import compiled
from servers.places import Draft, StoreFailed, read_chunks
from servers.splitting import BadObject, MiniBatch, Splitting, SplitType, mini_batches

PROGRESS = struct.Struct("<QQQ")
"""What the progress file of an agent holds: records, bytes read, bytes written of its object."""


class Filters(Struct, frozen=True):
    """What is done around the model, and the format it works on."""

    kind: Kind
    before: str = "$"
    join: bool = False
    after: str = "$"
    end_included: bool = False
    stamp: Stamp | None = None


class ObjectOrder(Struct, frozen=True):
    """All that is needed to transform one object, anywhere."""

    number: int
    source: str
    target: str
    call: CallOrder
    draft: str | None = None
    """A file of this machine that takes the output until it is whole; None: a temporary one."""
    split: SplitType = "None"
    single: bool = False
    limit_bytes: int = 6 << 20
    """0: the whole object is streamed in one call."""
    concurrent: int = 1
    gzip: bool = False
    assemble_lines: bool = False
    filters: Filters | None = None
    progress: str | None = None
    stop: str | None = None
    """A file whose existence says that the job is to stop."""


class ObjectResult(Struct, frozen=True):
    """What became of an object. ``lost``: the container is gone, so it may be tried again."""

    number: int
    status: Literal["done", "failed", "stopped", "lost"]
    records: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    calls: int = 0
    reason: str = ""


class _Stopped(Exception):
    pass


def ready() -> None:
    """Does nothing: whoever runs it has imported what agents need."""


def transform_object(order: ObjectOrder) -> ObjectResult:
    """Do what ``order`` says; every outcome is a result, and none leaves half an output."""
    caller = HttpCaller(order.call)
    work = _Work(order, caller)
    try:
        with _drafted(order) as draft:
            if order.limit_bytes:
                work.by_batches(draft)
            else:
                work.streamed(draft)
            work.check_stop()
            draft.publish()
            return work.result("done")
    except _Stopped:
        return work.result("stopped")
    except Lost as error:
        stopped = work.asked_to_stop()
        return work.result("stopped" if stopped else "lost", f"the container ended: {error}")
    except Refused as error:
        kind = "ClientError" if error.code.startswith("4") else "AlgorithmError"
        return work.result("failed", f"{kind}: {error.code} {error}")
    except BadObject as error:
        return work.result("failed", f"ClientError: {error}")
    except StoreFailed as error:
        return work.result("failed", f"InternalServerError: {error}")
    except OSError as error:  # the disk of the draft or of the output
        return work.result("failed", f"InternalServerError: the output cannot be written: {error}")
    finally:
        caller.close()


@contextlib.contextmanager
def _drafted(order: ObjectOrder) -> Iterator[Draft]:
    with contextlib.ExitStack() as stack:
        path = order.draft
        if path is None:
            path = f"{stack.enter_context(tempfile.TemporaryDirectory(prefix='weighbridge-'))}/out"
        yield stack.enter_context(Draft(order.target, Path(path)))


class _Work:
    def __init__(self, order: ObjectOrder, caller: Caller) -> None:
        self._order = order
        self._caller = caller
        self._processing = processing_of(order)
        self._records = self._read = self._written = self._calls = 0
        self._progress = (
            os.open(order.progress, os.O_WRONLY | os.O_CREAT, 0o644) if order.progress else None
        )

    def result(
        self, status: Literal["done", "failed", "stopped", "lost"], reason: str = ""
    ) -> ObjectResult:
        if self._progress is not None:
            os.close(self._progress)
            self._progress = None
        counts = (self._records, self._read, self._written, self._calls)
        return ObjectResult(self._order.number, status, *counts, reason)

    def by_batches(self, draft: Draft) -> None:
        """At most ``concurrent`` calls at a time and one batch ready; answers in order."""
        order = self._order
        waiting: deque[tuple[MiniBatch, Future[bytes]]] = deque()
        how = Splitting(order.split, order.single, order.limit_bytes)
        pool = ThreadPoolExecutor(order.concurrent, "call")
        try:
            for batch in mini_batches(self._counted(), how):
                self.check_stop()
                waiting.append((batch, pool.submit(self._caller.call, self._sent(batch))))
                if len(waiting) > order.concurrent:
                    self._write(draft, *waiting.popleft())
            while waiting:
                self._write(draft, *waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def streamed(self, draft: Draft) -> None:
        """The object as one request of any length (MaxPayloadInMB is 0)."""
        self._calls = self._records = 1
        for piece in self._caller.stream(self._checked()):
            self.check_stop()
            draft.write(piece)
            self._written = draft.bytes

    def asked_to_stop(self) -> bool:
        return self._order.stop is not None and os.path.exists(self._order.stop)

    def check_stop(self) -> None:
        if self.asked_to_stop():
            raise _Stopped

    def _sent(self, batch: MiniBatch) -> bytes:
        return batch.body if self._processing is None else self._processing.sent(batch)

    def _write(self, draft: Draft, batch: MiniBatch, answer: Future[bytes]) -> None:
        body = answer.result()
        if self._processing is not None:
            body = self._processing.written(batch, body)
        draft.write(body)
        if self._order.assemble_lines and not body.endswith(b"\n"):
            draft.write(b"\n")
        self._records += batch.records
        self._calls += 1
        self._written = draft.bytes
        if self._progress is not None:
            packed = PROGRESS.pack(self._records, self._read, self._written)
            os.pwrite(self._progress, packed, 0)

    def _counted(self) -> Iterator[bytes]:
        for chunk in read_chunks(self._order.source, self._order.gzip):
            self._read += len(chunk)
            yield chunk

    def _checked(self) -> Iterator[bytes]:
        for chunk in self._counted():
            self.check_stop()
            yield chunk


def processing_of(order: ObjectOrder) -> Processing | None:
    """What is done around the model; None when nothing is."""
    filters = order.filters
    if filters is None:
        return None
    before = compiled(filters.before, filters.end_included)
    after = compiled(filters.after, filters.end_included)
    if before.everything and after.everything and not filters.join and filters.stamp is None:
        return None
    by_line = order.split == "Line" or filters.kind != "json"
    return Processing(filters.kind, by_line, before, filters.join, after, filters.stamp)
