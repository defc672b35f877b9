"""Who sends the requests: our own client, or one that users have in their programs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Stream = Annotated[
    bool,
    Meta(description="ask for the answer as a stream: /invocations-response-stream"),
]
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Direct(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="direct"):
    """Plain HTTP/1.1 on the event loop: the most exact. An https address takes a greenlet each."""

    stream: Stream = False


class FastHttp(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fasthttp"):
    """Locust's FastHttpSession."""

    stream: Stream = False
    verify: Annotated[bool, Meta(description="check the certificate of an https address")] = True


class Boto3(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="boto3"):
    """boto3's sagemaker-runtime, as production code calls it. It takes 2 ms of a core a request."""

    stream: Stream = False


class _Triton(Struct, frozen=True, forbid_unknown_fields=True):
    """What tritonclient needs to know, whichever way it goes."""

    model: Annotated[Name, Meta(description="name of the model")]
    input: Annotated[Name, Meta(description="name of the input tensor")] = "INPUT0"
    datatype: Annotated[
        Literal["FP32", "FP64", "INT32", "INT64", "UINT8"], Meta(description="type of the tensor")
    ] = "FP32"
    address: Annotated[str | None, Meta(description="host:port; default: that of the endpoint")] = (
        None
    )


class TritonHttp(
    _Triton, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="triton-http"
):
    """tritonclient over HTTP: the body, JSON or NPY, is one input tensor."""


class TritonGrpc(
    _Triton, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="triton-grpc"
):
    """tritonclient over gRPC: the body, JSON or NPY, is one input tensor."""


class Function(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="function"):
    """A Python function of one's own, called with each request."""

    path: Annotated[
        str,
        Meta(
            pattern=r"^.+\.py:[A-Za-z_]\w*$", description="file and name, such as my_client.py:send"
        ),
    ]


Client = Direct | FastHttp | Boto3 | TritonHttp | TritonGrpc | Function
