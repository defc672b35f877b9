"""What the load generator's process is told: what to send, where to, and where to note it."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bench.target import Async, Batch
from bench.workload import Workload

PLAN_VARIABLE = "WEIGHBRIDGE_PLAN"
"""The environment variable that names the plan's file."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """One load on one endpoint."""

    workload: Workload
    url: Annotated[str, Meta(description="where each request is posted to")]
    payloads: Annotated[list[str], Meta(description="files whose contents are sent in turn")]
    stock: Annotated[
        str | None, Meta(description="folder of a Stock; default: it is made of payloads")
    ] = None
    batch: Annotated[
        Batch | None, Meta(description="gather the requests into jobs of these settings")
    ] = None
    store: Annotated[
        Async | None, Meta(description="inputs go to the store that these settings name")
    ] = None
    records: Annotated[str | None, Meta(description="file that takes packed records")] = None
    clock: Annotated[
        str | None, Meta(description="folder of a shared clock; default: real time")
    ] = None
    events: Annotated[str | None, Meta(description="file that takes the events")] = None
    workers: Annotated[
        int, Meta(ge=1, le=64, description="processes that share the load, each with a core")
    ] = 1


def plan_from_environment() -> Plan | None:
    """The plan that this process was started with, if any."""
    path = os.environ.get(PLAN_VARIABLE)
    return msgspec.json.decode(Path(path).read_bytes(), type=Plan) if path else None
