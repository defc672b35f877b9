"""From a deployment to endpoints that can be opened."""

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.deployment import Deployment
from bench.deployment import Endpoint as EndpointConfig
from bench.errors import ConfigError
from bench.target import Realtime, Serverless, mode_of
from servers.archive import unpack_model
from servers.endpoint import Endpoint, Means
from servers.instance import Instance, InstanceSpec, ProcessInstance
from servers.limits import Caps, Limiter
from servers.profile import Profile, profile_for
from servers.realtime import RealtimeEndpoint
from servers.serverless import ServerlessEndpoint
from servers.timers import Timers


@dataclass(frozen=True)
class Site:
    """What the endpoints of one process share."""

    folder: Path
    """For unpacked models; removed when the process ends."""
    log: Path
    session: aiohttp.ClientSession
    timers: Timers
    limiter: Limiter
    starts: asyncio.Semaphore
    seed: int


def build_endpoints(
    deployment: Deployment, site: Site
) -> tuple[dict[str, Endpoint], dict[str, dict[str, Any]]]:
    """The deployment's endpoints, not opened, and a description of each for the manifest.

    ConfigError when two have one name, a target breaks a limit or a model cannot be unpacked.
    """
    endpoints: dict[str, Endpoint] = {}
    descriptions: dict[str, dict[str, Any]] = {}
    unpacked: dict[str, Path] = {}
    for config in deployment.endpoints:
        if config.name in endpoints:
            raise ConfigError(f"Two endpoints are called {config.name!r}. Rename one.")
        profile = profile_for(config.target)
        if config.model not in unpacked:
            unpacked[config.model] = _unpack(Path(config.model), site.folder)
        spec = _spec(config, profile, unpacked[config.model], site)
        endpoints[config.name] = _endpoint(config, profile, spec, site)
        descriptions[config.name] = {
            "mode": mode_of(config.target),
            "profile": profile.ledger(),
            "enforced": spec.limiter.describe(spec.caps),
        }
    return endpoints, descriptions


def _unpack(model: Path, folder: Path) -> Path:
    """A folder that stands for /opt/ml, with the model in ``model``."""
    base = Path(tempfile.mkdtemp(dir=folder))
    unpack_model(model, base / "model")
    return base


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
            environment={"WEIGHBRIDGE_DEVICE": "cpu"},
        )
    # The load generator and the front end need a core of their own.
    return InstanceSpec(base, profile, site.log, site.limiter, Caps(), threads=max(1, cores - 1))


def _endpoint(config: EndpointConfig, profile: Profile, spec: InstanceSpec, site: Site) -> Endpoint:
    def new_instance(name: str) -> Instance:
        return ProcessInstance(name, spec, site.session)

    means = Means(profile, new_instance, site.timers, site.starts, site.seed)
    match config.target:
        case Realtime():
            return RealtimeEndpoint(config.name, means)
        case Serverless():
            return ServerlessEndpoint(config.name, config.target, means)
