"""An asynchronous endpoint as the control API sees it."""

from collections.abc import Callable
from typing import Any

from bench.target import Async
from servers.api_document import known
from servers.asynchronous import AsyncEndpoint
from servers.endpoint_operations import Change, Update
from servers.wire import VARIANT, validation_error


class AsyncView:
    """Shown, but not changed: its capacity follows its backlog."""

    def __init__(self, endpoint: AsyncEndpoint, target: Async) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        self._target = target

    @property
    def settled(self) -> bool:
        """Whether all instances that are wanted are in service."""
        in_service, desired = self._endpoint.capacity
        return in_service == desired

    @property
    def rolling_back(self) -> bool:
        """Never: it is not updated."""
        return False

    def configuration(self) -> dict[str, Any]:
        """What CreateEndpointConfig would be told to make it."""
        variant = {
            "VariantName": VARIANT,
            "ModelName": self.name,
            "InstanceType": self._target.instance_type,
            "InitialInstanceCount": max(1, self._target.min_instances),
            "InitialVariantWeight": 1.0,
        }
        return {"ProductionVariants": [variant], "AsyncInferenceConfig": self._config()}

    def describe(self) -> dict[str, Any]:
        """Its own members of DescribeEndpoint."""
        in_service, desired = self._endpoint.capacity
        variant = {
            "VariantName": VARIANT,
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            "CurrentInstanceCount": in_service,
            "DesiredInstanceCount": desired,
        }
        return {"ProductionVariants": [variant], "AsyncInferenceConfig": self._config()}

    def change(self, changes: list[Change]) -> None:
        """Refused: what its backlog asks for would be set again a minute later."""
        del changes
        raise validation_error(
            f"Endpoint {self.name} is asynchronous: its instances follow its backlog. Set "
            "async.min_instances and async.max_instances."
        )

    def renew(self, update: Update, done: Callable[[str], None]) -> None:
        """Refused."""
        del update, done
        raise validation_error(
            f"Endpoint {self.name} is asynchronous and cannot be updated here. Start it anew; "
            "its backlog stays."
        )

    def _config(self) -> dict[str, Any]:
        target = self._target
        topics = known(
            {
                "SuccessTopic": target.success_topic or None,
                "ErrorTopic": target.error_topic or None,
                "IncludeInferenceResponseIn": list(target.include_response_in) or None,
            }
        )
        output = {
            "S3OutputPath": target.output_path,
            "S3FailurePath": target.failure_path or None,
            "NotificationConfig": topics or None,
        }
        most = self._endpoint.concurrency
        return {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": most},
            "OutputConfig": known(output),
        }
