import pytest

from bench.errors import ConfigError
from bench.target import Realtime, Serverless, Target
from servers.profile import profile_for, read_profile


@pytest.mark.parametrize("mode", ["realtime", "serverless"])
def test_every_value_says_what_it_rests_on(mode: str) -> None:
    """Each entry has a unit, a source and a meaning besides its basis."""
    for entry in read_profile(mode).ledger():
        assert entry["unit"], entry
        assert entry["source"], entry
        assert entry["meaning"], entry
        assert entry["basis"] in {"documented", "observed", "assumed"}, entry


def test_documented_limits_are_those_of_the_service() -> None:
    """Serverless: 4 MB, 60 s, 3 minutes; real-time: 25 MB, 60 s, 8 minutes."""
    serverless, realtime = read_profile("serverless"), read_profile("realtime")
    assert serverless["payload_max_bytes"] == 4 * 2**20
    assert serverless["startup_timeout_s"] == 180
    assert realtime["payload_max_bytes"] == 25 * 2**20
    assert realtime["startup_timeout_s"] == 480
    assert serverless["invocation_timeout_s"] == realtime["invocation_timeout_s"] == 60


def test_a_replaced_value_is_marked_as_the_users() -> None:
    """The ledger shows that the keep-alive is no longer the shipped assumption."""
    profile = profile_for(Serverless(profile={"keep_alive_s": 60}))
    assert profile["keep_alive_s"] == 60
    entry = next(entry for entry in profile.ledger() if entry["name"] == "keep_alive_s")
    assert entry["basis"] == "set by the user"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Serverless(memory_mb=1500), r"memory_mb = 1500: choose one of 1024, .*6144"),
        (Serverless(max_concurrency=0), "max_concurrency = 0: choose from 1 to 200"),
        (Serverless(max_concurrency=201), "max_concurrency = 201: choose from 1 to 200"),
        (Serverless(profile={"warmth": 1.0}), "no value 'warmth' to replace. It has: .*keep_alive"),
        (Realtime(profile={"keep_alive_s": 1.0}), "realtime profile has no value 'keep_alive_s'"),
        (Serverless(profile={"keep_alive_s": -1.0}), "keep_alive_s = -1.0: give a number"),
        (Serverless(profile={"memory_sizes_mb": 1.0}), "no value 'memory_sizes_mb'"),
    ],
)
def test_a_target_beyond_the_limits_is_refused(target: Target, message: str) -> None:
    """The error names the setting, its value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        profile_for(target)
