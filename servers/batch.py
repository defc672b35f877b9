"""Batch transform as one of the options of a server process."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.deployment import Deployment
from bench.deployment import Endpoint as EndpointConfig
from bench.errors import ConfigError
from bench.target import Batch
from servers.bucket_view import BucketView, FolderView, folder_of_buckets
from servers.cluster import cluster_executor
from servers.endpoint import Invocation, Served
from servers.instance import LOOPBACK, InstanceSpec, ProcessInstance
from servers.job_run import local_executor
from servers.limits import Caps
from servers.model_registry import Model, ModelRegistry
from servers.pages import Pages
from servers.premises import Site
from servers.profile import Profile, profile_for
from servers.store_view import StoreView
from servers.transform import BatchModel, TransformMeans, TransformService
from servers.transform_request import ModelClientConfig, TransformRequest
from servers.wire import ApiError, validation_error

EVERYWHERE = ("0.0.0.0", "::")
_STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}


class BatchEndpoint:
    """Stands among the endpoints, but has none: what is sent to it is told the way to go."""

    payload_max_bytes = 0

    def __init__(self, name: str, service: TransformService) -> None:
        self.name = name
        self._service = service

    @property
    def books(self) -> list[Pages]:
        """The metrics of the jobs that are under way."""
        return self._service.books(self.name)

    async def open(self) -> None:
        """Take up jobs that had not ended."""
        self._service.open()

    async def invoke(self, _: Invocation) -> Served:
        raise self._refusal()

    async def close(self) -> None:
        await self._service.close()

    def oversize(self, _: str) -> ApiError:
        return self._refusal()

    def status(self) -> dict[str, int]:
        return self._service.status()

    def _refusal(self) -> ApiError:
        return validation_error(
            f"{self.name} is a model for batch transform and has no endpoint. "
            "Give it as ModelName to CreateTransformJob."
        )


class BatchModels(Mapping[str, BatchModel]):
    """The models that jobs may name: all that are known."""

    def __init__(self, known: ModelRegistry, target: Batch, site: Site, host: str) -> None:
        self._known = known
        self._host = host
        self._profile = profile_for(target)
        self._profiles: dict[str, Profile] = {}
        self._site = site

    def own(self, name: str, profile: Profile) -> None:
        """The model called ``name`` has a profile of its own."""
        self._profiles[name] = profile

    def __getitem__(self, name: str) -> BatchModel:
        model = self._known.find(name)
        if model is None:
            raise KeyError(name)
        profile = self._profiles.get(name, self._profile)
        return _model(profile, model, self._site, self._host)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True)
class BatchOption:
    """What a deployment's batch models share."""

    service: TransformService
    models: BatchModels

    def add(self, config: EndpointConfig) -> BatchEndpoint:
        """A place among the endpoints for a model that is known by the name in ``config``."""
        assert isinstance(config.target, Batch), "only batch models are added here"
        self.models.own(config.name, profile_for(config.target))
        return BatchEndpoint(config.name, self.service)


def batch_option(deployment: Deployment, site: Site, known: ModelRegistry) -> BatchOption | None:
    """The option, not opened; None when no target of the deployment is batch."""
    targets = [e.target for e in deployment.endpoints if isinstance(e.target, Batch)]
    if not targets:
        return None
    view: BucketView = StoreView(site.store, site.address)
    if deployment.buckets is not None:
        view = FolderView(folder_of_buckets(Path(deployment.buckets)))
    clusters = [target.cluster for target in targets if target.cluster]
    if clusters and deployment.host in EVERYWHERE:
        raise ConfigError(
            f"batch.cluster with --host {deployment.host}: the cluster's workers call this machine "
            "by the address in --host. Give the one by which they reach it."
        )
    means = TransformMeans(
        site.data / "jobs",
        view,
        site.timers,
        site.starts,
        cluster_executor(clusters[0]) if clusters else local_executor,
        site.metrics,
        bool(clusters),
        max(target.max_instances for target in targets),
        site.seed,
    )
    host = deployment.host if clusters else LOOPBACK
    models = BatchModels(known, targets[0], site, host)
    return BatchOption(TransformService(means, models), models)


def _model(profile: Profile, model: Model, site: Site, host: str) -> BatchModel:
    def new_instance(name: str, request: TransformRequest) -> ProcessInstance:
        count = request.transform_resources.instance_count
        spec = InstanceSpec(
            model.base,
            profile,
            site.log,
            site.limiter,
            Caps(),
            # The agents and the front end need a core of their own.
            threads=max(1, ((os.cpu_count() or 1) - 1) // count),
            environment={
                # A container's own limit of a minute would end what the job allows to take longer.
                "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(_limit_s(request)),
                **model.environment,
                **request.environment,
                **batch_environment(request),
            },
            host=host,
        )
        return ProcessInstance(name, spec)

    return BatchModel(profile, new_instance)


def batch_environment(request: TransformRequest) -> dict[str, str]:
    """What SageMaker adds to the container's environment: beside the first, only what was set."""
    added: dict[str, str | None] = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": _text(request.max_payload_mb),
        "SAGEMAKER_BATCH_STRATEGY": _STRATEGIES.get(request.batch_strategy or ""),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": _text(request.max_concurrent_transforms),
    }
    return {name: value for name, value in added.items() if value is not None}


def _limit_s(request: TransformRequest) -> int:
    """The time that the model may take for one mini-batch."""
    return (request.model_client_config or ModelClientConfig()).invocations_timeout_in_seconds


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
