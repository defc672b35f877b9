"""A loaded model at work: batches of calls decoded, joined, computed and encoded again."""

import contextlib
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from servers.batcher import Ticket
from servers.batching import Batching, alone
from servers.device import Cpu, Device
from servers.handlers import Answer, Handlers, Request, Watch, failed
from servers.signature import Signature
from servers.stacking import Unsplittable, join, split
from servers.tensors import Array, Kinds

MAX_KINDS = 256
"""Kinds of tensors that are remembered."""


class Tensors(Struct, frozen=True):
    """A call whose input came as tensors: it needs no input_fn and no output_fn."""

    arrays: Mapping[str, Array]
    """By the names of the signature's inputs."""
    kinds: Kinds
    """What they are."""


class Computed(Struct, frozen=True):
    """What predict_fn made of `Tensors`, or why there is nothing."""

    outputs: Mapping[str, Array] = {}
    """By the names of the signature's outputs."""
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

    @property
    def of_tensors(self) -> bool:
        return isinstance(self.parts[0].ticket.wanted, Tensors)


@dataclass(frozen=True)
class Engine:
    """The `batcher.Server` of a user's model; all but `prepare` in the thread of the model."""

    handlers: Handlers
    model: Any
    batching: Batching = field(default_factory=lambda: alone("switched off"))
    device: Device = field(default_factory=Cpu)
    signature: Signature | None = None
    """What the tensors of a call are to predict_fn; without it there are no `Tensors`."""
    executions: Counter[int] = field(default_factory=Counter)
    """How many times predict_fn was called for so many requests at once."""
    _keys: dict[Kinds, Hashable | None] = field(default_factory=dict)

    @property
    def joins(self) -> bool:
        """Whether several calls may be computed together."""
        return self.batching.way is not None

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
                    group.joined = self._join(group)
        return groups

    def finish(self, prepared: list[_Group]) -> Iterable[list[Ticket]]:
        """Each group's tickets, answered, as soon as they are."""
        for group in prepared:
            with self.device.stream():
                if group.joined is None or not self._together(group):
                    for part in group.parts:
                        self._alone(part)
            yield [part.ticket for part in group.parts]

    def _join(self, group: _Group) -> Any:
        inputs, way = [part.data for part in group.parts], self.batching.way
        assert way is not None
        if not group.of_tensors:
            return self.device.join(inputs, way)
        assert self.signature is not None
        if self.device.ahead:  # it has a memory to join in, for what is its library's already
            return self.device.join([self.signature.data(arrays) for arrays in inputs], way)
        return self.signature.data(join(inputs, way))

    def _decode(self, part: _Part) -> None:
        wanted = part.ticket.wanted
        if isinstance(wanted, Tensors):
            part.data = wanted.arrays
            part.key = self._key(wanted)
            return
        if isinstance(wanted, Request) and self.handlers.batches:
            try:
                part.data = self.handlers.decode(wanted, part.watch)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
                part.ticket.answer = failed(error, part.watch)
                return
        else:
            return
        part.key = self.batching.key(part.data)

    def _key(self, wanted: Tensors) -> Hashable | None:
        """Equal for tensors that may be joined; found out once for those of the same kinds."""
        keys, kinds = self._keys, wanted.kinds
        if kinds not in keys:
            assert self.signature is not None
            if len(keys) >= MAX_KINDS:
                keys.clear()
            try:
                key = self.batching.key(self.signature.data(wanted.arrays))
            except UnicodeDecodeError:
                return None
            # Arrays of texts differ in shape, although what is made of them does not.
            rests = tuple(shape[1:] for _, _, shape in kinds)
            keys[kinds] = None if key is None else (Tensors, key, rests)
        return keys[kinds]

    def _together(self, group: _Group) -> bool:
        """Answer all at once; false when it cannot be done, and nothing is answered."""
        began_s = time.perf_counter()
        counts = self.batching.counts([part.data for part in group.parts])
        try:
            whole = self.handlers.predict(self.model, group.joined)
            took_s = time.perf_counter() - began_s
            if group.of_tensors:
                outputs = self._outputs(whole, counts)
                for part, each in zip(group.parts, outputs, strict=True):
                    part.ticket.answer = Computed(each, None, took_s)
            else:
                assert self.batching.way is not None
                results = split(whole, counts, self.batching.way)
                for part, result in zip(group.parts, results, strict=True):
                    part.watch.spans["predict"] = took_s
                    self._encode(part, result)
        except Exception:  # noqa: BLE001 - one of them is to blame: each is computed by itself
            return False
        self.executions[len(group.parts)] += 1
        return True

    def _outputs(self, whole: Any, counts: Sequence[int]) -> list[Any]:
        """The arrays of each part of a joint result; what is wrong in one part is raised."""
        assert self.signature is not None
        assert self.batching.way is not None
        if self.batching.way == "rows":
            # All at once is a twentieth of the work.
            with contextlib.suppress(ValueError, Unsplittable):
                return split(self.signature.results(whole), counts, "rows")
        return [self.signature.results(part) for part in split(whole, counts, self.batching.way)]

    def _alone(self, part: _Part) -> None:
        wanted = part.ticket.wanted
        if part.ticket.answer is not None:
            return
        if isinstance(wanted, Next | Close):
            part.ticket.answer = _piece(wanted)
        elif isinstance(wanted, Tensors):
            part.ticket.answer = self._computed(wanted, part.watch)
        elif not self.handlers.batches:
            part.ticket.answer = self.handlers.transform(self.model, wanted)
        else:
            try:
                with part.watch.span("predict"):
                    result = self.handlers.predict(self.model, part.data, wanted)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
                part.ticket.answer = failed(error, part.watch)
            else:
                self.executions[1] += 1
                self._encode(part, result)

    def _computed(self, wanted: Tensors, watch: Watch) -> Computed:
        """What predict_fn makes of one call's tensors."""
        assert self.signature is not None
        try:
            data = self.signature.data(wanted.arrays)
        except UnicodeDecodeError as error:
            return _refused(400, f"A text is not UTF-8: {error}.")
        try:
            with watch.span("predict"):
                result = self.handlers.predict(self.model, data)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            return Computed(failure=failed(error, watch))
        self.executions[1] += 1
        try:
            return Computed(self.signature.results(result), None, watch.spans["predict"])
        except (ValueError, TypeError) as error:
            return _refused(500, f"{error}. Correct the model's signature.")

    def _encode(self, part: _Part, result: Any) -> None:
        try:
            part.ticket.answer = self.handlers.encode(result, part.ticket.wanted, part.watch)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            part.ticket.answer = failed(error, part.watch)


def _refused(status: int, text: str) -> Computed:
    return Computed(failure=Answer(status, text.encode(errors="replace"), "text/plain"))


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
