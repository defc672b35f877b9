"""Trains the built-in model once and keeps it: seconds on a CPU, the same bytes every time."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from bench.errors import MeasurementError
from servers.archive import pack_model

if TYPE_CHECKING:
    import torch

    from servers.digits.code.inference import Digits

SEED = 1
EPOCHS = 12
BATCH = 64
HELD_OUT = 360
SAMPLES = 64
MIN_ACCURACY = 0.97
SIGNATURE = {
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}],
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probability", "datatype": "FP32", "shape": [-1]},
    ],
    "library": "torch",
}

_PROGRAM = Path(__file__).parent / "code" / "inference.py"
_PACKAGES = ("torch", "numpy", "scikit-learn", "safetensors")


def build(cache: Path) -> Path:
    """The digits model's ``model.tar.gz`` under ``cache``, trained now if it is not there yet.

    Several processes may ask at once; each gets a whole archive. MeasurementError when the model
    does not learn what it must.
    """
    archive = archive_in(cache)
    if archive.is_file():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=archive.parent) as folder:
        _write(Path(folder))
        pack_model(Path(folder), archive)
    return archive


def archive_in(cache: Path) -> Path:
    """Where the archive of these sources is kept, whether it is there yet or not."""
    return cache / f"digits-{_key()}" / "model.tar.gz"


def _key() -> str:
    """Changes with everything that the archive depends on; importing none of it."""
    parts = [Path(__file__).read_bytes(), _PROGRAM.read_bytes()]
    parts += [f"{name} {version(name)}".encode() for name in _PACKAGES]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _write(folder: Path) -> None:
    from safetensors.torch import save_file

    train_images, train_labels, images, labels = _data()
    model = _train(train_images, train_labels)
    accuracy = _accuracy(model, images, labels)
    if accuracy < MIN_ACCURACY:
        raise MeasurementError(
            f"The digits model reads only {accuracy:.1%} of the held-out digits, "
            f"{MIN_ACCURACY:.0%} are needed: this machine's torch computes wrongly. Reinstall it."
        )
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_bytes(_PROGRAM.read_bytes())
    save_file(model.state_dict(), folder / "model.safetensors")
    metrics = {"accuracy": accuracy, "trained_on": len(train_labels), "held_out": len(labels)}
    (folder / "metrics.json").write_bytes(orjson.dumps(metrics))
    (folder / "signature.json").write_bytes(orjson.dumps(SIGNATURE))
    pairs = zip(images[:SAMPLES].int().tolist(), labels[:SAMPLES].tolist(), strict=True)
    samples = [{"body": body, "label": label} for body, label in pairs]
    (folder / "samples.json").write_bytes(orjson.dumps(samples))


def _data() -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Images and labels to train with, then those held out; the same split every time."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    images = torch.from_numpy(bunch.data[order].astype(np.float32))
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    return images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT]


def _train(images: "torch.Tensor", labels: "torch.Tensor") -> "Digits":
    import torch

    from servers.digits.code.inference import Digits

    random = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(SEED)
        model = Digits()
    with _one_thread():
        _fit(model, images, labels, random)
    return model.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads cost ten times the work here when others use the cores, and would change the sums."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(
    model: "Digits", images: "torch.Tensor", labels: "torch.Tensor", random: "torch.Generator"
) -> None:
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels), generator=random)
        for batch in torch.split(order, BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _accuracy(model: "Digits", images: "torch.Tensor", labels: "torch.Tensor") -> float:
    import torch

    with torch.inference_mode():
        right = model(images).argmax(dim=1) == labels
    return float(right.float().mean())
