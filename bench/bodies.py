"""From what a workload says of its payload to the bodies that its requests have."""

from pathlib import Path

import numpy as np

from bench.arrivals import scheduled_count
from bench.datasets import dataset_stock
from bench.errors import ConfigError
from bench.payload import Sizes
from bench.replay import Replay
from bench.sized import sized_stock
from bench.stock import Stock, stock_of_files
from bench.units import MAX_REQUESTS
from bench.workload import Workload

CYCLE = 100_003
"""So many sizes are drawn; a longer run takes the same again."""
MAX_DISTINCT = 10_000
"""A trace with more different sizes has them rounded to three digits."""


def make_stock(workload: Workload, files: list[Path], folder: Path) -> Stock:
    """The bodies of the workload's requests; ``files`` are its samples, ``folder`` takes new ones.

    The same workload, files and seed give the same bodies.
    """
    payload, arrivals = workload.payload, workload.arrivals
    sizes, classes = None, None
    if isinstance(arrivals, Replay):
        sizes, classes = arrivals.sizes(workload.duration_s), arrivals.classes(workload.duration_s)
    if sizes is not None and payload.size is not None:
        raise ConfigError(
            "arrivals.size_column and payload.size both say how large a body is. Give one of them."
        )
    if payload.records is not None:
        if sizes is not None or classes is not None or payload.size is not None:
            raise ConfigError(
                "payload.records says what each request has; leave out payload.size, "
                "arrivals.size_column and arrivals.class_column."
            )
        count = scheduled_count(arrivals, workload.duration_s, workload.seed)
        return dataset_stock(payload, count or MAX_REQUESTS, folder / "records.bin")
    if sizes is not None:
        found, order = np.unique(_distinct(sizes), return_inverse=True)
        return sized_stock(payload, files, found, order, folder / "sized.bin")
    if payload.size is not None:
        found, shares = payload.size.pool()
        random = np.random.default_rng((workload.seed, 1))
        order = random.choice(len(found), CYCLE, p=shares)
        return sized_stock(payload, files, found, order, folder / "sized.bin")
    order = _by_class(classes, files) if classes is not None else np.empty(0, np.int64)
    return stock_of_files(files, order)


def _distinct(sizes: Sizes) -> Sizes:
    if len(np.unique(sizes)) <= MAX_DISTINCT:
        return sizes
    unit = 10.0 ** np.maximum(0, np.floor(np.log10(sizes)) - 2)
    return np.asarray((np.round(sizes / unit) * unit).astype(np.int64))


def _by_class(classes: list[str], files: list[Path]) -> Sizes:
    """A request of class C has the file called C, whatever its suffix."""
    known = {file.stem: number for number, file in enumerate(files)}
    unknown = sorted({name for name in classes if name not in known})
    if unknown:
        raise ConfigError(
            f"The trace has the class {unknown[0]!r}, but no file of the payload is called so; "
            f"there are {', '.join(sorted(known)[:10])}. Name a folder with a file for each class."
        )
    return np.array([known[name] for name in classes], np.int64)
