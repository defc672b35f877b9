"""What is sent and when, and what the caller needs."""

from typing import Annotated

from msgspec import Meta, Struct

from bench.arrivals import Arrivals
from bench.capacity import Search
from bench.clients import Client, Direct
from bench.payload import Payload
from bench.units import Seconds


class Objective(Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller needs: so many of the requests answered within so many seconds."""

    latency_s: Annotated[Seconds, Meta(description="seconds from due time to answer")]
    quantile: Annotated[
        float, Meta(gt=0, lt=1, description="share of requests that must be that fast")
    ] = 0.95
    error_rate: Annotated[
        float, Meta(ge=0, le=1, description="largest share of requests that may fail")
    ] = 0.01
    completion_s: Annotated[
        Seconds | None,
        Meta(description="seconds from the first due time in which all must be done"),
    ] = None


class Workload(Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent and when, and what the caller needs."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$", description="letters, digits, - and _"),
    ]
    title: Annotated[str, Meta(max_length=200, description="one sentence for the report")]
    scenario: Annotated[str, Meta(description="the Locust file that sends it: scenarios/<name>.py")]
    duration_s: Annotated[Seconds, Meta(description="seconds of traffic, on the run's clock")]
    arrivals: Arrivals
    objective: Objective
    payload: Payload = Payload()
    client: Client = Direct()
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="seed of every random draw")] = 1
    fast_forward: Annotated[
        bool, Meta(description="skip the time in which nothing happens anywhere")
    ] = False
    needs_answer: Annotated[
        bool, Meta(description="each request must return an inference to its caller")
    ] = True
    accepts_queueing: Annotated[
        bool, Meta(description="a caller may wait minutes for its answer")
    ] = False
    request_timeout_s: Annotated[
        Seconds, Meta(description="seconds of real time after which the caller gives up")
    ] = 70.0
    search: Annotated[
        Search | None, Meta(description="look for the highest rate that meets the objective")
    ] = None
    max_in_flight: Annotated[
        int, Meta(ge=1, le=10_000, description="requests open at once; beyond it they are dropped")
    ] = 1_000
