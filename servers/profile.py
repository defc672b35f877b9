"""Limits and delays of an option as data: each value with its unit, its basis and its source."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bench.errors import ConfigError
from bench.target import Async, Serverless, Target, mode_of
from servers.store import location


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One value of a profile."""

    value: float | list[float]
    unit: str
    basis: Literal["documented", "observed", "assumed", "set by the user"]
    source: str
    meaning: str


Figure = Literal[
    "requests",  # one for each that came
    "throttled",  # one for each that was refused because too many were open
    "admitted",  # one for each other
    "failed",  # of those let in: 1 when the model or its environment failed, else 0
    "failed_4xx",  # the same by the status that the model's answer had
    "failed_5xx",
    "run_s",  # how long the model had the request, also when it failed
    "model_s",  # how long it had one that it answered
    "overhead_s",  # the rest of such a request's time, its cold start included
    "setup_s",  # that cold start
    "memory_share",  # of its memory size, what an environment holds after its first request
    "busy",  # requests that are open
    "busy_share",  # of as many as may be
    "provisioned_busy",  # of those, the ones in a provisioned environment
    "provisioned_share",  # of the units
    "provisioned_taken",  # one for each request that a provisioned environment answers
    "spilled",  # one for each that came when all of these were at work
]
"""What a serverless endpoint counts and measures (`servers.usage`)."""


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """One of our figures as CloudWatch shows it."""

    of: Figure
    unit: str


class Cloudwatch(Struct, frozen=True, forbid_unknown_fields=True):
    """Under which names and in which units an option's figures are published."""

    namespace: str
    dimensions: list[str]
    source: str
    metrics: dict[str, Metric]


class Profile(Struct, frozen=True):
    """The values that a mode follows."""

    mode: str
    entries: dict[str, Entry]
    cloudwatch: Cloudwatch | None = None
    """None where the metrics are not the profile's."""

    def __getitem__(self, name: str) -> float:
        """The number called ``name``."""
        value = self.entries[name].value
        assert not isinstance(value, list), f"{name} is a list"
        return value

    def get(self, name: str, default: float) -> float:
        """The number called ``name``, or ``default`` where the option has none."""
        return self[name] if name in self.entries else default

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
    tables = msgspec.toml.decode(text)
    shown = msgspec.convert(tables.pop("cloudwatch", None), Cloudwatch | None)
    return Profile(mode, msgspec.convert(tables, dict[str, Entry]), shown)


def profile_for(target: Target) -> Profile:
    """The profile of the target's mode with the target's own values in it.

    ConfigError when a value has no place there, or the target breaks a limit.
    """
    profile = read_profile(mode_of(target))
    entries = dict(profile.entries)
    for name, value in target.profile.items():
        entries[name] = _replaced(profile, name, value)
    profile = msgspec.structs.replace(profile, entries=entries)
    if isinstance(target, Serverless):
        _check_serverless(target, profile)
    if isinstance(target, Async):
        _check_async(target)
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
    mode = profile.mode
    if "memory_sizes_mb" in profile.entries:
        sizes: Sequence[int] = [int(size) for size in profile.choices("memory_sizes_mb")]
        allowed = f"choose one of {', '.join(map(str, sizes))}"
    else:
        sizes = range(int(profile["memory_min_mb"]), int(profile["memory_max_mb"]) + 1)
        allowed = f"choose from {sizes[0]} to {sizes[-1]}"
    if target.memory_mb not in sizes:
        raise ConfigError(f"{mode}.memory_mb = {target.memory_mb}: {allowed}.")
    limit = int(profile["max_concurrency_limit"])
    most = target.max_concurrency
    if not 1 <= most <= limit:
        raise ConfigError(f"{mode}.max_concurrency = {most}: choose from 1 to {limit}.")
    _check_units(target, f"{mode}.provisioned")


def _check_units(target: Serverless, key: str) -> None:
    """Never more environments kept ready than requests are let in."""
    scaling = target.provisioned_scaling
    asked = {f"{key}_concurrency": target.provisioned_concurrency}
    asked |= {f"{key}_scaling.max_units": scaling.max_units} if scaling else {}
    asked |= {f"{key}_schedule: units": each.units for each in target.provisioned_schedule}
    for name, units in asked.items():
        if units > target.max_concurrency:
            raise ConfigError(
                f"{name} = {units}: at most max_concurrency, which is {target.max_concurrency}."
            )
    if scaling is None:
        return
    if not scaling.min_units <= target.provisioned_concurrency <= scaling.max_units:
        raise ConfigError(
            f"{key}_scaling from {scaling.min_units} to {scaling.max_units} units: set "
            f"provisioned_concurrency, now {target.provisioned_concurrency}, to one of these."
        )


def _check_async(target: Async) -> None:
    if target.max_concurrency is not None and not 1 <= target.max_concurrency <= 1000:
        raise ConfigError(
            f"async.max_concurrency = {target.max_concurrency}: choose from 1 to 1000."
        )
    if target.max_instances < target.min_instances:
        raise ConfigError(
            f"async.max_instances = {target.max_instances} is less than min_instances = "
            f"{target.min_instances}. Raise it."
        )
    paths = [("output_path", target.output_path)]
    paths += [("failure_path", target.failure_path)] if target.failure_path else []
    for key, path in paths:
        try:
            location(f"{path}/object")
        except ValueError as error:
            raise ConfigError(f"async.{key}: {error}. Write s3://bucket/prefix.") from None
    for key, topic in (
        ("success_topic", target.success_topic),
        ("error_topic", target.error_topic),
    ):
        if topic and not topic.startswith(("arn:aws:sns:", "http://", "https://", "file:")):
            raise ConfigError(
                f"async.{key} = {topic!r}: give the ARN of an SNS topic, an http(s) address or "
                "file:PATH."
            )
        if topic.startswith("arn:") and not target.sns_url:
            raise ConfigError(f"async.{key} is an SNS topic: give async.sns_url, too.")
    if target.backlog_url and not target.backlog_url.startswith("nats://"):
        raise ConfigError(f"async.backlog_url = {target.backlog_url!r}: write nats://HOST:PORT.")
