"""The control operations of endpoints of every option.

Functions of AWS Lambda, batch models and servers that are not ours are no endpoints of SageMaker's.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Protocol, runtime_checkable

from msgspec import Meta, Struct

from servers.alarm_operations import Alarms
from servers.api_document import Document, arn, converted, invalid, known, page_of, text_of
from servers.control import Operations
from servers.endpoint_config import MAX_COPIES, ConfigRegistry, EndpointConfig
from servers.guardrails import DeploymentConfig


class ServerlessChange(Struct, frozen=True, rename="pascal"):
    """New concurrency of a serverless variant."""

    max_concurrency: int | None = None
    provisioned_concurrency: int | None = None


class Change(Struct, frozen=True, rename="pascal"):
    """What is wanted of one variant."""

    variant_name: str
    desired_weight: Annotated[float, Meta(ge=0)] | None = None
    desired_instance_count: Annotated[int, Meta(ge=0, le=MAX_COPIES)] | None = None
    serverless_update_config: ServerlessChange | None = None


class Changes(Struct, frozen=True, rename="pascal"):
    """UpdateEndpointWeightsAndCapacities."""

    endpoint_name: str
    desired_weights_and_capacities: Annotated[list[Change], Meta(min_length=1, max_length=10)]


class Renewal(Struct, frozen=True, rename="pascal"):
    """UpdateEndpoint, as far as it is heeded."""

    endpoint_name: str
    endpoint_config_name: str
    retain_all_variant_properties: bool = False
    deployment_config: Document | None = None
    retain_deployment_config: bool = False


Watch = Callable[[Callable[[str], None]], Callable[[], None]]
"""Calls back with the reason once an alarm rings; gives what ends the watch."""


@dataclass(frozen=True)
class Update:
    """A new version of an endpoint, and how it is brought about."""

    config: EndpointConfig
    retain: bool
    """Weights and counts stay."""
    deployment: DeploymentConfig | None
    watch: Watch = lambda _: lambda: None
    """Of its alarms."""


@runtime_checkable
class Governed(Protocol):
    """An endpoint that can be shown and changed while it serves."""

    name: str

    @property
    def settled(self) -> bool:
        """Whether it has the capacity that is wanted."""

    @property
    def rolling_back(self) -> bool:
        """Whether an update has failed, and the old version is being brought back."""

    def configuration(self) -> Document | None:
        """What CreateEndpointConfig would be told to make it; None: it is no endpoint there."""

    def describe(self) -> Document:
        """Its own members of DescribeEndpoint."""

    def change(self, changes: list[Change]) -> None:
        """All of them or, with a ValidationError, none."""

    def renew(self, update: Update, done: Callable[[str], None]) -> None:
        """Begin a new version; ``done`` is told in the end why it failed, or nothing.

        ValidationError when it cannot even begin.
        """


@dataclass
class Standing:
    """How an endpoint stands in its life."""

    endpoint: Governed
    config: str
    created_s: float
    modified_s: float
    pending: Document | None = None
    """Of PendingDeploymentSummary, while it is being updated."""
    deployment: Document | None = None
    """The DeploymentConfig of the last update."""
    failure: str = ""
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done when the update has ended."""

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def updating(self) -> bool:
        return self.pending is not None

    @property
    def status(self) -> str:
        if self.endpoint.rolling_back:
            return "RollingBack"
        return "Updating" if self.updating or not self.endpoint.settled else "InService"


class EndpointOperations:
    """Shows, lists and changes endpoints."""

    def __init__(
        self, endpoints: Mapping[str, object], configs: ConfigRegistry, alarms: Alarms
    ) -> None:
        self._configs = configs
        self._alarms = alarms
        self._standings: dict[str, Standing] = {}
        now_s = time.time()
        for endpoint in endpoints.values():
            if not isinstance(endpoint, Governed):
                continue
            if (document := endpoint.configuration()) is not None:
                config = configs.add({"EndpointConfigName": endpoint.name, **document})
                self._standings[endpoint.name] = Standing(endpoint, config.name, now_s, now_s)

    @property
    def table(self) -> Operations:
        return {
            "SageMaker.DescribeEndpoint": self._describe,
            "SageMaker.ListEndpoints": self._list,
            "SageMaker.UpdateEndpoint": self._renew,
            "SageMaker.UpdateEndpointWeightsAndCapacities": self._change,
        }

    def governed(self, name: str) -> Governed:
        """ValidationException when there is none, or it is being updated."""
        standing = self._named(name)
        if standing.updating:
            raise invalid(f'Cannot update in-progress endpoint "{arn("endpoint", name)}".')
        return standing.endpoint

    def after_update(self, name: str, act: Callable[[], None]) -> None:
        """Call ``act`` now or, while the endpoint is being updated, when that has ended."""
        standing = self._named(name)
        if standing.updating:
            standing.waiting.append(act)
        else:
            act()

    async def _describe(self, body: Document) -> Document:
        standing = self._named(text_of(body, "EndpointName"))
        shown = {
            "EndpointName": standing.name,
            "EndpointArn": arn("endpoint", standing.name),
            "EndpointConfigName": standing.config,
            "EndpointStatus": standing.status,
            "FailureReason": standing.failure or None,
            "CreationTime": standing.created_s,
            "LastModifiedTime": standing.modified_s,
            "LastDeploymentConfig": standing.deployment,
            **standing.endpoint.describe(),
        }
        if standing.pending is not None:
            more = shown.get("PendingDeploymentSummary", {})
            shown["PendingDeploymentSummary"] = {**standing.pending, **more}
        return known(shown)

    async def _list(self, body: Document) -> Document:
        page, more = page_of(self._standings.values(), body)
        endpoints = [
            {
                "EndpointName": standing.name,
                "EndpointArn": arn("endpoint", standing.name),
                "EndpointStatus": standing.status,
                "CreationTime": standing.created_s,
                "LastModifiedTime": standing.modified_s,
            }
            for standing in page
        ]
        return {"Endpoints": endpoints, **more}

    async def _change(self, body: Document) -> Document:
        changes = converted(body, Changes)
        endpoint = self.governed(changes.endpoint_name)
        endpoint.change(changes.desired_weights_and_capacities)
        self._named(endpoint.name).modified_s = time.time()
        return {"EndpointArn": arn("endpoint", endpoint.name)}

    async def _renew(self, body: Document) -> Document:
        wanted = converted(body, Renewal)
        endpoint = self.governed(wanted.endpoint_name)
        config = self._configs.named(wanted.endpoint_config_name)
        standing = self._named(endpoint.name)
        chosen = wanted.deployment_config
        if wanted.retain_deployment_config and chosen is None:
            chosen = standing.deployment
        guardrails = None if chosen is None else converted(chosen, DeploymentConfig)
        names = guardrails.alarms if guardrails is not None else []
        self._alarms.check(names)
        watch = partial(self._alarms.watch, names)
        update = Update(config, wanted.retain_all_variant_properties, guardrails, watch)

        def done(failure: str) -> None:
            standing.pending, standing.modified_s = None, time.time()
            standing.failure = failure[:1024]
            if not failure:
                standing.config = config.name
            waiting, standing.waiting = standing.waiting, []
            for act in waiting:
                act()

        standing.pending = {"EndpointConfigName": config.name, "StartTime": time.time()}
        try:
            endpoint.renew(update, done)
        except BaseException:
            standing.pending = None
            raise
        standing.deployment = chosen
        return {"EndpointArn": arn("endpoint", endpoint.name)}

    def _named(self, name: str) -> Standing:
        if name not in self._standings:
            raise invalid(f'Could not find endpoint "{arn("endpoint", name)}".')
        return self._standings[name]
