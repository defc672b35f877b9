"""What this machine's NVIDIA GPUs are doing: the figures that nvidia-smi prints."""

import contextlib
import math
from typing import Any

COLUMNS = ("gpu_share", "gpu_memory_bytes", "gpu_power_w")
"""Busy share of time, mean of all GPUs, 0 to 1; memory in use and power drawn, of all together."""


class Gpus:
    """Asks the driver's own library; without a driver every figure is NaN."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml if nvml is not None else _nvml()
        self._handles: list[Any] = []
        if self._nvml is not None:
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]

    def figures(self) -> dict[str, float]:
        """The columns of one sample; NaN for what a GPU does not tell."""
        if not self._handles:
            return dict.fromkeys(COLUMNS, math.nan)
        nvml = self._nvml
        return {
            "gpu_share": self._sum(lambda one: nvml.nvmlDeviceGetUtilizationRates(one).gpu / 100)
            / len(self._handles),
            "gpu_memory_bytes": self._sum(lambda one: nvml.nvmlDeviceGetMemoryInfo(one).used),
            "gpu_power_w": self._sum(lambda one: nvml.nvmlDeviceGetPowerUsage(one) / 1000),
        }

    def _sum(self, ask: Any) -> float:
        try:
            return float(sum(ask(one) for one in self._handles))
        except self._nvml.NVMLError:  # some do not tell, as parts of a divided GPU
            return math.nan


def _nvml() -> Any:
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return pynvml
    return None
