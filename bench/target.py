"""Whom the traffic is sent to: an inference option with its settings."""

from typing import Annotated

from msgspec import Meta, Struct

Overrides = Annotated[
    dict[str, float | bool],
    Meta(description="values of the option's profile to replace, by name"),
]


class Realtime(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="realtime"):
    """A persistent endpoint of one instance."""

    instance_type: Annotated[
        str, Meta(description="for the price only: a type in the price table")
    ] = "ml.m5.large"
    profile: Overrides = {}


class Serverless(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="serverless"
):
    """An endpoint that starts environments from zero, one request in each at a time."""

    memory_mb: Annotated[int, Meta(description="MemorySizeInMB of the endpoint")] = 2048
    max_concurrency: Annotated[int, Meta(description="MaxConcurrency of the endpoint")] = 20
    profile: Overrides = {}


Target = Realtime | Serverless

TARGETS: dict[str, type[Realtime] | type[Serverless]] = {
    "realtime": Realtime,
    "serverless": Serverless,
}


def mode_of(target: Target) -> str:
    """The name of the option: ``realtime`` or ``serverless``."""
    return str(type(target).__struct_config__.tag)
