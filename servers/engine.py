"""A loaded model at work: batches of calls decoded, joined, computed and encoded again."""

import contextlib
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from servers.batcher import Ticket
from servers.batching import Batching, alone
from servers.device import Cpu, Device
from servers.handlers import Answer, Handlers, Request, Watch, failed
from servers.stacking import split


class Tensors(Struct, frozen=True):
    """A call whose input came as tensors: it needs no input_fn and no output_fn."""

    data: Any


class Computed(Struct, frozen=True):
    """What predict_fn made of `Tensors`, or why there is nothing."""

    prediction: Any = None
    failure: Answer | None = None
    predict_s: float = 0.0


@dataclass(frozen=True)
class Next:
    """A call for the next piece of a streamed answer."""

    rest: Iterator[bytes]


@dataclass(frozen=True)
class Piece:
    """The next piece of a streamed answer; None after the last one."""

    body: bytes | None
    failure: str | None = None


@dataclass(frozen=True)
class Close:
    """Nobody wants the rest of a streamed answer."""

    rest: Iterator[bytes]


class _Part:
    """One ticket on its way through a batch."""

    __slots__ = ("data", "key", "ticket", "watch")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.watch = Watch()
        self.data: Any = None
        self.key: Hashable | None = None


@dataclass
class _Group:
    """Neighbours in the queue that are computed together."""

    parts: list[_Part]
    joined: Any = None


@dataclass(frozen=True)
class Engine:
    """The `batcher.Server` of a user's model; all but `prepare` in the thread of the model."""

    handlers: Handlers
    model: Any
    batching: Batching = field(default_factory=lambda: alone("switched off"))
    device: Device = field(default_factory=Cpu)
    executions: Counter[int] = field(default_factory=Counter)
    """How many times predict_fn was called for so many requests at once."""

    def prepare(self, tickets: list[Ticket]) -> list[_Group]:
        """Decode each call, and join those neighbours that may be computed together."""
        groups: list[_Group] = []
        for ticket in tickets:
            ticket.queue_s = time.perf_counter() - ticket.arrived_s
            part = _Part(ticket)
            self._decode(part)
            if ticket.answer is None and part.key is not None and groups:
                last = groups[-1].parts[-1]
                if last.key == part.key and last.ticket.answer is None:
                    groups[-1].parts.append(part)
                    continue
            groups.append(_Group([part]))
        for group in groups:
            if len(group.parts) > 1:
                with contextlib.suppress(Exception):  # then they are computed one by one
                    group.joined = self._join([part.data for part in group.parts])
        return groups

    def finish(self, prepared: list[_Group]) -> Iterable[list[Ticket]]:
        """Each group's tickets, answered, as soon as they are."""
        for group in prepared:
            with self.device.stream():
                if group.joined is None or not self._together(group):
                    for part in group.parts:
                        self._alone(part)
            yield [part.ticket for part in group.parts]

    def _join(self, inputs: list[Any]) -> Any:
        assert self.batching.way is not None
        return self.device.join(inputs, self.batching.way)

    def _decode(self, part: _Part) -> None:
        wanted = part.ticket.wanted
        if isinstance(wanted, Tensors):
            part.data = wanted.data
        elif isinstance(wanted, Request) and self.handlers.batches:
            try:
                part.data = self.handlers.decode(wanted, part.watch)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
                part.ticket.answer = failed(error, part.watch)
                return
        else:
            return
        part.key = self.batching.key(part.data)

    def _together(self, group: _Group) -> bool:
        """Answer all at once; false when it cannot be done, and nothing is answered."""
        began_s = time.perf_counter()
        inputs = [part.data for part in group.parts]
        assert self.batching.way is not None
        try:
            whole = self.handlers.predict(self.model, group.joined)
            results = split(whole, self.batching.counts(inputs), self.batching.way)
        except Exception:  # noqa: BLE001 - one of them is to blame: each is computed by itself
            return False
        took_s = time.perf_counter() - began_s
        self.executions[len(results)] += 1
        for part, result in zip(group.parts, results, strict=True):
            part.watch.spans["predict"] = took_s
            self._encode(part, result)
        return True

    def _alone(self, part: _Part) -> None:
        wanted = part.ticket.wanted
        if part.ticket.answer is not None:
            return
        if isinstance(wanted, Next | Close):
            part.ticket.answer = _piece(wanted)
        elif isinstance(wanted, Request) and not self.handlers.batches:
            part.ticket.answer = self.handlers.transform(self.model, wanted)
        else:
            request = wanted if isinstance(wanted, Request) else None
            try:
                with part.watch.span("predict"):
                    result = self.handlers.predict(self.model, part.data, request)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
                failure = failed(error, part.watch)
                part.ticket.answer = failure if request else Computed(failure=failure)
            else:
                self.executions[1] += 1
                self._encode(part, result)

    def _encode(self, part: _Part, result: Any) -> None:
        wanted = part.ticket.wanted
        if isinstance(wanted, Tensors):
            part.ticket.answer = Computed(result, None, part.watch.spans["predict"])
            return
        try:
            part.ticket.answer = self.handlers.encode(result, wanted, part.watch)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            part.ticket.answer = failed(error, part.watch)


def _piece(wanted: Next | Close) -> Piece:
    try:
        if isinstance(wanted, Next):
            return Piece(next(wanted.rest, None))
        close = getattr(wanted.rest, "close", None)
        if close is not None:
            close()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
        return Piece(None, f"{type(error).__name__}: {error}")
    return Piece(None)
