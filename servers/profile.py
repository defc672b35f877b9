"""Limits and delays of an option as data: each value with its unit, its basis and its source."""

from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bench.errors import ConfigError
from bench.target import Serverless, Target, mode_of


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One value of a profile."""

    value: float | list[float]
    unit: str
    basis: Literal["documented", "observed", "assumed", "set by the user"]
    source: str
    meaning: str


class Profile(Struct, frozen=True):
    """The values that a mode follows."""

    mode: str
    entries: dict[str, Entry]

    def __getitem__(self, name: str) -> float:
        """The number called ``name``."""
        value = self.entries[name].value
        assert not isinstance(value, list), f"{name} is a list"
        return value

    def choices(self, name: str) -> list[float]:
        """The list called ``name``."""
        value = self.entries[name].value
        return value if isinstance(value, list) else [value]

    def ledger(self) -> list[dict[str, Any]]:
        """Every value with its basis and source, for the manifest."""
        return [
            {"name": name, **msgspec.to_builtins(entry)} for name, entry in self.entries.items()
        ]


def read_profile(mode: str) -> Profile:
    """The profile that ships for ``mode``."""
    text = files("servers").joinpath("profiles", f"{mode}.toml").read_text(encoding="utf-8")
    return Profile(mode, msgspec.toml.decode(text, type=dict[str, Entry]))


def profile_for(target: Target) -> Profile:
    """The profile of the target's mode with the target's own values in it.

    ConfigError when a value has no place there, or the target breaks a limit.
    """
    profile = read_profile(mode_of(target))
    entries = dict(profile.entries)
    for name, value in target.profile.items():
        entries[name] = _replaced(profile, name, value)
    profile = Profile(profile.mode, entries)
    if isinstance(target, Serverless):
        _check_serverless(target, profile)
    return profile


def _replaced(profile: Profile, name: str, value: float) -> Entry:
    replaceable = [
        key for key, entry in profile.entries.items() if isinstance(entry.value, float | int)
    ]
    if name not in replaceable:
        raise ConfigError(
            f"The {profile.mode} profile has no value {name!r} to replace. "
            f"It has: {', '.join(sorted(replaceable))}."
        )
    if not value >= 0:
        raise ConfigError(f"{profile.mode}.profile.{name} = {value}: give a number of at least 0.")
    return msgspec.structs.replace(
        profile.entries[name],
        value=value,
        basis="set by the user",
        source="the command or the file",
    )


def _check_serverless(target: Serverless, profile: Profile) -> None:
    sizes = [int(size) for size in profile.choices("memory_sizes_mb")]
    if target.memory_mb not in sizes:
        raise ConfigError(
            f"serverless.memory_mb = {target.memory_mb}: "
            f"choose one of {', '.join(map(str, sizes))}."
        )
    limit = int(profile["max_concurrency_limit"])
    if not 1 <= target.max_concurrency <= limit:
        raise ConfigError(
            f"serverless.max_concurrency = {target.max_concurrency}: choose from 1 to {limit}."
        )
