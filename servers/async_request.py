"""``InvokeEndpointAsync`` on the wire: what a call may say, and the job that it asks for."""

import re
import secrets
import time
import uuid
from dataclasses import dataclass

import msgspec

from servers.backlog import Job
from servers.store import check_key
from servers.wire import CUSTOM_ATTRIBUTES, Answer, ApiError, validation_error

BODY_MAX_BYTES = 128_000

_PREFIX = "x-amzn-sagemaker-"
_LOCATION = re.compile(r"(https|s3)://([^/]+)/?(.*)", re.DOTALL)
_TEXTS = {
    "inputlocation": (1, 1024, "inputLocation"),
    "content-type": (0, 1024, "contentType"),
    "accept": (0, 1024, "accept"),
    "custom-attributes": (0, 1024, "customAttributes"),
    "inference-id": (1, 64, "inferenceId"),
    "s3outputpathextension": (1, 512, "s3OutputPathExtension"),
    "filename": (1, 32, "filename"),
}
_NUMBERS = {
    "requestttlseconds": (60, 21600, 21600, "requestTTLSeconds"),
    "invocationtimeoutseconds": (1, 3600, 900, "invocationTimeoutSeconds"),
}


@dataclass(frozen=True)
class Paths:
    """Where an endpoint's results go: ``s3://bucket/prefix``; no failures without their own."""

    output: str
    failure: str = ""


def job_from(headers: dict[str, str], body: bytes, paths: Paths, now_s: float) -> Job:
    """The job that a call asks for; ValidationError says what is wrong with the call."""
    texts = {field: _text(headers, field) for field in _TEXTS}
    ttl_s, timeout_s = (_number(headers, field) for field in _NUMBERS)
    source = texts["inputlocation"]
    if bool(source) == bool(body):
        raise validation_error("Exactly one of Body and InputLocation must be given.")
    if len(body) > BODY_MAX_BYTES:
        raise validation_error(
            f"Body has {len(body)} bytes, at most {BODY_MAX_BYTES} are allowed. "
            "Upload it and give its InputLocation."
        )
    if source and not _LOCATION.fullmatch(source):
        raise _refused(source, "inputLocation", "satisfy regular expression pattern: " + _PATTERN)
    _check_name(texts["filename"])
    inference_id = texts["inference-id"] or str(uuid.uuid4())
    name = texts["filename"] or f"{inference_id}.out"
    output, failure = _locations(paths, texts["s3outputpathextension"], name)
    forwarded = {
        "content-type": texts["content-type"],
        "accept": texts["accept"],
        CUSTOM_ATTRIBUTES: texts["custom-attributes"],
    }
    return Job(
        secrets.token_hex(16),
        inference_id,
        now_s,
        now_s + ttl_s,
        timeout_s,
        output,
        failure,
        source,
        {name: value for name, value in forwarded.items() if value},
    )


_PATTERN = "^(https|s3)://([^/]+)/?(.*)$"


def accepted(job: Job) -> Answer:
    """202: the job is on disk."""
    headers = {
        "content-type": "application/json",
        f"{_PREFIX}outputlocation": job.output,
        **({f"{_PREFIX}failurelocation": job.failure} if job.failure else {}),
    }
    return Answer(202, msgspec.json.encode({"InferenceId": job.inference_id}), headers)


def _text(headers: dict[str, str], field: str) -> str:
    value = headers.get(_PREFIX + field)
    if value is None:  # as most are
        return ""
    least, most, member = _TEXTS[field]
    if len(value) < least:
        raise _refused(value, member, f"have length greater than or equal to {least}")
    if len(value) > most:
        raise _refused(value, member, f"have length less than or equal to {most}")
    if not (value.isascii() and (value.isprintable() or not value)):
        raise _refused(value, member, "be printable ASCII")
    return value


def _number(headers: dict[str, str], field: str) -> float:
    least, most, default, member = _NUMBERS[field]
    text = headers.get(_PREFIX + field)
    if text is None:
        return float(default)
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise _refused(text, member, "be a whole number")
    value = int(text)
    if value < least:
        raise _refused(text, member, f"have value greater than or equal to {least}")
    if value > most:
        raise _refused(text, member, f"have value less than or equal to {most}")
    return float(value)


def _check_name(name: str) -> None:
    if name.count(".") > 1 or "/" in name:
        raise _refused(name, "filename", "have at most one dot and no slash")


def _locations(paths: Paths, extension: str, name: str) -> tuple[str, str]:
    parts = [extension.strip("/"), name]
    found = []
    for base in (paths.output, paths.failure):
        uri = "/".join([base.rstrip("/"), *(part for part in parts if part)]) if base else ""
        if uri:
            try:
                check_key(uri.split("/", 3)[3])
            except ValueError as error:
                raise validation_error(f"The output path cannot be used: {error}.") from None
        found.append(uri)
    return found[0], found[1]


def _refused(value: str, member: str, constraint: str) -> ApiError:
    return validation_error(
        f"1 validation error detected: Value '{value[:200]}' at '{member}' failed to satisfy "
        f"constraint: Member must {constraint}"
    )


class PolicyTime:
    """Seconds since 1970 as the run's clock counts them on: what is skipped has passed.

    The wall clock is read once, so that setting it changes nothing while this process runs.
    """

    def __init__(self, now_s: float) -> None:
        self._offset_s = time.time() - now_s

    def at(self, clock_s: float) -> float:
        """Policy time of a moment on the clock."""
        return clock_s + self._offset_s

    def clock_s(self, at_s: float) -> float:
        """The moment on the clock of a policy time."""
        return at_s - self._offset_s
