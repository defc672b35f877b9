"""From a model folder to an engine that is ready to answer, and what that took."""

import gc
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError

if TYPE_CHECKING:
    from servers.engine import Engine
    from servers.handlers import Handlers
    from servers.model_app import Startup
    from servers.signature import Signature

MAX_TRIED = 64
"""Samples that are looked at when it is tried whether calls can be put together."""


@dataclass(frozen=True)
class Wanted:
    """What to load, and how."""

    model_dir: Path
    program: str
    default_accept: str
    threads: int | None
    device: str
    max_batch: int


@dataclass(frozen=True)
class Loaded:
    """A model that is warm."""

    engine: "Engine"
    startup: "Startup"


def load(wanted: Wanted, model_thread: ThreadPoolExecutor, start: float) -> Loaded:
    """The model with the seconds of each part of the start, which began at ``start``.

    A failure is a ConfigError, with the traceback on stderr.
    """
    if wanted.threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(wanted.threads)
    # What is needed later is imported here, where its time counts as import.
    import servers.batching
    import servers.http_connection
    import servers.samples
    import servers.signature  # noqa: F401
    from servers.device import check_present
    from servers.handlers import load_handlers
    from servers.model_app import Startup

    stage = f"{wanted.model_dir / 'code' / wanted.program} cannot be imported"
    try:
        check_present(wanted.device)
        handlers = load_handlers(wanted.model_dir, wanted.program, wanted.default_accept)
        # Out of the collector's sight: otherwise each full collection walks every object of the
        # user's libraries, 90 ms with torch.
        gc.freeze()
        gc.enable()
        imported = time.perf_counter()

        # All of the model's life is in its thread: pools of threads belong to their maker.
        stage = "model_fn failed"
        model_thread.submit(_limit_torch, wanted.threads).result()
        model = model_thread.submit(handlers.load_model, wanted.model_dir).result()
        loaded = time.perf_counter()

        stage = "model_warmup_fn failed"
        # Once more: model_fn may have imported it.
        model_thread.submit(_limit_torch, wanted.threads).result()
        model_thread.submit(handlers.warm_up, wanted.model_dir, model).result()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = " ".join(str(error).split())
        raise ConfigError(f"{stage}: {type(error).__name__}: {reason}") from error
    engine = model_thread.submit(_engine, wanted, handlers, model).result()
    warm = time.perf_counter()
    gc.collect()  # what model_fn left; cheap, for the libraries are not looked at
    gc.freeze()
    return Loaded(engine, Startup(imported - start, loaded - imported, warm - loaded))


def _engine(wanted: Wanted, handlers: "Handlers", model: Any) -> "Engine":
    """The engine, with what the model's samples show of it."""
    from servers.batching import alone, find_batching
    from servers.device import device_of
    from servers.engine import Engine
    from servers.signature import completed, read_signature, shown

    device = device_of({"WEIGHBRIDGE_DEVICE": wanted.device})
    signature = (
        None
        if {"transform_fn", "transform_stream_fn"} & handlers.functions.keys()
        else read_signature(wanted.model_dir)
    )
    if wanted.max_batch < 2:
        return Engine(handlers, model, alone("switched off"), device, signature)
    if not handlers.batches:
        reason = "transform_fn, or a predict_fn that takes the context, serves one request"
        return Engine(handlers, model, alone(reason), device, signature)

    def predict(data: Any) -> Any:
        return handlers.predict(model, data)

    with device.stream():
        inputs = _sample_inputs(handlers, wanted.model_dir)
        if signature is not None and inputs:
            signature = completed(signature, inputs[0])
        batching = find_batching(predict, _tried(inputs, signature), wanted.max_batch)
        sys.stdout.write(
            f"batching: {'up to ' + str(wanted.max_batch) if batching.way else 'one by one'}: "
            f"{batching.reason}\n"
        )
        sys.stdout.flush()
        if signature is None and batching.way is not None:
            known = [data for data in inputs if batching.key(data) is not None]
            signature = shown(known, predict(known[0]), batching.way)
    return Engine(handlers, model, batching, device, signature)


def _sample_inputs(handlers: "Handlers", model_dir: Path) -> list[Any]:
    """What input_fn makes of the samples that the model brings; those that it refuses left out."""
    from servers.bodies import JSON
    from servers.handlers import Request, Watch
    from servers.samples import samples

    inputs = []
    try:
        bodies = samples(model_dir)[:MAX_TRIED]
    except ConfigError as error:
        sys.stdout.write(f"batching: {error}\n")
        return []
    for body in bodies:
        try:
            inputs.append(handlers.decode(Request(body, JSON, JSON), Watch()))
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything
            sys.stdout.write(f"batching: a sample is refused: {type(error).__name__}: {error}\n")
    return inputs


def _tried(inputs: list[Any], signature: "Signature | None") -> list[Any]:
    """The inputs, and the same as tensors, where those are of another kind."""
    from servers.signature import as_sent

    if signature is None:
        return inputs
    sent = [as_sent(signature, data) for data in inputs]
    return inputs + [data for data in sent if data is not None]


def _limit_torch(threads: int | None) -> None:
    torch: Any = sys.modules.get("torch")  # never imported for its own sake
    if torch is None:
        return
    if threads is not None:
        torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:  # the user's code has set it, or has started that pool already
            return
