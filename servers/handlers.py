"""The user's functions, called by the rules of the SageMaker Inference Toolkit.

    model_fn(model_dir)                          loads the model
    input_fn(body, content_type)                 optional: bodies.decode
    predict_fn(data, model)
    output_fn(prediction, accept)                optional: bodies.encode; may return (body, type)
    transform_fn(model, body, content_type, accept)      instead of the last three
    transform_stream_fn(model, stream, content_type, accept)      the same with files, see `spool`
    pre_model_fn(model_dir), model_warmup_fn(model_dir, model)      optional

When ``predict_fn`` (or ``transform_fn``) returns an iterator, such as a generator, each item of it
goes through ``output_fn`` and leaves as one chunk of the answer as soon as it is there.

Each may take one argument more, the `Context`; its signature decides. An exception with a
``status_code`` from 400 to 599 is answered with that status, as the toolkit does with its own
errors; any other is a 500 with the message and the traceback.
"""

import importlib.util
import inspect
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from msgspec import Struct
from msgspec.structs import replace

from bench.errors import ConfigError
from servers import bodies
from servers.program import check_functions, program_name
from servers.spool import spooled

MODULE_NAME = "_weighbridge_user_code"

_ARGUMENTS = {
    "pre_model_fn": 1,
    "model_fn": 1,
    "model_warmup_fn": 2,
    "input_fn": 2,
    "predict_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
    "transform_stream_fn": 4,
}
_TEXT_TYPES = (bodies.JSON, bodies.CSV)
_NOTHING = object()


class Context(Struct, frozen=True):
    """What a function may ask about the request and the server."""

    system_properties: Mapping[str, Any]
    headers: Mapping[str, str] = {}

    def get_request_header(self, index: int, name: str) -> str | None:
        """The value of a header, whatever its spelling; there is one request, so index is 0."""
        del index
        return self.headers.get(name.lower())

    def get_all_request_header(self, index: int) -> dict[str, str]:
        """All headers, names in lower case."""
        del index
        return dict(self.headers)


class Request(Struct, frozen=True):
    """One call of the model, as it came over the wire; header names in lower case."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    headers: Mapping[str, str] = {}
    stream: IO[bytes] | None = None
    """The body in a file instead, for a model that streams."""


class Answer(Struct, frozen=True):
    """What goes back, and the seconds that each stage took."""

    status: int
    body: bytes
    content_type: str
    decode_s: float = 0.0
    predict_s: float = 0.0
    encode_s: float = 0.0
    rest: Iterator[bytes] | None = None
    """More pieces of the body, to be taken in the thread of the model."""
    stream: IO[bytes] | None = None
    """The body in a file instead; whoever sends it closes it."""


@dataclass(frozen=True)
class _Function:
    call: Callable[..., Any]
    takes_context: bool


@dataclass(frozen=True)
class Handlers:
    """The functions of one model program."""

    functions: Mapping[str, _Function]
    default_accept: str
    system_properties: Mapping[str, Any]

    def load_model(self, model_dir: Path) -> Any:
        """The loaded model; whatever the user's function raises comes through."""
        if "pre_model_fn" in self.functions:
            self._call("pre_model_fn", None, str(model_dir))
        return self._call("model_fn", None, str(model_dir))

    def warm_up(self, model_dir: Path, model: Any) -> None:
        """Call the model's own warm-up, if it has one."""
        if "model_warmup_fn" in self.functions:
            self._call("model_warmup_fn", None, str(model_dir), model)

    @property
    def streams(self) -> bool:
        """Whether the model takes its body as a file."""
        return "transform_stream_fn" in self.functions

    @property
    def batches(self) -> bool:
        """Whether one call of predict_fn could serve several requests."""
        predict = self.functions.get("predict_fn")
        # With a context it sees the headers of one request.
        return predict is not None and not predict.takes_context

    def transform(self, model: Any, request: Request) -> Answer:
        """The answer to one request; a failing function makes an answer too, with its status."""
        watch = Watch()
        try:
            if self.streams:
                return self._streamed(model, request, watch)
            if "transform_fn" in self.functions:
                return self._transformed(model, request, watch)
            data = self.decode(request, watch)
            with watch.span("predict"):
                prediction = self.predict(model, data, request)
            return self.encode(prediction, request, watch)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever user code raises is answered
            return failed(error, watch)

    def decode(self, request: Request, watch: "Watch") -> Any:
        """What predict_fn is to be given; the body through input_fn, if there is one."""
        with watch.span("decode"):
            if "input_fn" not in self.functions:
                return bodies.decode(request.body, request.content_type)
            body = _text_or_bytes(request)
            return self._call("input_fn", request, body, request.content_type)

    def predict(self, model: Any, data: Any, request: Request | None = None) -> Any:
        """What predict_fn makes of ``data``."""
        return self._call("predict_fn", request, data, model)

    def encode(self, prediction: Any, request: Request, watch: "Watch") -> Answer:
        """The answer that output_fn makes of a prediction; of its first item if it is a stream."""
        if not isinstance(prediction, Iterator):
            return self._encoded(prediction, request, watch)
        with watch.span("predict"):
            first = next(prediction, _NOTHING)
        if first is _NOTHING:
            return watch.answer(200, b"", self._accept(request))
        answer = self._encoded(first, request, watch)
        rest = (self._encoded(item, request, Watch()).body for item in prediction)
        return replace(answer, rest=rest)

    def _encoded(self, prediction: Any, request: Request, watch: "Watch") -> Answer:
        accept = self._accept(request)
        with watch.span("encode"):
            if "output_fn" in self.functions:
                result = self._call("output_fn", request, prediction, accept)
            else:
                result = bodies.encode(prediction, accept)
            body, content_type = result if isinstance(result, tuple) else (result, accept)
            body = _as_bytes(body)
        return watch.answer(200, body, content_type)

    def _transformed(self, model: Any, request: Request, watch: "Watch") -> Answer:
        accept = self._accept(request)
        with watch.span("predict"):
            arguments = (model, _text_or_bytes(request), request.content_type, accept)
            result = self._call("transform_fn", request, *arguments)
            body, content_type = result if isinstance(result, tuple) else (result, accept)
            rest = None
            if isinstance(body, Iterator):
                rest = (_as_bytes(item) for item in body)
                body = next(rest, b"")
        with watch.span("encode"):
            body = _as_bytes(body)
        return replace(watch.answer(200, body, content_type), rest=rest)

    def _streamed(self, model: Any, request: Request, watch: "Watch") -> Answer:
        accept = self._accept(request)
        with watch.span("predict"):  # what it returned may be at work until it is read
            given = (model, request.stream, request.content_type, accept)
            result = self._call("transform_stream_fn", request, *given)
            content, content_type = result if isinstance(result, tuple) else (result, accept)
            stream = spooled(content)
        return replace(watch.answer(200, b"", content_type), stream=stream)

    def _accept(self, request: Request) -> str:
        accept = request.accept
        return self.default_accept if not accept or accept == "*/*" else accept

    def _call(self, name: str, request: Request | None, *arguments: Any) -> Any:
        function = self.functions[name]
        if not function.takes_context:
            return function.call(*arguments)
        headers = request.headers if request else {}
        return function.call(*arguments, Context(self.system_properties, headers))


def failed(error: BaseException, watch: "Watch") -> Answer:
    """The answer to a request at which user code raised ``error``."""
    status, message = _failure(error)
    return watch.answer(status, message.encode(errors="replace"), "text/plain")


def load_handlers(
    model_dir: Path, program: str | None = None, default_accept: str = bodies.JSON
) -> Handlers:
    """Import ``code/<program>`` of a model folder and take its functions.

    What the import itself raises comes through; a program without the functions that are needed
    is a ConfigError.
    """
    path = model_dir / "code" / (program or program_name())
    if not path.is_file():
        raise ConfigError(f"{path} does not exist. Put the model's program there.")
    module = _imported(path)
    found = {name: getattr(module, name) for name in _ARGUMENTS if hasattr(module, name)}
    check_functions(found, str(path))
    functions = {name: _function(name, value, path) for name, value in found.items()}
    properties = {"model_dir": str(model_dir), "gpu_id": None, "batch_size": 1}
    return Handlers(functions, default_accept, properties)


def _imported(path: Path) -> ModuleType:
    code = str(path.parent)
    if code not in sys.path:
        sys.path.insert(0, code)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    # Under its own name too, where that is free: the program's other files and old pickles use it.
    sys.modules.setdefault(path.stem, module)
    # A model folder is the user's: no __pycache__ in it. SageMaker compiles at each start as well.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _function(name: str, value: Any, path: Path) -> _Function:
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise ConfigError(f"{path}: {name} must be a plain function. Define it with def.")
    wanted, takes = _ARGUMENTS[name], len(inspect.signature(value).parameters)
    if takes not in (wanted, wanted + 1):
        raise ConfigError(
            f"{path}: {name} takes {takes} arguments. Let it take {wanted}, "
            f"or {wanted + 1} with the context as the last."
        )
    return _Function(value, takes_context=takes == wanted + 1)


class Watch:
    """Adds up the seconds of each stage."""

    __slots__ = ("spans",)

    def __init__(self) -> None:
        self.spans: dict[str, float] = {}

    def span(self, stage: str) -> "_Span":
        return _Span(self.spans, stage)

    def answer(self, status: int, body: bytes, content_type: Any) -> Answer:
        """An answer with these seconds."""
        text, took_s = _header_text(content_type), self.spans.get
        spans = took_s("decode", 0.0), took_s("predict", 0.0), took_s("encode", 0.0)
        return Answer(status, body, text, spans[0], spans[1], spans[2])


class _Span:
    """What @contextmanager would give, at a fifth of its cost: it is on every request's path."""

    __slots__ = ("_began_s", "_name", "_spans")

    def __init__(self, spans: dict[str, float], name: str) -> None:
        self._spans = spans
        self._name = name

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took_s = time.perf_counter() - self._began_s
        self._spans[self._name] = self._spans.get(self._name, 0.0) + took_s


def _text_or_bytes(request: Request) -> str | bytes:
    # Only these exact headers, as in the toolkit: user code gets bytes with "; charset=utf-8".
    if request.content_type not in _TEXT_TYPES:
        return request.body
    try:
        return request.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bodies.BadBody(f"The body is not UTF-8: {error}.") from None


def _as_bytes(result: Any) -> bytes:
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)  # bytes themselves are not copied
    return result.encode() if isinstance(result, str) else bodies.to_json(result)


def _header_text(content_type: Any) -> str:
    text = str(content_type)
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} cannot be a Content-Type: use printable ASCII.")
    return text


def _failure(error: BaseException) -> tuple[int, str]:
    """Status and text of a failed call. A traceback helps only with the server's own faults."""
    status = getattr(error, "status_code", 500)
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    message = str(getattr(error, "message", None) or error) or type(error).__name__
    if status < 500:
        return status, message
    return status, message + "\n" + "".join(traceback.format_exception(error))
