"""Messages about finished requests, to whoever asked for them.

A topic is one of: an SNS topic's ARN (published to an SNS-compatible endpoint), the address of a
webhook (the message is posted as JSON), or ``file:PATH`` (a line of JSON each).
"""

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from servers.backlog import Job, Outcome
from servers.wire import REGION

log = logging.getLogger(__name__)

INCLUDED_MAX_BYTES = 128_000
TIMEOUT_S = 10.0
ATTEMPTS = 3
BACKOFF_S = 0.2


@dataclass(frozen=True)
class Topics:
    """Where messages go; an empty text: nowhere."""

    success: str = ""
    error: str = ""
    sns_url: str = ""
    include: tuple[str, ...] = ()


def message(endpoint: str, job: Job, outcome: Outcome, now_s: float) -> dict[str, Any]:
    """What SageMaker publishes about one request."""
    parameters = {"endpointName": endpoint, "inputLocation": job.input}
    found: dict[str, Any] = {
        "awsRegion": REGION,
        "eventTime": stamp(now_s),
        "receivedTime": stamp(job.received_s),
        "invocationStatus": outcome.status,
        "inferenceId": job.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    if outcome.status == "Completed":
        parameters["contentType"] = job.headers.get("content-type", "")
        found["responseParameters"] = {
            "contentType": outcome.content_type,
            "outputLocation": job.output,
        }
    else:
        found["failureReason"] = outcome.reason
    found["requestParameters"] = parameters
    return found


def test_message(now_s: float) -> dict[str, Any]:
    """What is published when an endpoint is made."""
    return {
        "awsRegion": REGION,
        "eventTime": stamp(now_s),
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "TestNotification",
    }


def stamp(at_s: float) -> str:
    """ISO 8601 with milliseconds, UTC."""
    millis = round(at_s * 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000))
    return f"{text}.{millis % 1000:03d}Z"


class Notifier:
    """Delivers messages; what cannot be delivered is told to the caller, never raised."""

    def __init__(self, topics: Topics, session: aiohttp.ClientSession) -> None:
        self.topics = topics
        self._session = session

    def topic(self, status: str) -> str:
        """Where the message about an outcome goes."""
        return self.topics.success if status == "Completed" else self.topics.error

    def includes(self, status: str) -> bool:
        """Whether the message holds the response itself."""
        kind = "SUCCESS" if status == "Completed" else "ERROR"
        return f"{kind}_NOTIFICATION_TOPIC" in self.topics.include

    async def deliver(self, topic: str, content: dict[str, Any]) -> bool:
        """Send one message; false when it could not be delivered."""
        if not topic:
            return True
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2**attempt)
            try:
                await self._send(topic, json.dumps(content))
                return True
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("a notification to %s failed: %s", topic, error)
        return False

    async def _send(self, topic: str, text: str) -> None:
        if topic.startswith("file:"):
            path = Path(topic.removeprefix("file:"))
            await asyncio.to_thread(_append, path, text)
        elif topic.startswith("arn:"):
            form = {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic}
            await self._post(self.topics.sns_url, data={**form, "Message": text})
        else:
            await self._post(topic, data=text, headers={"content-type": "application/json"})

    async def _post(self, url: str, **content: Any) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with self._session.post(url, timeout=timeout, **content) as answer:
            answer.raise_for_status()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")  # one write, so that lines of several writers never mix
