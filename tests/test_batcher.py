import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch

from servers.batcher import Batcher, Overloaded, Policy, ThreadSink, Ticket, TimedOut
from servers.batching import find_batching
from servers.bodies import JSON
from servers.device import Cuda, device_of
from servers.engine import Computed, Engine, Tensors
from servers.handlers import Request, load_handlers
from servers.signature import Signature, Tensor
from servers.tensors import DATATYPES

DEADLINE_S = 20


class Held:
    """A server that answers with what was asked, when it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[list[Any]] = SimpleQueue()
        self.prepared: SimpleQueue[list[Any]] = SimpleQueue()
        self.go = threading.Semaphore(0)

    def prepare(self, tickets: list[Ticket]) -> list[Ticket]:
        self.prepared.put([ticket.wanted for ticket in tickets])
        return tickets

    def finish(self, prepared: list[Ticket]) -> Iterable[list[Ticket]]:
        self.begun.put([ticket.wanted for ticket in prepared])
        assert self.go.acquire(timeout=DEADLINE_S)
        for ticket in prepared:
            ticket.answer = ticket.wanted
        yield prepared


class Collected:
    """A sink that keeps what is delivered."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[Any] = SimpleQueue()

    def deliver(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.answers.put(ticket.answer)


@contextmanager
def batching(server: Any, policy: Policy, ahead: bool = False) -> Iterator[Batcher]:
    """A batcher at work."""
    batcher = Batcher(server, policy, ahead)
    with ThreadPoolExecutor(1) as thread:
        batcher.start(thread)
        try:
            yield batcher
        finally:
            batcher.stop()


def test_a_batch_is_what_came_while_the_model_was_busy() -> None:
    """The first call goes alone at once; those that come meanwhile go together, in their order."""
    server, sink = Held(), Collected()
    with batching(server, Policy(max_batch=4)) as batcher:
        batcher.submit(Ticket(0, sink))
        assert server.begun.get(timeout=DEADLINE_S) == [0]
        for number in range(1, 7):
            batcher.submit(Ticket(number, sink))
        server.go.release(3)
        assert server.begun.get(timeout=DEADLINE_S) == [1, 2, 3, 4]
        assert server.begun.get(timeout=DEADLINE_S) == [5, 6]
        assert [sink.answers.get(timeout=DEADLINE_S) for _ in range(7)] == list(range(7))


def test_a_caller_alone_does_not_wait_for_others() -> None:
    """However long the delay may be, it is not spent as long as calls come one by one."""
    server = Held()
    with batching(server, Policy(max_delay_s=DEADLINE_S * 10)) as batcher:
        server.go.release(3)
        assert [ThreadSink().call(batcher, number) for number in range(3)] == [0, 1, 2]


def test_after_a_batch_the_next_waits_for_as_many() -> None:
    """With a delay, a call that follows a batch is held until as many have come."""
    server, sink = Held(), Collected()
    with batching(server, Policy(max_delay_s=DEADLINE_S * 10)) as batcher:
        for number in range(3):
            batcher.submit(Ticket(number, sink))
            if number == 0:
                server.begun.get(timeout=DEADLINE_S)
        server.go.release(2)
        assert server.begun.get(timeout=DEADLINE_S) == [1, 2]
        for number in (3, 4):
            batcher.submit(Ticket(number, sink))
        server.go.release(1)
        assert server.begun.get(timeout=DEADLINE_S) == [3, 4]


def test_a_full_queue_and_a_late_answer_are_told() -> None:
    """Calls beyond the limit are refused; one that waits too long gives up and is not computed."""
    server = Held()
    with batching(server, Policy(max_waiting=2, timeout_s=0.05)) as batcher:
        first = Ticket("held", Collected())
        batcher.submit(first)
        server.begun.get(timeout=DEADLINE_S)
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            ThreadSink().call(batcher, "late")
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            batcher.submit(Ticket("too many", Collected()))
        server.go.release(1)
    assert server.begun.empty(), "what was given up was computed"
    assert batcher.waiting == 0


def test_ahead_the_next_batch_is_prepared_while_the_model_works() -> None:
    """With a GPU one batch beyond the one that is computed is ready, and no more."""
    server, sink = Held(), Collected()
    with batching(server, Policy(max_batch=1), ahead=True) as batcher:
        for number in range(4):
            batcher.submit(Ticket(number, sink))
        assert server.begun.get(timeout=DEADLINE_S) == [0]
        assert [server.prepared.get(timeout=DEADLINE_S) for _ in range(2)] == [[0], [1]]
        server.go.release(4)
        assert [sink.answers.get(timeout=DEADLINE_S) for _ in range(4)] == [0, 1, 2, 3]


ROWS = """
import numpy as np
CALLS = []
def model_fn(model_dir): return CALLS
def input_fn(body, content_type):
    import json
    return np.array(json.loads(body), dtype=float)
def predict_fn(data, model):
    model.append(len(data))
    if (data < 0).any():
        raise ValueError("negative")
    return data * 2
"""


def test_the_engine_answers_each_of_a_batch_with_its_own(make_model: Callable[[str], Path]) -> None:
    """Joined calls get their rows; a bad body and a bad value spoil only their own answer."""
    handlers = load_handlers(make_model(ROWS))
    calls: list[int] = handlers.load_model(Path())
    samples = [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])]
    found = find_batching(lambda data: handlers.predict(calls, data), samples, 4)
    engine = Engine(handlers, calls, found)
    calls.clear()

    def answers(bodies: list[bytes]) -> list[tuple[int, bytes]]:
        tickets = [Ticket(Request(body, JSON, JSON), Collected()) for body in bodies]
        done = [each for group in engine.finish(engine.prepare(tickets)) for each in group]
        assert done == tickets
        return [(ticket.answer.status, ticket.answer.body) for ticket in tickets]

    assert answers([b"[[1,2]]", b"[[3,4],[5,6]]", b"[[7,8]]"]) == [
        (200, b"[[2.0,4.0]]"),
        (200, b"[[6.0,8.0],[10.0,12.0]]"),
        (200, b"[[14.0,16.0]]"),
    ]
    assert calls == [4]
    mixed = answers([b"[[1,2]]", b"no json", b"[[-1,2]]", b"[[1,2,3]]"])
    assert [status for status, _ in mixed] == [200, 500, 500, 200]
    assert b"negative" in mixed[2][1]


def tensors(engine: Engine, rows: list[Any], datatype: str = "FP64") -> list[Computed]:
    """What comes of these inputs when they are there at once."""
    arrays = [np.array(row, DATATYPES[datatype]) for row in rows]
    asked = [Tensors({"x": each}, (("x", datatype, each.shape),)) for each in arrays]
    tickets = [Ticket(each, Collected()) for each in asked]
    assert [each for group in engine.finish(engine.prepare(tickets)) for each in group] == tickets
    return [ticket.answer for ticket in tickets]


@pytest.mark.parametrize("first", [-1, 1])
def test_calls_of_tensors_are_joined_and_taken_apart(
    make_model: Callable[[str], Path], first: int
) -> None:
    """Each gets its rows, whether the signature leaves their number open or each has one."""
    handlers = load_handlers(make_model(ROWS))
    calls: list[int] = handlers.load_model(Path())
    samples = [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])]
    found = find_batching(lambda data: handlers.predict(calls, data), samples, 4)
    signature = Signature([Tensor("x", "FP64", [first, 2])], [Tensor("y", "FP64", [first, 2])])
    engine = Engine(handlers, calls, found, signature=signature)
    calls.clear()
    answers = tensors(engine, [[[1, 2]], [[3, 4]], [[5, 6]]])
    assert [each.outputs["y"].tolist() for each in answers] == [[[2, 4]], [[6, 8]], [[10, 12]]]
    assert calls == [3]
    good, bad = tensors(engine, [[[1, 2]], [[-1, 2]]])
    assert good.outputs["y"].tolist() == [[2, 4]]
    assert bad.failure is not None
    assert b"negative" in bad.failure.body


def test_a_call_of_tensors_that_fails_is_told_why(make_model: Callable[[str], Path]) -> None:
    """Texts that are not UTF-8 are the caller's fault, an output of another shape the model's."""
    program = """
    def model_fn(model_dir): return None
    def predict_fn(data, model): return [text.upper() for text in data]
    """
    handlers = load_handlers(make_model(program))
    words = find_batching(lambda data: handlers.predict(None, data), [["a"], ["b"]], 4)
    signature = Signature([Tensor("x", "BYTES", [-1])], [Tensor("y", "BYTES", [1])])
    engine = Engine(handlers, None, words, signature=signature)
    texts = [[b"one"], [b"\xff"], [b"two"], [b"three", b"four"]]
    one, bad, two, long = tensors(engine, texts, "BYTES")
    assert [one.outputs["y"].tolist(), two.outputs["y"].tolist()] == [[b"ONE"], [b"TWO"]]
    assert bad.failure is not None
    assert bad.failure.status == 400
    assert b"not UTF-8" in bad.failure.body
    assert long.failure is not None
    assert long.failure.status == 500
    assert b"Correct the model's signature" in long.failure.body


def test_texts_of_some_shape_are_joined_with_their_like(make_model: Callable[[str], Path]) -> None:
    """Each call gets what belongs to its texts, however they are arranged."""
    program = """
    CALLS = []
    def model_fn(model_dir): return CALLS
    def predict_fn(data, model):
        model.append(len(data))
        return [len(text) for text in data]
    """
    handlers = load_handlers(make_model(program))
    calls: list[int] = handlers.load_model(Path())
    words = find_batching(lambda data: handlers.predict(calls, data), [["a"], ["bc"]], 4)
    signature = Signature([Tensor("x", "BYTES", [-1, 2])], [Tensor("y", "INT64", [-1])])
    engine = Engine(handlers, calls, words, signature=signature)
    calls.clear()
    pairs = [[[b"a", b"bc"]], [[b"", b"d"], [b"efg", b"h"]]]
    answers = tensors(engine, [*pairs, [[b"i"]], [[b"jk"]]], "BYTES")
    assert [each.outputs["y"].tolist() for each in answers] == [[1, 2], [0, 1, 3, 1], [1], [2]]
    assert calls == [6, 2]


def test_without_a_gpu_auto_is_the_processor() -> None:
    """``cpu`` is always the processor, and so is ``auto`` where torch finds no GPU."""
    assert not device_of({"WEIGHBRIDGE_DEVICE": "cpu"}).ahead
    assert device_of({}).ahead == torch.cuda.is_available()


class FakeTorch:
    """torch with a GPU that notes how it is used; sums and shapes are torch's own."""

    cat, stack = torch.cat, torch.stack

    def __init__(self) -> None:
        self.used: list[Any] = []
        self.cuda = self

    def Stream(self, device: str) -> str:
        return f"stream of {device}"

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        self.used.append(stream)
        yield

    @contextmanager
    def device(self, name: str) -> Iterator[None]:
        self.used.append(name)
        yield

    def empty(self, shape: Any, dtype: Any, pin_memory: bool) -> torch.Tensor:
        self.used.append(("pinned", tuple(shape), pin_memory))
        return torch.empty(shape, dtype=dtype)


def test_on_a_gpu_batches_are_joined_in_pinned_memory() -> None:
    """Tensors are joined straight into pinned memory, within the one stream of the device."""
    fake = FakeTorch()
    device = Cuda(fake, "cuda:1")
    with device.stream():
        joined = device.join([torch.ones(1, 3), torch.zeros(2, 3)], "rows")
        stacked = device.join([{"x": torch.ones(3)}, {"x": torch.zeros(3)}], "items")
    assert joined.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert stacked["x"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert fake.used == [
        "cuda:1",
        "stream of cuda:1",
        ("pinned", (3, 3), True),
        ("pinned", (2, 3), True),
    ]
