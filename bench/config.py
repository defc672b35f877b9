"""From a scenario file and ``--set`` options to frozen values, with errors that name the key."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.arrivals import due_times
from bench.datasets import count_records
from bench.errors import ConfigError
from bench.loops import Closed, Users
from bench.payload import CONTENT_TYPES, Payload
from bench.replay import Replay
from bench.target import PEERS, TARGETS, Peer, Target
from bench.units import MAX_REQUESTS
from bench.workload import Workload


@dataclass(frozen=True)
class Experiment:
    """A workload, and the settings of every option it may be sent to."""

    workload: Workload
    targets: dict[str, Target | Peer]


def read_experiment(
    path: Path, settings: list[str], scenarios: Path, trace: Path | None = None
) -> Experiment:
    """Read a scenario file; ConfigError names the file or the option, the key and the remedy.

    ``settings`` are ``key=value`` with dotted keys, the values as in TOML. A file may begin with
    ``extends = "NAME"`` to change only some keys of the scenario NAME in the folder ``scenarios``.
    ``trace`` is a file to replay instead of the scenario's own.
    """
    document = _of_locust_file(path) if path.suffix == ".py" else _read_toml(path)
    base = document.pop("extends", None)
    if base is not None:
        document = _merged(_read_toml(scenario_path(str(base), scenarios)), document)
    for setting in settings:
        _apply(document, setting)
    if trace is not None:
        _use_trace(document, trace, path.stem)
    _resolve_locust_file(document, path)
    source = str(path) + (" with --set" if settings else "")
    _fill_duration(document, source)
    _fill_content_type(document)
    _fill_records(document, source)
    experiment = _experiment(document, source)
    _check_workload(experiment.workload, _known(scenarios))
    return experiment


def scenario_path(name: str, scenarios: Path) -> Path:
    """The file of the scenario called ``name``, or ``name`` itself if it is a file's."""
    if name.endswith((".toml", ".py")):
        return Path(name)
    known = _known(scenarios)
    if name not in known:
        raise ConfigError(
            f"There is no scenario {name!r}. Choose one of {', '.join(known)}, "
            "or name a .toml file, or a Locust file (.py)."
        )
    return scenarios / f"{name}.toml"


def _known(scenarios: Path) -> list[str]:
    return sorted(file.stem for file in scenarios.glob("*.toml"))


def _check_workload(workload: Workload, known: list[str]) -> None:
    """What the types cannot hold: something is sent, not too much, by a scenario there is."""
    if isinstance(workload.arrivals, Users):
        _check_locust_file(workload)
        return
    if workload.scenario not in known:
        raise ConfigError(
            f"scenario = {workload.scenario!r}: there is no such Locust file. "
            f"Choose one of {', '.join(known)}."
        )
    arrivals = workload.arrivals
    if isinstance(arrivals, Closed) and arrivals.users > workload.max_in_flight:
        raise ConfigError(
            f"{workload.name}: {arrivals.users} users may have as many requests open, but "
            f"max_in_flight is {workload.max_in_flight}. Raise it, or take fewer users."
        )
    expected = workload.arrivals.expected_count(workload.duration_s)
    if expected > MAX_REQUESTS:
        raise ConfigError(
            f"{workload.name}: about {expected:,.0f} requests are more than the {MAX_REQUESTS:,} "
            "that a run may hold. Lower the rate or duration_s."
        )
    if not len(due_times(workload.arrivals, workload.duration_s, workload.seed)):
        raise ConfigError(
            f"{workload.name}: no request is due in {workload.duration_s:g} s. "
            "Make duration_s longer, the rate higher or the seed another."
        )


def _of_locust_file(path: Path) -> dict[str, Any]:
    """What a Locust file of one's own is run with when nothing else is said."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_")[:40]
    return {
        "name": name or "locustfile",
        "title": f"The users of {path.name}",
        "scenario": str(path),
        "duration_s": 60,
        "arrivals": {"kind": "users"},
        "objective": {"latency_s": 1.0},
    }


def _resolve_locust_file(document: dict[str, Any], path: Path) -> None:
    """A Locust file is named from the folder of the file that names it."""
    scenario = str(document.get("scenario", ""))
    if scenario.endswith(".py"):
        file = path if path.suffix == ".py" else path.parent / scenario
        document["scenario"] = str(file.resolve())


def _check_locust_file(workload: Workload) -> None:
    if not workload.scenario.endswith(".py") or not Path(workload.scenario).is_file():
        raise ConfigError(
            f"scenario = {workload.scenario!r}: there is no such Locust file. With arrivals.kind = "
            "'users' the scenario is a .py file of your own."
        )
    if "," in workload.scenario:
        raise ConfigError(f"Locust takes no file with a comma in its path: {workload.scenario}.")
    if workload.fast_forward:
        raise ConfigError(
            "fast_forward = true: the users of a Locust file of one's own wait on real time, "
            "which cannot be skipped. Set it to false."
        )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}. Check the name.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``change`` laid over ``base``; tables are merged, unless they are of another kind."""
    merged = dict(base)
    for key, value in change.items():
        old = base.get(key)
        same_kind = isinstance(value, dict) and value.get("kind") in (None, (old or {}).get("kind"))
        merged[key] = _merged(old, value) if isinstance(old, dict) and same_kind else value
    return merged


def _apply(document: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {setting}: write key=value, for example arrivals.mean_gap_s=600.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a text
    table = document
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {setting}: {part!r} is a value, not a table of settings.")
    table[parts[-1]] = value


def _use_trace(document: dict[str, Any], trace: Path, scenario: str) -> None:
    arrivals = document.get("arrivals")
    kind = arrivals.get("kind") if isinstance(arrivals, dict) else None
    if not isinstance(arrivals, dict) or kind != "replay":
        raise ConfigError(
            f"--trace {trace}: the arrivals of {scenario} are {kind!r}, not a replay. Run the "
            "scenario replay, or a file of your own that extends it."
        )
    arrivals["path"] = str(trace)


def _fill_duration(document: dict[str, Any], source: str) -> None:
    """A replay lasts as long as its trace, unless the file says otherwise."""
    arrivals = document.get("arrivals")
    if "duration_s" in document or not isinstance(arrivals, dict):
        return
    if arrivals.get("kind") == "replay":
        replay: Replay = _converted(arrivals, Replay, "arrivals", source)
        document["duration_s"] = replay.length_s()


def _fill_content_type(document: dict[str, Any]) -> None:
    """A dataset is sent as what it is, unless the file says otherwise."""
    payload = document.get("payload")
    if not isinstance(payload, dict) or "content_type" in payload:
        return
    suffix = Path(str(payload.get("records"))).suffix.lower()
    if payload.get("fill") == "octets":
        payload["content_type"] = "application/octet-stream"
    elif payload.get("records") is not None and suffix in CONTENT_TYPES:
        payload["content_type"] = CONTENT_TYPES[suffix]


def _fill_records(document: dict[str, Any], source: str) -> None:
    """A dataset is all of its file, unless the file of the scenario says how many records."""
    arrivals, payload = document.get("arrivals"), document.get("payload")
    if not isinstance(arrivals, dict) or not isinstance(payload, dict):
        return
    if arrivals.get("kind") == "dataset" and "records" not in arrivals and payload.get("records"):
        arrivals["records"] = count_records(_converted(payload, Payload, "payload", source))


def _experiment(document: dict[str, Any], source: str) -> Experiment:
    kinds = {**TARGETS, **PEERS}
    tables = {mode: document.pop(mode, {}) for mode in kinds}
    workload = _converted(document, Workload, "", source)
    targets = {mode: _converted(table, kinds[mode], mode, source) for mode, table in tables.items()}
    return Experiment(workload, targets)


def _converted(value: Any, kind: Any, prefix: str, source: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explained(str(error), prefix)}") from None


def _explained(text: str, prefix: str) -> str:
    """msgspec's message with the key as the file has it, and the remedy."""
    reason, _, path = text.partition(" - at `$")
    table = ".".join(part for part in (prefix, path.strip("`").lstrip(".")) if part)
    if unknown := re.search(r"unknown field `(.*)`", reason):
        key = f"{table}.{unknown[1]}" if table else unknown[1]
        return f"unknown key {key!r}. `weighbridge settings` lists the keys."
    if missing := re.search(r"missing required field `(.*)`", reason):
        key = f"{table}.{missing[1]}" if table else missing[1]
        return f"the key {key!r} is missing. `weighbridge settings` says what it means."
    return f"{table}: {reason[0].lower()}{reason[1:]}. `weighbridge settings` says what is allowed."
