"""From a deployment to endpoints that can be opened."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.deployment import Deployment
from bench.deployment import Endpoint as EndpointConfig
from bench.errors import ConfigError
from bench.target import Async, Batch, Lambda, Realtime, Serverless, Triton, Url, mode_of
from servers.alarm_operations import Alarms
from servers.archive import unpack_model
from servers.async_assembly import async_endpoint
from servers.async_view import AsyncView
from servers.asynchronous import AsyncEndpoint
from servers.batch import BatchOption, batch_option
from servers.cloudwatch import Cloudwatch
from servers.control import Control
from servers.elsewhere import Elsewhere
from servers.endpoint import Account, Endpoint, Means
from servers.endpoint_config import ConfigRegistry
from servers.endpoint_operations import EndpointOperations
from servers.instance import InstanceSpec, ProcessInstance, Replica
from servers.job_operations import JobOperations
from servers.layout import Blueprint, known_as
from servers.limits import Caps
from servers.metric_operations import MetricOperations
from servers.model_registry import ModelRegistry
from servers.premises import Site
from servers.profile import Profile, profile_for
from servers.realtime import RealtimeEndpoint
from servers.scaling_operations import ScalingOperations
from servers.serverless import ServerlessEndpoint
from servers.variables import Ports, ports_for, settings_variables


@dataclass(frozen=True)
class Assembled:
    """The deployment's endpoints, not opened."""

    endpoints: dict[str, Endpoint]
    descriptions: dict[str, dict[str, Any]]
    """Of each endpoint, for the manifest."""
    control: Control = field(default_factory=Control)
    """Answers for all of them."""


LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Workshop:
    """Unpacks each model once."""

    def __init__(self, site: Site, host: str) -> None:
        self.site = site
        # Others than this machine could make the server run code of theirs.
        self.models = ModelRegistry(self._unpack if host in LOOPBACK else None)
        self._unpacked: dict[str, Path] = {}

    def base_of(self, model: str) -> Path:
        """A folder that stands for /opt/ml, with the model in ``model``."""
        if model not in self._unpacked:
            self._unpacked[model] = self._unpack(Path(model))
        return self._unpacked[model]

    def _unpack(self, model: Path) -> Path:
        base = Path(tempfile.mkdtemp(dir=self.site.folder))
        unpack_model(model, base / "model")
        return base

    def add(self, config: EndpointConfig) -> Path:
        """Let callers name the endpoint's models; the folder of the one that is its own."""
        base = self.base_of(config.model)
        self.models.add(config.name, base, config.model)
        if isinstance(target := config.target, Realtime):
            for variant in target.variants + ([target.shadow] if target.shadow else []):
                if variant.model:  # what is wrong with it is told now
                    own = self.base_of(variant.model)
                    self.models.add(known_as(config.name, variant), own, variant.model)
        return base


def build_endpoints(deployment: Deployment, site: Site) -> Assembled:
    """The deployment's endpoints, not opened, and a description of each for the manifest.

    ConfigError when two have one name, a target breaks a limit or a model cannot be unpacked.
    """
    ports: Ports | None = None
    endpoints: dict[str, Endpoint] = {}
    descriptions: dict[str, dict[str, Any]] = {}
    workshop = Workshop(site, deployment.host)
    batch = batch_option(deployment, site, workshop.models)
    for config in deployment.endpoints:
        if config.name in endpoints:
            raise ConfigError(f"Two endpoints are called {config.name!r}. Rename one.")
        if isinstance(config.target, Triton | Url):
            endpoints[config.name] = _peer(config.name, config.target, workshop, config.model)
            descriptions[config.name] = {
                "mode": mode_of(config.target),
                "profile": [],
                "enforced": {},
            }
            continue
        profile = profile_for(config.target)
        base = workshop.add(config)
        _check_disk(config, profile, base)
        spec = _spec(config, profile, base, site)
        opened: dict[str, Any] = {}
        if ports is None and isinstance(config.target, Realtime):
            ports = ports_for(deployment.open_inference, config.target, deployment.host)
            if ports is not None:
                spec = replace(spec, environment={**spec.environment, **ports.variables()})
                opened = {"open_inference": ports.describe()}
        if batch is not None and isinstance(config.target, Batch):
            endpoints[config.name] = batch.add(config)
        else:
            endpoints[config.name] = _endpoint(config, profile, spec, workshop)
        descriptions[config.name] = {
            "mode": mode_of(config.target),
            "profile": profile.ledger(),
            "enforced": spec.limiter.describe(spec.caps),
            **opened,
        }
    built = Assembled(endpoints, descriptions)
    return replace(built, control=_control(built, deployment, workshop, batch))


def _control(
    built: Assembled, deployment: Deployment, workshop: Workshop, batch: BatchOption | None
) -> Control:
    seen: dict[str, object] = dict(built.endpoints)
    for config in deployment.endpoints:
        endpoint = built.endpoints[config.name]
        if isinstance(endpoint, AsyncEndpoint) and isinstance(config.target, Async):
            seen[config.name] = AsyncView(endpoint, config.target)
    models = workshop.models
    configs = ConfigRegistry(models)
    timers = workshop.site.timers
    cloudwatch = Cloudwatch(built.endpoints, timers)
    alarms = Alarms(cloudwatch, timers)
    operations = EndpointOperations(seen, configs, alarms)
    jobs = JobOperations(batch.service).table if batch else {}
    scaling = ScalingOperations(operations, timers)
    shown = MetricOperations(cloudwatch)
    tables = (operations.table, configs.table, models.table, scaling.table, jobs)
    return Control(*tables, alarms.table, shown.table)


def _peer(name: str, target: Triton | Url, workshop: Workshop, model: str) -> Elsewhere:
    if isinstance(target, Url):
        return Elsewhere(name, target.address, target.model)
    from servers.triton.endpoint import TritonEndpoint, TritonMeans

    site, threads = workshop.site, max(1, (os.cpu_count() or 1) - 1)
    return TritonEndpoint(
        name, target, TritonMeans(workshop.base_of(model), site.log, site.timers, threads)
    )


def contacts(endpoints: dict[str, Endpoint]) -> dict[str, dict[str, Any]]:
    """How those open endpoints are called that are not behind the front."""
    return {
        name: endpoint.contact.describe()
        for name, endpoint in endpoints.items()
        if isinstance(endpoint, Elsewhere) and endpoint.contact is not None
    }


def _size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _check_disk(config: EndpointConfig, profile: Profile, base: Path) -> None:
    """ConfigError when the unpacked model is larger than the option's disk, or its package."""
    if not isinstance(config.target, Serverless):
        return
    size, limit = _size_bytes(base / "model"), int(profile["disk_max_bytes"])
    remedy = "Make the model smaller."
    if isinstance(config.target, Lambda) and config.target.package == "zip":
        limit = int(profile["zip_max_bytes"])
        remedy = 'Set lambda.package = "image", or make the model smaller.'
    if size > limit:
        raise ConfigError(
            f"{config.model}: unpacked it is {size / 1e6:,.0f} MB; {profile.mode} takes "
            f"{limit / 1e6:,.0f} MB. {remedy}"
        )


def _spec(config: EndpointConfig, profile: Profile, base: Path, site: Site) -> InstanceSpec:
    cores = os.cpu_count() or 1
    if isinstance(config.target, Serverless):
        vcpus = config.target.memory_mb / profile["memory_mb_per_vcpu"]
        return InstanceSpec(
            base,
            profile,
            site.log,
            site.limiter,
            Caps(config.target.memory_mb, vcpus),
            threads=max(1, min(cores, int(vcpus))),
            # Serverless endpoints have no accelerator.
            # They take one request at a time, so there is nothing to put together.
            environment={"WEIGHBRIDGE_DEVICE": "cpu", "WEIGHBRIDGE_MAX_BATCH": "1"},
        )
    assert not isinstance(config.target, Triton | Url), "a peer has no instances"
    variables: dict[str, str] = {}
    if isinstance(config.target, Realtime):
        variables = settings_variables(config.target)
    elif isinstance(config.target, Async):
        limit = int(profile["payload_max_bytes"])
        variables = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(-(-limit // 2**20)),
            # A container's own limit of a minute would end what the option allows to take an hour.
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": f"{profile['invocation_timeout_s']:.0f}",
        }
    # The load generator and the front end need a core of their own.
    count = config.target.instance_count if isinstance(config.target, Realtime) else 1
    threads = max(1, (cores - 1) // count)
    spec = InstanceSpec(base, profile, site.log, site.limiter, Caps(), threads, variables)
    return replace(spec, command=tuple(config.command)) if config.command else spec


def _endpoint(
    config: EndpointConfig, profile: Profile, spec: InstanceSpec, workshop: Workshop
) -> Endpoint:
    site = workshop.site

    def new_instance(name: str) -> ProcessInstance:
        return ProcessInstance(name, spec)

    if isinstance(config.target, Async):
        return async_endpoint(config, profile, site, new_instance)
    means = Means(
        profile,
        new_instance,
        site.timers,
        site.starts,
        site.seed,
        _size_bytes(Path(config.model)),
        site.accounts.setdefault(mode_of(config.target), Account()),
        site.metrics,
    )
    match config.target:
        case Realtime() as target:

            def maker_of(model: str) -> Callable[[str], Replica]:
                known = workshop.models.named(model)
                environment = {**spec.environment, **known.environment}
                own = replace(spec, base_dir=known.base, environment=environment)
                return lambda name: ProcessInstance(name, own)

            return RealtimeEndpoint(Blueprint(config.name, target, means, maker_of))
        case Serverless():
            return ServerlessEndpoint(config.name, config.target, means)
        case Triton() | Url():
            return _peer(config.name, config.target, workshop, config.model)
        case Batch():
            raise AssertionError("the batch option makes its own")
