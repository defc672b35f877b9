import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from servers.archive import check_model, fingerprint, unpack_model
from servers.digits.build import MIN_ACCURACY, build
from servers.handlers import Answer, Request, load_handlers
from servers.samples import samples

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def folder(digits_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model, unpacked."""
    return unpack_model(digits_archive, tmp_path_factory.mktemp("digits") / "model")


@pytest.fixture(scope="module")
def call(folder: Path) -> Call:
    """Answers a request with the digits model, as the model server does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_DEVICE", "cpu")
        handlers = load_handlers(folder)
        model = handlers.load_model(folder)
        handlers.warm_up(folder, model)

    def run(body: bytes, content_type: str = "application/json", accept: str = "*/*") -> Answer:
        return handlers.transform(model, Request(body, content_type, accept))

    return run


def images(folder: Path) -> np.ndarray:
    return np.array([json.loads(body) for body in samples(folder)])


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.slow
def test_the_archive_is_a_model(digits_archive: Path, folder: Path) -> None:
    """It passes the check of any user's model, was measured, and brings 64 requests."""
    check_model(digits_archive)
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] >= MIN_ACCURACY
    assert len(samples(digits_archive)) == 64


def test_a_large_batch_is_read_in_parts(call: Call, folder: Path) -> None:
    """Each image has the answer that it has alone, in its place."""
    some = images(folder)
    count = 70
    alone = np.load(io.BytesIO(call(npy(some), "application/x-npy", "application/x-npy").body))
    large = call(npy(np.tile(some, (count, 1))), "application/x-npy", "application/x-npy")
    assert len(some) * count > 4096
    assert (np.load(io.BytesIO(large.body)) == np.tile(alone, count)).all()


@pytest.mark.slow
def test_training_is_reproducible(digits_archive: Path, tmp_path: Path) -> None:
    """Trained again elsewhere the archive has the same bytes, and a second call trains nothing."""
    again = build(tmp_path)
    written = again.stat().st_mtime_ns
    assert fingerprint(again) == fingerprint(digits_archive)
    assert build(tmp_path) == again
    assert again.stat().st_mtime_ns == written
    assert [path.name for path in again.parent.iterdir()] == ["model.tar.gz"]


@pytest.mark.slow
def test_it_reads_its_samples(call: Call, folder: Path) -> None:
    """Real digits it was not trained with are read well, with a probability each."""
    answer = call(json.dumps(images(folder).tolist()).encode())
    predictions = json.loads(answer.body)["predictions"]
    wanted = [entry["label"] for entry in json.loads((folder / "samples.json").read_text())]
    right = [p["label"] == label for p, label in zip(predictions, wanted, strict=True)]
    assert answer.content_type == "application/json"
    assert np.mean(right) >= 0.95
    assert all(0 <= p["probability"] <= 1 for p in predictions)


@pytest.mark.slow
def test_many_images_come_and_go_as_lines(call: Call, folder: Path) -> None:
    """JSON Lines: more than are computed at once, the answers in order, blank lines left out."""
    some = [image.reshape(8, 8).tolist() for image in images(folder)] * 20
    body = "\n\n".join(json.dumps(image) for image in some).encode()
    lines = call(body, "application/jsonlines", "application/jsonlines").body.splitlines()
    whole = call(json.dumps(some).encode())
    assert [json.loads(line) for line in lines] == json.loads(whole.body)["predictions"]


@pytest.mark.slow
def test_every_form_of_the_same_images_gets_the_same_labels(call: Call, folder: Path) -> None:
    """JSON, CSV and NPY go in and come out, as rows of 64 or as squares."""
    some = images(folder)[:5]
    labels = [
        p["label"] for p in json.loads(call(json.dumps(some.tolist()).encode()).body)["predictions"]
    ]
    rows = "\n".join(",".join(map(str, row)) for row in some).encode()
    assert call(rows, "text/csv", "text/csv").body == b"".join(b"%d\n" % n for n in labels)
    answer = call(npy(some.reshape(-1, 8, 8)), "application/x-npy", "application/x-npy")
    assert np.load(io.BytesIO(answer.body)).tolist() == labels
    single = call(json.dumps(some[0].tolist()).encode(), "application/json; charset=utf-8")
    assert [p["label"] for p in json.loads(single.body)["predictions"]] == labels[:1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"[1, 2, 3]", "application/json", "shape (1, 3)"),
        (b"[]", "application/json", "shape (1, 0)"),
        (b"7", "application/json", "shape ()"),
        (b"{}", "application/json", "none of them"),
        (b"[[1], [1, 2]]", "application/json", "none of them"),
        (b'["a"]', "application/json", "none of them"),
        (b"[" + b",".join([b"17"] * 64) + b"]", "application/json", "other numbers"),
        (b"[" + b",".join([b"null"] * 64) + b"]", "application/json", "other numbers"),
        (b"[" + b",".join([b"NaN"] * 64) + b"]", "application/json", "none of them"),
        (b"", "text/csv", "none of them"),
        (b"\xff", "application/x-npy", "none of them"),
        (b"[" * 100_000, "application/json", "none of them"),
    ],
)
def test_other_bodies_are_the_callers_mistake(
    call: Call, body: bytes, content_type: str, says: str
) -> None:
    """A body of another shape or of no numbers is a 400 that says what to send."""
    answer = call(body, content_type)
    assert answer.status == 400
    assert answer.body.startswith(b"Send images as 64 numbers from 0 to 16")
    assert says.encode() in answer.body


@pytest.mark.slow
def test_other_content_types_have_their_status(call: Call, folder: Path) -> None:
    """An unknown Content-Type is a 415, an unknown Accept a 406."""
    assert call(b"", "image/png").status == 415
    assert call(samples(folder)[0], accept="image/png").status == 406
