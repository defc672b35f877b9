"""What one server process is to run: the endpoints behind an address."""

from typing import Annotated

from msgspec import Meta, Struct

from bench.target import Peer, Target

EndpointName = Annotated[
    str,
    Meta(max_length=63, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$", description="as the API allows"),
]


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A model behind an inference option, under a name."""

    name: EndpointName
    target: Target | Peer
    model: Annotated[str, Meta(description="path of a model.tar.gz or of a folder of its layout")]
    command: Annotated[
        list[str], Meta(description="a program that keeps the container contract; default: ours")
    ] = []


class OpenInference(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the first real-time endpoint speaks the Open Inference Protocol (KServe v2) as well.

    A port that is taken gives way to a free one.
    """

    model: Annotated[str, Meta(description="what the protocol calls the model")] = "model"
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    grpc_port: Annotated[int, Meta(ge=0, le=65535)] = 8001


class Deployment(Struct, frozen=True, forbid_unknown_fields=True):
    """Endpoints, and where they listen. Port 0 takes a free one."""

    endpoints: list[Endpoint]
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    seed: int = 1
    clock: Annotated[
        str | None, Meta(description="folder of a shared clock; default: real time")
    ] = None
    events: Annotated[str | None, Meta(description="file that takes the events")] = None
    data: Annotated[
        str | None, Meta(description="folder of objects and queues; default: gone with the process")
    ] = None
    metrics: Annotated[str | None, Meta(description="file that takes the endpoints' metrics")] = (
        None
    )
    open_inference: OpenInference | None = None
    buckets: Annotated[
        str | None,
        Meta(description="folder whose folders are the buckets of batch jobs, not the store's"),
    ] = None
    log: Annotated[str | None, Meta(description="file that takes what instances print")] = None
