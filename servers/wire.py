"""SageMaker's runtime API on the wire: names of headers, bodies of errors."""

import json
import random
import uuid
from typing import Any

from msgspec import Struct

ACCOUNT = "000000000000"
REGION = "us-east-1"
VARIANT = "AllTraffic"

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
SESSION_ID = "x-amzn-sagemaker-session-id"
NEW_SESSION_ID = "x-amzn-sagemaker-new-session-id"
CLOSED_SESSION_ID = "x-amzn-sagemaker-closed-session-id"
TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
STREAM_ACCEPT = "x-amzn-sagemaker-accept"
STREAM_CONTENT_TYPE = "x-amzn-sagemaker-content-type"

HEADER_LIMITS = {
    "content-type": 1024,
    "accept": 1024,
    STREAM_ACCEPT: 1024,
    CUSTOM_ATTRIBUTES: 1024,
    "x-amzn-sagemaker-target-model": 1024,
    "x-amzn-sagemaker-target-variant": 63,
    "x-amzn-sagemaker-target-container-hostname": 63,
    "x-amzn-sagemaker-inference-id": 64,
    "x-amzn-sagemaker-enable-explanations": 64,
    "x-amzn-sagemaker-inference-component": 63,
    "x-amzn-sagemaker-session-id": 256,
    "x-amzn-sagemaker-prefix-aware-id": 64,
}
"""The headers that `InvokeEndpoint` defines, with the longest value of each."""

FORWARDED = (
    "content-type",
    "accept",
    CUSTOM_ATTRIBUTES,
    SESSION_ID,
    "x-amzn-sagemaker-inference-id",
)
"""Those that reach the container; SageMaker strips what its API does not define."""


class Answer(Struct, frozen=True):
    """What goes back to the caller."""

    status: int
    body: bytes
    headers: dict[str, str] = {}


class ApiError(Exception):
    """An error of the API: the status, the code and the body that SageMaker sends."""

    def __init__(self, status: int, code: str, message: str | None, **fields: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.fields = fields
        self.message = message

    def answer(self) -> Answer:
        """What goes over the wire."""
        # `ThrottlingException` is known with a lower-case key and a null; the modelled errors have
        # "Message". boto3 reads either.
        key = "message" if self.message is None else "Message"
        body = json.dumps({key: self.message, **self.fields}).encode()
        headers = {"content-type": "application/json", "x-amzn-errortype": self.code}
        return Answer(self.status, body, headers)


class NoModelAnswer(ApiError):
    """The container did not answer: it may still be at work on the request, or gone."""


def validation_error(message: str) -> ApiError:
    """400: the request is not what the API allows."""
    return ApiError(400, "ValidationError", message)


def endpoint_not_found(name: str) -> ApiError:
    """400: as the service words it."""
    return validation_error(f"Endpoint {name} of account {ACCOUNT} not found.")


def oversize_body(request_id: str) -> ApiError:
    """400: as a serverless endpoint words it."""
    return validation_error(f"Request {request_id} has oversize body.")


def content_too_long(limit_bytes: int) -> ApiError:
    """413: as a real-time endpoint words it (the text is from 2018)."""
    return ApiError(413, "413", f"HTTP content length exceeded {limit_bytes} bytes.")


def request_too_large(limit_bytes: int) -> ApiError:
    """413: as AWS Lambda words it."""
    text = f"Request must be smaller than {limit_bytes} bytes for the InvokeFunction operation"
    return ApiError(413, "RequestTooLargeException", text)


def too_many_requests() -> ApiError:
    """429: as AWS Lambda words it."""
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    return ApiError(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason, Type="User")


def throttled() -> ApiError:
    """400 with a null message, as the service sends it."""
    return ApiError(400, "ThrottlingException", None)


def unavailable(message: str) -> ApiError:
    """503: try again."""
    return ApiError(503, "ServiceUnavailable", message)


def internal_failure() -> ApiError:
    """500: the fault is in the front end."""
    return ApiError(500, "InternalFailure", "An internal failure occurred. See the server's log.")


def model_error(endpoint: str, status: int, message: str | None) -> ApiError:
    """424: the container answered with an error (``status``), or not at all (0).

    Without a ``message`` the body of its error could not be read.
    """
    kind = "client" if 400 <= status < 500 else "server"
    stream = (
        f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}"
        f"#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint}"
    )
    said = "and could not load the entire response body"
    if message is not None:
        said = f'with message "{message}"'
    text = (
        f"Received {kind} error ({status}) from primary {said}. "
        f"See {stream} in account {ACCOUNT} for more information."
    )
    return (NoModelAnswer if status == 0 else ApiError)(
        424,
        "ModelError",
        text,
        OriginalStatusCode=status,
        OriginalMessage=message or "",
        LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/{endpoint}",
    )


TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


def new_request_id() -> str:
    """An id in the form of ``x-amzn-RequestId``."""
    # A random UUID (version 4, variant 8), at a fifth of what uuid4 takes.
    text = f"{_luck.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


_luck = random.Random(uuid.uuid4().int)


UNSUPPORTED = {
    "x-amzn-sagemaker-target-model": "is not a multi-model endpoint; leave out TargetModel",
    "x-amzn-sagemaker-target-container-hostname": (
        "is not a multi-container endpoint with direct invocation; leave out "
        "TargetContainerHostname"
    ),
    "x-amzn-sagemaker-inference-component": (
        "has no inference components; leave out InferenceComponentName"
    ),
    "x-amzn-sagemaker-enable-explanations": ("has no explainer; leave out EnableExplanations"),
}
"""Headers of kinds of endpoints that there are none of here."""


def check_headers(headers: dict[str, str], endpoint: str = "") -> None:
    """ValidationError for a header of the API that is too long, unprintable or not for this one."""
    for name in headers.keys() & HEADER_LIMITS.keys():
        value, limit = headers[name], HEADER_LIMITS[name]
        if name in UNSUPPORTED:
            raise validation_error(f"Endpoint {endpoint} {UNSUPPORTED[name]}.")
        if not (value.isascii() and value.isprintable()):
            raise validation_error(
                f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
                "Member must be printable ASCII"
            )
        if len(value) > limit:
            raise validation_error(
                f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
                f"Member must have length less than or equal to {limit}"
            )
