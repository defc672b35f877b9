"""Endpoint configurations as the control API has them, as far as they are heeded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from servers.api_document import Document, arn, converted, invalid, page_of, text_of
from servers.control import Operations
from servers.model_registry import ModelRegistry, Name
from servers.wire import ApiError

MAX_CONFIGS = 1_000
MAX_COPIES = 100

Routing = Literal["RANDOM", "LEAST_OUTSTANDING_REQUESTS"]


class ServerlessConfig(Struct, frozen=True, rename="pascal"):
    """Size and concurrency of a serverless variant."""

    max_concurrency: Annotated[int, Meta(ge=1)]
    memory_size_in_mb: Annotated[int, Meta(ge=1)] = msgspec.field(name="MemorySizeInMB")
    provisioned_concurrency: Annotated[int, Meta(ge=1)] | None = None


class RoutingConfig(Struct, frozen=True, rename="pascal"):
    """How a variant's instance is chosen."""

    routing_strategy: Routing


class VariantConfig(Struct, frozen=True, rename="pascal"):
    """A production variant, or a shadow."""

    variant_name: Name
    model_name: str
    initial_instance_count: Annotated[int, Meta(ge=1, le=MAX_COPIES)] | None = None
    initial_variant_weight: Annotated[float, Meta(ge=0)] = 1.0
    serverless_config: ServerlessConfig | None = None
    routing_config: RoutingConfig | None = None


class Request(Struct, frozen=True, rename="pascal"):
    """CreateEndpointConfig."""

    endpoint_config_name: Name
    production_variants: Annotated[list[VariantConfig], Meta(min_length=1, max_length=10)]
    shadow_production_variants: Annotated[list[VariantConfig], Meta(max_length=1)] = []
    async_inference_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class EndpointConfig:
    """What was asked for, and its document as it came."""

    request: Request
    document: Document
    created_s: float = field(default_factory=time.time)
    status: str = "InService"

    @property
    def name(self) -> str:
        return self.request.endpoint_config_name

    @property
    def modified_s(self) -> float:
        return self.created_s


class ConfigRegistry:
    """Configurations by name."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._configs: dict[str, EndpointConfig] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def add(self, document: Document) -> EndpointConfig:
        """Keep what ``document`` describes; ValidationException when it contradicts itself."""
        request = converted(document, Request)
        _check(request)
        config = EndpointConfig(request, document)
        self._configs[config.name] = config
        return config

    def named(self, name: str) -> EndpointConfig:
        """ValidationException when there is none."""
        if name not in self._configs:
            where = arn("endpoint-config", name)
            raise invalid(f'Could not find endpoint configuration "{where}".')
        return self._configs[name]

    @property
    def table(self) -> Operations:
        return {
            "SageMaker.CreateEndpointConfig": self._create,
            "SageMaker.DescribeEndpointConfig": self._describe,
            "SageMaker.ListEndpointConfigs": self._list,
            "SageMaker.DeleteEndpointConfig": self._delete,
        }

    async def _create(self, body: Document) -> Document:
        if (name := text_of(body, "EndpointConfigName")) in self._configs:
            raise invalid(f"Cannot create already existing endpoint configuration {name!r}.")
        if len(self._configs) >= MAX_CONFIGS:
            text = f"There are {MAX_CONFIGS} endpoint configurations already."
            raise ApiError(400, "ResourceLimitExceeded", text)
        for variant in converted(body, Request).production_variants:
            self._models.named(variant.model_name)
        return {"EndpointConfigArn": arn("endpoint-config", self.add(body).name)}

    async def _describe(self, body: Document) -> Document:
        config = self.named(text_of(body, "EndpointConfigName"))
        shown = {"EndpointConfigArn": arn("endpoint-config", config.name)}
        return {**config.document, **shown, "CreationTime": config.created_s}

    async def _list(self, body: Document) -> Document:
        page, more = page_of(self._configs.values(), body)
        configs = [
            {
                "EndpointConfigName": config.name,
                "EndpointConfigArn": arn("endpoint-config", config.name),
                "CreationTime": config.created_s,
            }
            for config in page
        ]
        return {"EndpointConfigs": configs, **more}

    async def _delete(self, body: Document) -> Document:
        """It can be named no more; endpoints made from it go on."""
        del self._configs[self.named(text_of(body, "EndpointConfigName")).name]
        return {}


def _check(request: Request) -> None:
    variants, shadows = request.production_variants, request.shadow_production_variants
    names = [variant.variant_name for variant in (*variants, *shadows)]
    if len(set(names)) < len(names):
        raise invalid(f"Two variants have one name: {', '.join(names)}. Rename one.")
    if shadows and len(variants) > 1:
        raise invalid("With a shadow variant there is exactly one production variant.")
    if any(variant.serverless_config for variant in variants):
        if len(names) > 1:
            raise invalid("A serverless endpoint has exactly one variant.")
    elif not any(variant.initial_variant_weight for variant in variants):
        raise invalid("Every InitialVariantWeight is 0. Give one of them a share.")
