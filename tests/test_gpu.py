import math
from types import SimpleNamespace
from typing import Any

from bench.gpu import COLUMNS, Gpus
from bench.run import SAMPLE_COLUMNS


class Nvml:
    """The driver's library with two GPUs, one of which does not tell its power."""

    NVMLError = ValueError

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=[100, 20][handle])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=[2_000, 1_000][handle])

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise ValueError("not supported")
        return 70_000


def test_the_figures_are_of_all_gpus() -> None:
    """The busy share is a mean, the memory a sum; what one GPU does not tell is not known."""
    figures = Gpus(Nvml()).figures()
    assert (figures["gpu_share"], figures["gpu_memory_bytes"]) == (0.6, 3_000)
    assert math.isnan(figures["gpu_power_w"])


def test_every_sample_has_the_columns() -> None:
    """Whether there is a GPU or not, the figures have the names of the samples' columns."""
    assert set(Gpus().figures()) == set(COLUMNS) <= set(SAMPLE_COLUMNS)
