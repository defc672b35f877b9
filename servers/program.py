"""The user's program, ``code/inference.py``, judged by its text alone."""

import ast
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from bench.errors import ConfigError

STAGES = ("input_fn", "predict_fn", "output_fn")


def program_name(environment: Mapping[str, str] = os.environ) -> str:
    """File name of the program inside ``code/``, as SageMaker's own variable gives it."""
    name = environment.get("SAGEMAKER_PROGRAM") or "inference.py"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        raise ConfigError(
            f"SAGEMAKER_PROGRAM is {name!r}: name a .py file inside the model's code folder."
        )
    return str(path)


def check_program(source: bytes, where: str) -> None:
    """Return if ``source`` parses and defines the functions that a model server needs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user's style is not ours to judge
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where} does not parse: {error}. Correct it.") from error
    names = set(_defined(tree.body))
    if "*" not in names:  # what a star brings cannot be known without running it
        check_functions(names, where)


def check_functions(names: Iterable[str], where: str) -> None:
    """Return if these functions together make a model; ConfigError says what is missing."""
    names = set(names)
    if "model_fn" not in names:
        raise ConfigError(f"{where} defines no model_fn(model_dir). Add it: it loads the model.")
    if "transform_stream_fn" in names:
        both = [name for name in ("transform_fn", *STAGES) if name in names]
        if both:
            raise ConfigError(
                f"{where} defines transform_stream_fn and {', '.join(both)}. Keep "
                "transform_stream_fn, or the other functions, not both."
            )
    elif "transform_fn" in names:
        both = [name for name in STAGES if name in names]
        if both:
            raise ConfigError(
                f"{where} defines transform_fn and {', '.join(both)}. Keep transform_fn, "
                "or the other functions, not both."
            )
    elif "predict_fn" not in names:
        raise ConfigError(
            f"{where} defines neither predict_fn(data, model) nor transform_fn. Add one of them."
        )


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names bound at the top level, inside ``if``, ``try`` and ``with`` as well."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.If() | ast.Try() | ast.With():
                for field in ("body", "orelse", "finalbody"):
                    yield from _defined(getattr(node, field, []))
                for handler in getattr(node, "handlers", []):
                    yield from _defined(handler.body)
