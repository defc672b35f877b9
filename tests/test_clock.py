import math
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.clock import LEAD_S, MEMBERS, Clock
from bench.errors import ConfigError
from bench.events import EventLog, read_lines


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    clock = Clock.create(tmp_path, fast_forward=True)
    yield clock
    clock.close()


def test_the_clock_jumps_to_just_before_the_next_event(clock: Clock) -> None:
    """With nothing under way, the time to the next event is skipped but for a short lead."""
    member = clock.join()
    member.update(next_s=1000.0)
    assert clock.now() == pytest.approx(1000.0 - LEAD_S, abs=0.01)


def test_a_jump_goes_to_the_earliest_event_of_all_members(clock: Clock) -> None:
    """Nobody's event is jumped over."""
    busy, idle = clock.join(), clock.join()
    busy.update(work=1, next_s=500.0)
    idle.update(next_s=900.0)
    busy.update(work=-1)
    assert clock.now() == pytest.approx(500.0 - LEAD_S, abs=0.01)


def test_work_anywhere_holds_the_clock(clock: Clock) -> None:
    """While one member works the others' events are not jumped to."""
    busy, idle = clock.join(), clock.join()
    busy.update(work=1)
    idle.update(next_s=900.0)
    assert clock.now() < 1.0


def test_a_request_on_its_way_holds_the_clock(clock: Clock) -> None:
    """A request that was sent and that no server has yet seen is under way."""
    generator, server = clock.join(), clock.join()
    generator.update(awaiting=1, next_s=900.0)
    server.update(next_s=300.0)
    assert clock.now() < 1.0


def test_a_request_parked_on_a_timer_does_not_hold_the_clock(clock: Clock) -> None:
    """A modelled delay is skipped although a caller waits for the answer."""
    generator, server = clock.join(), clock.join()
    generator.update(awaiting=1, next_s=900.0)
    server.update(work=1, next_s=3.0)
    server.update(work=-1, parked=1)
    assert clock.now() == pytest.approx(3.0 - LEAD_S, abs=0.01)


def test_one_request_in_transit_beside_a_parked_one_holds_the_clock(clock: Clock) -> None:
    """Every awaited request must be parked before the clock is turned."""
    generator, server = clock.join(), clock.join()
    generator.update(awaiting=2, next_s=900.0)
    server.update(parked=1, next_s=3.0)
    assert clock.now() < 1.0


def test_without_fast_forward_nothing_is_skipped(tmp_path: Path) -> None:
    """The same account on a clock of real time changes nothing."""
    clock = Clock.create(tmp_path, fast_forward=False)
    clock.join().update(next_s=1000.0)
    assert clock.skipped_s == 0
    assert clock.now() < 1.0
    clock.close()


def test_no_event_at_all_turns_nothing(clock: Clock) -> None:
    """When nobody has anything to come, time passes by itself."""
    clock.join().update(next_s=math.inf)
    assert clock.now() < 1.0


def test_a_jump_wakes_every_member(clock: Clock) -> None:
    """Each member's socket is readable after a jump, and quiet once drained."""
    first, second = clock.join(), clock.join()
    first.update(next_s=50.0)
    for member in (first, second):
        assert select.select([member], [], [], 0)[0]
        member.drain()
        assert not select.select([member], [], [], 0)[0]


def test_what_a_leaving_member_held_is_released(clock: Clock) -> None:
    """A member that leaves at work no longer holds the clock."""
    leaver, stayer = clock.join(), clock.join()
    leaver.update(work=1)
    leaver.leave()
    stayer.update(next_s=70.0)
    assert clock.now() == pytest.approx(70.0 - LEAD_S, abs=0.01)


def test_every_skip_is_recorded(tmp_path: Path, clock: Clock) -> None:
    """The log holds from where to where each jump went."""
    log = EventLog(tmp_path / "events.jsonl")
    clock.join(log).update(next_s=80.0)
    log.close()
    [skip] = read_lines(tmp_path / "events.jsonl")
    assert (skip["kind"], skip["to_s"]) == ("skip", pytest.approx(80.0 - LEAD_S))


def test_processes_share_one_time(tmp_path: Path, clock: Clock) -> None:
    """Another process that opens the clock reads the same seconds, the skipped ones too."""
    clock.join().update(next_s=5000.0)
    program = "import pathlib, sys; from bench.clock import Clock; "
    program += "print(Clock(pathlib.Path(sys.argv[1])).now())"
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 4999.0 < float(done.stdout) < clock.now() < 5060.0


def test_the_clock_has_room_for_so_many_members(clock: Clock) -> None:
    """One more than that is told so."""
    members = [clock.join() for _ in range(MEMBERS)]
    with pytest.raises(ConfigError, match="already has 16 members"):
        clock.join()
    members[3].leave()
    clock.join()


def test_a_missing_clock_is_named(tmp_path: Path) -> None:
    """Opening a clock that is not there says where it was looked for."""
    with pytest.raises(ConfigError, match="There is no clock in"):
        Clock(tmp_path / "nowhere")
