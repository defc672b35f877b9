"""``weighbridge calibrate``: how fast this machine runs the model, and against another machine."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from bench.commands.common import MODEL_HELP, PATH, plain_console, ready_model, samples_of
from bench.errors import ConfigError
from bench.machine import machine
from bench.measure import Model

ROUNDS = 15
WARM_UP_SHARE = 0.2


@click.command()
@click.option("--model", type=PATH, help=MODEL_HELP)
@click.option("--payload", type=PATH, help="A request body. Default: the model's first sample.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 512))
@click.option(
    "--seconds", default=6.0, show_default=True, type=click.FloatRange(0.5, 600), help="How long."
)
@click.option(
    "--out", type=PATH, default="calibration.json", show_default=True, help="The score's file."
)
@click.option(
    "--against", type=PATH, help="The score of the other machine, for example the instance."
)
def calibrate(
    model: Path | None, payload: Path | None, threads: int, **given: float | Path | None
) -> None:
    """Time the model here; against the score of another machine, print the speed factor.

    Run it on the instance and here, with the same --model and --threads, then here again with
    --against FILE. Pass the factor to `report` or `run` as --speed-factor.
    """
    from reports.calibration import Score, factor, read_score, write_score

    console = plain_console()
    against, out = given["against"], given["out"]
    other = read_score(against) if isinstance(against, Path) else None
    ready = ready_model(model, console)
    body = _body(payload, ready)
    rounds = _timed(ready, body, threads, float(str(given["seconds"])))
    host = {k: v for k, v in machine().items() if k in ("cpu_model", "cpu_count", "fingerprint")}
    score = Score(host, ready.sha256, ready.name, threads, rounds)
    assert isinstance(out, Path)
    write_score(score, out)
    console.print(f"A call of {ready.name} takes {score.call_s * 1000:.3g} ms here. Score: {out}")
    if other is not None:
        found = factor(score, other)
        console.print(
            f"There ({other.machine.get('cpu_model', 'unknown')}) it takes {found.value:.3g} times "
            f"as long (95 % interval {found.low:.3g} to {found.high:.3g}).\n"
            f"Use it with: weighbridge report RUN --speed-factor {found.value:.3g}"
        )


def _body(payload: Path | None, model: Model) -> bytes:
    if payload is None:
        return samples_of(model)[0]
    if not payload.is_file():
        raise ConfigError(f"--payload {payload}: there is no such file.")
    return payload.read_bytes()


def _timed(model: Model, body: bytes, threads: int, seconds: float) -> list[float]:
    """The median time of a call in each of `ROUNDS` rounds, the first calls left out."""
    from servers.archive import unpack_model
    from servers.handlers import Request, load_handlers

    _set_threads(threads)
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        where = unpack_model(model.path, Path(folder) / "model")
        handlers = load_handlers(where)
        loaded = handlers.load_model(where)

        def call() -> None:
            answer = handlers.transform(loaded, Request(body, "application/json"))
            if answer.status != 200:
                said = answer.body[:300].decode(errors="replace")
                raise ConfigError(
                    f"The model answered {answer.status}: {said}. Give a body that it takes "
                    "with --payload."
                )

        _repeat(call, seconds * WARM_UP_SHARE)
        each = seconds * (1 - WARM_UP_SHARE) / ROUNDS
        return [_repeat(call, each) for _ in range(ROUNDS)]


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _repeat(call: Callable[[], None], seconds: float) -> float:
    """Call for about so many seconds, once at least; the median time of a call."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]
