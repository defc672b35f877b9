"""Every setting of a scenario file: its key, type, default and meaning, read off the nouns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import inspect

from bench.target import PEERS, TARGETS
from bench.workload import Workload


@dataclass(frozen=True)
class Setting:
    """One key of a scenario file, as ``--set`` takes it."""

    key: str
    default: str
    meaning: str


def settings() -> list[Setting]:
    """All keys, in the order of the file."""
    found = list(_of_struct(Workload, ""))
    for mode, target in {**TARGETS, **PEERS}.items():
        found += _of_struct(target, f"{mode}.")
    return found


def _of_struct(struct: type[msgspec.Struct], prefix: str, when: str = "") -> Iterator[Setting]:
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        key = prefix + field.encode_name
        kinds = list(_structs(field.type))
        if len(kinds) > 1:
            names = " | ".join(str(kind.tag) for kind in kinds)
            yield Setting(f"{key}.kind", _default_kind(field), names)
        for kind in kinds:
            tag = f"kind = {kind.tag}" if len(kinds) > 1 else ""
            for setting in _of_struct(kind.cls, f"{key}.", tag):
                absent = setting.default == "required" and field.default is None
                yield replace(setting, default="none") if absent else setting
        if not kinds:
            meaning = _description(field.type)
            yield Setting(key, _default(field), f"{when}: {meaning}" if when else meaning)


def _structs(kind: inspect.Type) -> Iterator[inspect.StructType]:
    if isinstance(kind, inspect.StructType):
        yield kind
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _structs(part)
    elif isinstance(kind, inspect.Metadata):
        yield from _structs(kind.type)


def _description(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        schema: dict[str, Any] = kind.extra_json_schema or {}
        return str(schema.get("description") or _description(kind.type))
    return ""


def _default_kind(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default  # none: there is no such table unless a key is given
    return str(default.__struct_config__.tag) if isinstance(default, msgspec.Struct) else "none"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    return "" if field.default is msgspec.NODEFAULT else str(field.default)
