"""Store, backlog and endpoint of the asynchronous option, from a deployment."""

from collections.abc import Callable
from pathlib import Path

from bench.deployment import Deployment
from bench.deployment import Endpoint as EndpointConfig
from bench.errors import ConfigError
from bench.target import Async
from servers.asynchronous import AsyncEndpoint, Plant
from servers.backlog import Backlog
from servers.fleet import Container
from servers.lmdb_backlog import LmdbBacklog
from servers.local_store import LocalStore
from servers.premises import Site
from servers.profile import Profile
from servers.s3_store import S3Store
from servers.store import Store, location


def targets(deployment: Deployment) -> list[Async]:
    """Every asynchronous target of the deployment."""
    each = (endpoint.target for endpoint in deployment.endpoints)
    return [target for target in each if isinstance(target, Async)]


async def open_store(deployment: Deployment, data: Path) -> LocalStore | None:
    """The embedded store with the buckets that the targets name; None where nothing needs it."""
    found = targets(deployment)
    if not found:
        return None
    full = any(target.sync == "full" for target in found)
    store = LocalStore(data / "objects", "full" if full else "normal")
    await store.open()
    for target in found:
        for path in (target.output_path, target.failure_path):
            if path and not target.store_url:
                await store.make_bucket(location(f"{path}/object").bucket)
    return store


def async_endpoint(
    config: EndpointConfig, profile: Profile, site: Site, new_container: Callable[[str], Container]
) -> AsyncEndpoint:
    """The endpoint, not opened."""
    target = config.target
    assert isinstance(target, Async)
    store: Store = S3Store(target.store_url) if target.store_url else site.store
    backlog = _backlog(config.name, target, site.data)
    plant = Plant(
        *(profile, site.timers, site.starts, new_container, store, backlog, site.seed),
        metrics=site.metrics,
    )
    return AsyncEndpoint(config.name, target, plant)


def _backlog(name: str, target: Async, data: Path) -> Backlog:
    if not target.backlog_url:
        return LmdbBacklog(data / "backlog" / f"{name}.lmdb", sync=target.sync)
    try:
        from servers.backlog_nats import NatsBacklog
    except ImportError as error:
        raise ConfigError(
            f"async.backlog_url = {target.backlog_url!r}: {error}. Install weighbridge[nats]."
        ) from error
    return NatsBacklog(target.backlog_url, name)
