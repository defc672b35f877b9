"""What the load generator's process is told: what to send, where to, and where to note it."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bench.workload import Workload

PLAN_VARIABLE = "WEIGHBRIDGE_PLAN"
"""The environment variable that names the plan's file."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """One load on one endpoint."""

    workload: Workload
    url: Annotated[str, Meta(description="where each request is posted to")]
    payloads: Annotated[
        list[str], Meta(min_length=1, description="files whose contents are sent in turn")
    ]
    records: Annotated[str | None, Meta(description="file that takes packed records")] = None
    clock: Annotated[
        str | None, Meta(description="folder of a shared clock; default: real time")
    ] = None
    events: Annotated[str | None, Meta(description="file that takes the events")] = None


def plan_from_environment() -> Plan | None:
    """The plan that this process was started with, if any."""
    path = os.environ.get(PLAN_VARIABLE)
    return msgspec.json.decode(Path(path).read_bytes(), type=Plan) if path else None
