import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.errors import ConfigError
from servers.handlers import MODULE_NAME, Answer, Handlers, Request, load_handlers

Call = Callable[..., Answer]
MODEL = "def model_fn(model_dir): return 10\n"
SUM = MODEL + "def predict_fn(data, model): return data.sum() * model\n"


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test imports programs as a fresh server would."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in {MODULE_NAME, *sys.modules} - before:
        sys.modules.pop(name, None)


@pytest.fixture
def call(make_model: Callable[[str], Path]) -> Call:
    """Answers one request with the given program."""

    def run(program: str, body: bytes = b"[1, 2]", **request: object) -> Answer:
        folder = make_model(program)
        handlers = load_handlers(folder)
        model = handlers.load_model(folder)
        fields = {"content_type": "application/json", **request}
        return handlers.transform(model, Request(body, **fields))  # type: ignore[arg-type]

    return run


def test_two_functions_are_enough(call: Call) -> None:
    """Without input_fn and output_fn the defaults read the body and write the answer."""
    answer = call(SUM)
    assert (answer.status, answer.body, answer.content_type) == (200, b"30", "application/json")


def test_every_stage_is_timed(call: Call) -> None:
    """Decoding, predicting and encoding are measured apart."""
    answer = call(
        "import time\n"
        + MODEL
        + "def input_fn(body, content_type): time.sleep(0.01); return body\n"
        "def predict_fn(data, model): time.sleep(0.02); return data\n"
        "def output_fn(prediction, accept): time.sleep(0.03); return prediction\n"
    )
    assert 0.01 <= answer.decode_s < answer.predict_s < answer.encode_s
    assert answer.predict_s >= 0.02
    assert answer.encode_s >= 0.03


ECHO = MODEL + "def transform_fn(model, body, content_type, accept):\n    return "


@pytest.mark.parametrize("content_type", ["application/json", "text/csv"])
def test_text_comes_as_text(call: Call, content_type: str) -> None:
    """JSON and CSV are decoded before the user's function sees them, as in the toolkit."""
    assert call(ECHO + "type(body).__name__", content_type=content_type).body == b"str"


@pytest.mark.parametrize("content_type", ["image/png", "application/json; charset=utf-8", None])
def test_everything_else_comes_as_bytes(call: Call, content_type: str | None) -> None:
    """Other content types, or the same with parameters, arrive as bytes, as in the toolkit."""
    assert call(ECHO + "type(body).__name__", content_type=content_type).body == b"bytes"


@pytest.mark.parametrize(
    ("accept", "seen"),
    [(None, b"application/json"), ("*/*", b"application/json"), ("text/csv", b"text/csv")],
)
def test_no_preference_means_the_default(call: Call, accept: str | None, seen: bytes) -> None:
    """No Accept, or one of anything, becomes the server's default before user code sees it."""
    answer = call(ECHO + "accept", accept=accept)
    assert (answer.body, answer.content_type) == (seen, seen.decode())


def test_the_default_accept_can_be_changed(make_model: Callable[[str], Path]) -> None:
    """SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT decides what a caller without preference gets."""
    handlers = load_handlers(make_model(SUM), default_accept="text/csv")
    answer = handlers.transform(1, Request(b"[1]", "application/json"))
    assert (answer.body, answer.content_type) == (b"1\n", "text/csv")


def test_an_answer_may_name_its_content_type(call: Call) -> None:
    """A tuple of body and content type sets the answer's header."""
    answer = call(ECHO + "b'GIF', 'image/gif'")
    assert (answer.body, answer.content_type) == (b"GIF", "image/gif")


def test_an_answer_that_is_a_value_becomes_json(call: Call) -> None:
    """What is neither text nor bytes is written as JSON."""
    assert call(ECHO + "{'label': 7}").body == b'{"label":7}'


def test_one_argument_more_is_the_context(call: Call) -> None:
    """A function with one parameter more gets the context, with the request's headers."""
    program = """
        def model_fn(model_dir, context): return context.system_properties["model_dir"] == model_dir
        def input_fn(body, content_type, context): return context.get_request_header(0, "X-Trace")
        def predict_fn(data, model, context): return [data, model]
    """
    assert call(program, headers={"x-trace": "abc"}).body == b'["abc",true]'


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("x = 1", "defines no model_fn"),
        (MODEL, "neither predict_fn"),
        (SUM + "def transform_fn(a, b, c, d): pass\n", "transform_fn and predict_fn"),
        (MODEL + "def predict_fn(data): pass\n", "predict_fn takes 1 arguments. Let it take 2"),
        (MODEL + "async def predict_fn(data, model): pass\n", "must be a plain function"),
        (MODEL + "predict_fn = 3\n", "must be a plain function"),
    ],
)
def test_a_program_that_cannot_serve_is_refused(
    make_model: Callable[[str], Path], program: str, complaint: str
) -> None:
    """What the toolkit would find out at the first request is said at the start."""
    with pytest.raises(ConfigError, match=complaint):
        load_handlers(make_model(program))


def test_a_model_without_program_is_refused(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(ConfigError, match=r"code/inference\.py does not exist"):
        load_handlers(tmp_path)


def test_an_exception_is_a_500_with_its_traceback(call: Call) -> None:
    """User code that fails is answered with message and traceback, as by the toolkit."""
    answer = call(MODEL + "def predict_fn(data, model): raise KeyError('weights')\n")
    assert answer.status == 500
    assert answer.body.startswith(b"'weights'\nTraceback")
    assert b"in predict_fn" in answer.body


def test_leaving_is_no_way_to_answer(call: Call) -> None:
    """User code that calls sys.exit is answered like any other failure, and the server stays."""
    assert call("import sys\n" + MODEL + "def predict_fn(data, model): sys.exit(0)\n").status == 500


@pytest.mark.parametrize(("code", "status"), [(422, 422), (400, 400), (200, 500), ("x", 500)])
def test_an_exception_may_carry_its_status(call: Call, code: object, status: int) -> None:
    """A status_code of 400 to 599 is honoured; the caller's mistakes come without traceback."""
    program = f"""
        class Refused(Exception):
            status_code = {code!r}
        def model_fn(model_dir): return 1
        def predict_fn(data, model): raise Refused("too dark")
    """
    answer = call(program)
    assert answer.status == status
    assert (answer.body == b"too dark") == (status < 500)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content_type": "image/png"}, 415),
        ({"accept": "image/png"}, 406),
        ({"body": b"[1"}, 400),
    ],
)
def test_the_defaults_refusals_have_their_status(
    call: Call, request_: dict[str, object], status: int
) -> None:
    """Default functions answer the caller's mistakes with the fitting status."""
    assert call(SUM, **request_).status == status


def test_text_that_is_not_utf8_is_the_callers_mistake(call: Call) -> None:
    """A JSON body in another encoding is a 400."""
    assert call(ECHO + "body", body=b"\xff").status == 400


def test_a_content_type_cannot_smuggle_headers(call: Call) -> None:
    """A line break in the content type is an error, not a header."""
    assert call(ECHO + r"b'', 'text/plain\r\nX-Evil: 1'").status == 500


def test_hooks_run_around_the_load(make_model: Callable[[str], Path]) -> None:
    """pre_model_fn comes before model_fn, and model_warmup_fn gets the loaded model."""
    folder = make_model(
        """
        seen = []
        def pre_model_fn(model_dir): seen.append("pre")
        def model_fn(model_dir): return seen
        def model_warmup_fn(model_dir, model): model.append("warm")
        def predict_fn(data, model): return data
        """
    )
    handlers: Handlers = load_handlers(folder)
    model = handlers.load_model(folder)
    handlers.warm_up(folder, model)
    assert model == ["pre", "warm"]


def test_a_program_may_import_its_neighbours(call: Call, tmp_path: Path) -> None:
    """Files beside the program are found, and the folder is left as it was."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "neighbour_of_mine.py").write_text("FACTOR = 3\n")
    program = "from neighbour_of_mine import FACTOR\n" + MODEL
    assert call(program + "def predict_fn(data, model): return FACTOR\n").body == b"3"
    names = {path.name for path in (tmp_path / "model" / "code").iterdir()}
    assert names == {"inference.py", "neighbour_of_mine.py"}
