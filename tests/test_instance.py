"""A container as a process: started, called, stopped, killed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bench.target import Realtime
from servers.archive import unpack_model
from servers.instance import (
    InstanceFailed,
    InstanceLost,
    InstanceSpec,
    InvocationTimeout,
    ProcessInstance,
    server_timing,
)
from servers.limits import Caps, Rlimits
from servers.profile import Profile, profile_for
from tests.serving import ECHO

MakeModel = Callable[[str], Path]


def profile(**values: float) -> Profile:
    return profile_for(Realtime(profile=values))


def with_instance(
    model: Path, steps: Callable[[ProcessInstance], Awaitable[None]], **values: float
) -> None:
    """Run ``steps`` with an instance of ``model`` that has not been started."""

    async def run() -> None:
        base = model.parent / "base"
        base.mkdir()
        unpack_model(model, base / "model")
        spec = InstanceSpec(base, profile(**values), model.parent / "log", Rlimits(), Caps())
        instance = ProcessInstance("one", spec)
        try:
            await steps(instance)
        finally:
            await instance.kill()
        assert not instance.alive

    asyncio.run(run())


@pytest.mark.slow
def test_an_instance_is_started_called_and_stopped(make_model: MakeModel) -> None:
    """It is alive in between, and tells the parts of its start."""

    async def steps(instance: ProcessInstance) -> None:
        assert not instance.alive
        startup = await instance.start()
        assert instance.alive
        assert 0 < startup.import_s + startup.load_s < startup.setup_s
        answer = await instance.invoke(b"[1]", {"content-type": "application/json"}, 100)
        assert (answer.status, answer.body) == (200, b"[1]")
        await instance.stop()
        assert await instance.ended() == 0

    with_instance(make_model(ECHO), steps)


@pytest.mark.slow
def test_a_start_that_takes_too_long_fails(make_model: MakeModel) -> None:
    """The process is gone and the time it had is named."""

    async def steps(instance: ProcessInstance) -> None:
        with pytest.raises(InstanceFailed, match=r"did not pass /ping within 0\.3 s"):
            await instance.start()
        assert not instance.alive

    program = "import time\ndef model_fn(d): time.sleep(60)\ndef predict_fn(x, m): pass"
    with_instance(make_model(program), steps, startup_timeout_s=0.3, stop_grace_s=0.2)


@pytest.mark.slow
def test_an_instance_that_does_not_heed_sigterm_is_killed(make_model: MakeModel) -> None:
    """After the grace time: it would finish the call that it holds, and that takes too long."""

    async def steps(instance: ProcessInstance) -> None:
        await instance.start()
        call = asyncio.create_task(instance.invoke(b'{"sleep_s": 30}', {}, 100))
        for _ in range(5):  # round trips: the call has reached it
            assert await instance.ping()
        await instance.stop()
        assert await instance.ended() == -9
        with pytest.raises(InstanceLost):
            await call

    with_instance(make_model(ECHO), steps, stop_grace_s=0.2)


@pytest.mark.slow
def test_an_instance_whose_caller_has_gone_ends_when_asked(make_model: MakeModel) -> None:
    """A call that nobody waits for any more does not keep it."""

    async def steps(instance: ProcessInstance) -> None:
        await instance.start()
        with pytest.raises(InvocationTimeout):
            await instance.invoke(b'{"sleep_s": 30}', {}, 100)
        await instance.stop()
        assert await instance.ended() == 0

    with_instance(make_model(ECHO), steps, invocation_timeout_s=0.2, stop_grace_s=5)


@pytest.mark.slow
def test_a_long_answer_is_cut_just_above_the_limit(make_model: MakeModel) -> None:
    """No more is held in memory than is needed to know that it is too long."""

    async def steps(instance: ProcessInstance) -> None:
        await instance.start()
        answer = await instance.invoke(b'"' + b"x" * 5000 + b'"', {}, 100)
        assert len(answer.body) == 101

    with_instance(make_model(ECHO), steps)


def test_server_timing_is_read_in_seconds() -> None:
    """Durations by name; descriptions and nonsense are passed over."""
    header = 'import;dur=12.5, load;dur=3, note;desc="z", bad;dur=soon'
    assert server_timing(header) == {"import": 0.0125, "load": 0.003}


LARGE = "def model_fn(d): return bytearray(600 * 2**20)\ndef predict_fn(x, m): return x"
MAPPED = """
import mmap

def model_fn(model_dir):
    file = open(f"{model_dir}/weights.bin", "rb")
    weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sum(weights[at] for at in range(0, len(weights), 4096))
    return weights

def predict_fn(x, m):
    return x
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
@pytest.mark.parametrize("program", [LARGE, MAPPED])
def test_without_control_groups_a_model_that_does_not_fit_is_told_too(
    make_model: MakeModel, program: str
) -> None:
    """Private memory by the system, mapped weights by the watchdog; the reason is the same."""
    model = make_model(program)
    (model / "weights.bin").write_bytes(bytes(600 * 2**20))

    async def run() -> None:
        unpack_model(model, model.parent / "base" / "model")
        caps, log = Caps(memory_mb=512), model.parent / "log"
        spec = InstanceSpec(model.parent / "base", profile(), log, Rlimits(), caps)
        instance = ProcessInstance("one", spec)
        with pytest.raises(InstanceFailed, match="more than its memory size of 512 MB"):
            await instance.start()
        await instance.kill()

    asyncio.run(run())
