"""Request bodies that a model brings along, so that a load needs no payload of its own.

``samples.json`` at the top of the model is a list of ``{"body": <JSON value>, "label": <any>}``;
only ``body`` is needed.
"""

from pathlib import Path

import orjson

from bench.errors import ConfigError

MAX_BYTES = 64 * 10**6
NAME = "samples.json"


def samples(model_path: Path) -> list[bytes]:
    """The request bodies in a model folder or archive as JSON; none when it brings none."""
    source = _read(model_path)
    if source is None:
        return []
    where = f"{model_path}: {NAME}"
    try:
        entries = orjson.loads(source)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where} is not JSON: {error}. Correct or remove it.") from error
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and "body" in entry for entry in entries
    ):
        raise ConfigError(f'{where} must be a list of {{"body": …}} objects. Correct or remove it.')
    return [orjson.dumps(entry["body"]) for entry in entries]


def _read(model_path: Path) -> bytes | None:
    if not model_path.is_dir():
        from servers.archive import read_member  # not in a model server's cold start

        return read_member(model_path, NAME, MAX_BYTES)
    path = model_path / NAME
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is over {MAX_BYTES:,} bytes. Keep fewer samples in it.")
    return path.read_bytes()
