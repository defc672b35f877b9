"""Posts bodies to one address and calls back with what became of each."""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from bench.clients import Boto3, Direct, FastHttp, Function, TritonGrpc, TritonHttp
from bench.clients import Client as Kind
from bench.plan import Plan
from bench.workload import Workload
from scenarios.async_client import SUFFIX, AsyncClient
from scenarios.bodies import Bodies
from scenarios.compatible import Caller, GreenletClient
from scenarios.direct import DirectClient
from scenarios.outcome import Outcome
from scenarios.request import address_for


class Client(Protocol):
    """Sends the bodies it was made with."""

    def send(self, index: int, answered: Callable[[Outcome], None]) -> None:
        """Send body number ``index``; ``answered`` is called once, perhaps before this returns."""

    def close(self) -> None:
        """Let all connections go; what is on its way is forgotten."""


def open_client(plan: Plan, bodies: Bodies, now: Callable[[], float]) -> Client:
    """The client that the workload asks for, and for https one that can."""
    url, workload = plan.url, plan.workload
    if url.endswith(SUFFIX):
        put = None
        if plan.store is not None:
            from scenarios.inputs import Inputs  # brings boto3, which others do not need

            put = Inputs(plan.store, workload).put
        return AsyncClient(url, workload, bodies.body, now, put)
    kind = workload.client
    if isinstance(kind, Direct):
        address = address_for(url, kind.stream)
        if urlsplit(url).scheme == "http":
            return DirectClient(address, workload, bodies, now)
        kind = FastHttp(stream=kind.stream)
    return GreenletClient(_caller(kind, url, workload), workload, bodies, now)


def _caller(kind: Kind, url: str, workload: Workload) -> Caller:
    # Each brings a library that the others do not need.
    if isinstance(kind, FastHttp):
        from scenarios.fasthttp import FastHttpCaller

        return FastHttpCaller(kind, url, workload)
    if isinstance(kind, Boto3):
        from scenarios.aws import Boto3Caller

        return Boto3Caller(kind, url, workload)
    if isinstance(kind, Function):
        from scenarios.own import FunctionCaller

        return FunctionCaller(kind, url, workload)
    from scenarios import oip

    if isinstance(kind, TritonHttp):
        return oip.HttpCaller(kind, url, workload)
    assert isinstance(kind, TritonGrpc), "all others are done"
    return oip.GrpcCaller(kind, url, workload)
