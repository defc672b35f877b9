"""Agents of batch jobs as tasks of a dask cluster: the same work, by more processes or machines.

dask.distributed is the extra ``weighbridge[dask]``. Its executor is one of concurrent.futures, so
nothing else changes. The workers need Weighbridge installed, and a route to the machine of the
server process: to the object store, and to the containers, which run there. They share no folder,
unless the buckets are folders.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from bench.errors import ConfigError


def cluster_executor(address: str, timeout_s: float = 10.0) -> Callable[[int], Executor]:
    """What makes executors of the cluster whose scheduler is at ``address``.

    ConfigError when dask is not installed, or nothing answers there.
    """
    try:
        import distributed
    except ImportError:
        raise ConfigError(
            "batch.cluster needs dask.distributed. Install it: pip install 'weighbridge[dask]'."
        ) from None
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=timeout_s, set_as_default=False)
    except OSError as error:
        raise ConfigError(
            f"batch.cluster = {address!r}: no scheduler answers there ({error}). Start one with "
            "`dask scheduler` and workers with `dask worker ADDRESS`."
        ) from None

    def new_executor(_: int) -> Executor:
        # An object is done once whatever the scheduler thinks of its worker: no copies, no retries.
        executor: Executor = client.get_executor(pure=False, retries=0)
        return executor

    return new_executor
