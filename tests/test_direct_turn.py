"""Requests to instances that can be asked at once, and what is done when these do not answer."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from servers.client_connection import Broken
from servers.endpoint import Invocation, Served
from servers.wire import ApiError
from tests.house import House, live, target
from tests.serving import eventually_async


class Caller:
    """Waits for what comes of a request."""

    def __init__(self, house: House) -> None:
        self.found: list[Served | Exception] = []
        self.tasks: list[asyncio.Task[None]] = []
        house.endpoint.begin(Invocation(b"!", {}, "id", house.timers.now()), self)

    def served(self, served: Served) -> None:
        self.found.append(served)

    def failed(self, error: Exception) -> None:
        self.found.append(error)

    def later(self, answering: Coroutine[Any, Any, Served]) -> None:
        async def wait() -> None:
            try:
                self.served(await answering)
            except ApiError as error:
                self.failed(error)

        self.tasks.append(asyncio.create_task(wait()))

    async def answer(self) -> Served | Exception:
        await eventually_async(lambda: bool(self.found))
        [found] = self.found
        return found


def answered(house: House, status: int, body: bytes) -> Served | Exception:
    """What a caller gets at once when an instance answers so."""
    caller = Caller(house)
    [received] = [each.asked[-1] for each in house.instances if each.asked]
    assert not caller.found
    assert house.endpoint.status()["in_flight"] == 1
    received.status = status
    received.received(body)
    received.complete()
    assert not caller.tasks, "it takes no task"
    [found] = caller.found
    return found


def test_an_instance_is_asked_at_once_and_its_answer_is_the_callers(tmp_path: Path) -> None:
    """An answer, an error and one too large: each is told at once, and counted."""

    async def steps(house: House) -> None:
        house.prompt = True
        served = answered(house, 200, b"yes")
        assert isinstance(served, Served)
        assert (served.answer.body, served.instance) == (b"yes", "instance-1")
        failed = answered(house, 404, b"no such thing")
        assert isinstance(failed, ApiError)
        assert failed.fields["OriginalStatusCode"] == 404
        large = answered(house, 200, b"x" * (house.endpoint.payload_max_bytes + 1))
        assert isinstance(large, ApiError)
        assert "exceeds the limit" in str(large)
        assert house.endpoint.status()["in_flight"] == 0

    _, metrics = live(tmp_path, target(), steps)
    sums = {each["kind"]: each["sum"] for each in metrics}
    assert (sums["Invocations"], sums["InvocationModelErrors"]) == (3, 2)


def test_an_answer_that_takes_too_long_is_a_model_error(tmp_path: Path) -> None:
    """Its connection takes no more, and the request is counted once."""

    async def steps(house: House) -> None:
        house.prompt = True
        caller = Caller(house)
        [instance] = house.instances
        instance.asked[0].late()
        error = await caller.answer()
        assert isinstance(error, ApiError)
        assert "timed out" in str(error)
        assert instance.retired == 1
        assert house.endpoint.status()["in_flight"] == 0

    _, metrics = live(tmp_path, target(), steps)
    sums = {each["kind"]: each["sum"] for each in metrics}
    assert (sums["Invocations"], sums["InvocationModelErrors"]) == (1, 1)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("instances", [1, 2])
def test_what_was_not_taken_is_asked_again(tmp_path: Path, sent: bool, instances: int) -> None:
    """On another connection, or of another instance; what was sent is never sent twice."""

    async def steps(house: House) -> None:
        house.prompt = True
        caller = Caller(house)
        [asked] = [each for each in house.instances if each.asked]
        asked.asked[0].fail(Broken("gone", sent=sent))
        found = await caller.answer()
        if sent:
            assert isinstance(found, ApiError)
            assert "closed the connection" in str(found)
        else:
            assert isinstance(found, Served)
            assert found.instance == asked.name
        assert house.endpoint.status()["in_flight"] == 0

    live(tmp_path, target(instance_count=instances), steps)


def test_an_instance_that_cannot_be_asked_at_once_is_waited_for(tmp_path: Path) -> None:
    """By a task; the place that was taken is used, and given back."""

    async def steps(house: House) -> None:
        caller = Caller(house)
        assert house.endpoint.status()["in_flight"] == 1
        served = await caller.answer()
        assert isinstance(served, Served)
        assert len(caller.tasks) == 1
        house.instances[0].alive = False
        refused = await Caller(house).answer()
        assert isinstance(refused, ApiError)
        assert refused.status == 503
        house.instances[0].alive = True
        assert house.endpoint.status()["in_flight"] == 0

    _, metrics = live(tmp_path, target(), steps)
    assert {each["kind"]: each["sum"] for each in metrics}["Invocations"] == 2
