"""Where a model computes: the device that was asked for, and what it gives a batch."""

import contextlib
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bench.errors import ConfigError
from servers.stacking import Way, is_tensor, join

VARIABLE = "WEIGHBRIDGE_DEVICE"


class Device(Protocol):
    """What the engine asks of the place where the model computes."""

    ahead: bool
    """Whether the next batch is worth preparing while this one is computed."""

    def stream(self) -> AbstractContextManager[Any]:
        """Everything of one batch happens within."""

    def join(self, inputs: list[Any], way: Way) -> Any:
        """One input from several."""


class Cpu:
    """The processor: it would only be kept from the model by work ahead."""

    ahead = False

    def stream(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def join(self, inputs: list[Any], way: Way) -> Any:
        return join(inputs, way)


class Cuda:
    """A GPU: one stream for the model, batches joined in memory that it can read by itself.

    ``torch`` is passed in, so that all but the hardware can be tested without any.
    """

    ahead = True

    def __init__(self, torch: Any, name: str) -> None:
        self._torch = torch
        self._name = name
        self._stream = torch.cuda.Stream(device=name)

    def stream(self) -> AbstractContextManager[Any]:
        stack = contextlib.ExitStack()
        stack.enter_context(self._torch.cuda.device(self._name))
        stack.enter_context(self._torch.cuda.stream(self._stream))
        return stack

    def join(self, inputs: list[Any], way: Way) -> Any:
        """The joint input in pinned memory, where it is a tensor of the processor's.

        torch keeps pinned blocks for reuse, and not before the copies from them are through.
        """
        first = inputs[0]
        if isinstance(first, dict):
            return {name: self.join([each[name] for each in inputs], way) for name in first}
        if isinstance(first, tuple):
            return tuple(self.join(list(parts), way) for parts in zip(*inputs, strict=True))
        if not is_tensor(first) or first.device.type != "cpu":
            return join(inputs, way)
        rows = sum(len(each) for each in inputs) if way == "rows" else len(inputs)
        rest = first.shape[1:] if way == "rows" else first.shape
        place = self._torch.empty((rows, *rest), dtype=first.dtype, pin_memory=True)
        combine = self._torch.cat if way == "rows" else self._torch.stack
        return combine(inputs, out=place)


def check_device(device: str) -> None:
    """Return if ``device`` is a name that may be asked for."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (
        ":" in device and (kind != "cuda" or not number.isdecimal())
    ):
        raise ConfigError(f"{VARIABLE} is {device!r}: set auto, cpu, cuda or cuda:N.")


def check_present(device: str) -> None:
    """ConfigError when a GPU is asked for by name and torch finds none; imports torch then only."""
    if not device.startswith("cuda"):
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        raise ConfigError(
            f"{VARIABLE} is {device!r}, but torch finds {count} GPU(s) here. Set auto or cpu, or "
            "install a driver and a build of torch with CUDA."
        )


def device_of(environment: Mapping[str, str]) -> Device:
    """The device that the environment asks for; ``auto`` is a GPU if the model's torch has one."""
    wanted = environment.get(VARIABLE) or "auto"
    torch: Any = sys.modules.get("torch")  # never imported for its own sake
    if wanted == "cpu" or torch is None or not torch.cuda.is_available():
        return Cpu()
    return Cuda(torch, "cuda:0" if wanted in ("auto", "cuda") else wanted)
