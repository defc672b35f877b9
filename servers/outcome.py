"""How an answer of a model reaches the caller: its headers, and the parts of its time."""

from servers.endpoint import ColdStart, Served
from servers.wire import CLOSED_SESSION_ID, CUSTOM_ATTRIBUTES, NEW_SESSION_ID, Answer

RETURNED = (CUSTOM_ATTRIBUTES, NEW_SESSION_ID, CLOSED_SESSION_ID)
"""Headers of the container that reach the caller."""


def successful(served: Served, total_s: float) -> Answer:
    """The model's answer with the API's headers; ``total_s`` from the request's arrival."""
    headers = {
        "content-type": served.answer.headers.get("content-type", "application/octet-stream"),
        "x-amzn-invoked-production-variant": served.variant,
        "server-timing": _server_timing(served, total_s),
    }
    for name in RETURNED:
        if name in served.answer.headers:
            headers[name] = served.answer.headers[name]
    return Answer(200, served.answer.body, headers)


def _server_timing(served: Served, total_s: float) -> str:
    """The parts of the answer's time, in milliseconds (W3C Server-Timing)."""
    cold = served.cold
    started_s = cold.modelled_s + cold.wait_s + cold.startup.setup_s if cold else 0.0
    overhead_s = max(0.0, total_s - served.model_s - started_s)
    more = "".join([f"{part}, " for part in _cold_parts(cold)]) if cold else ""
    return (
        f"model;dur={served.model_s * 1e3:.3f}, overhead;dur={overhead_s * 1e3:.3f}, "
        f'{more}instance;desc="{served.instance}"'
    )


def _cold_parts(cold: ColdStart) -> list[str]:
    """The sums that SageMaker's caller feels, then what is in them, named ``sum.part``."""
    startup = cold.startup
    spans = (
        ("placement", cold.modelled_s, "modelled"),
        ("wait", cold.wait_s, "for a core of this machine"),
        ("setup", startup.setup_s, ""),
        ("placement.machine", cold.placement_s, "modelled"),
        ("placement.pull", cold.pull_s, "modelled"),
        ("placement.retry", cold.retry_s, "modelled"),
        ("setup.process", startup.process_s, ""),
        ("setup.import", startup.import_s, ""),
        ("setup.load", startup.load_s, ""),
        ("setup.warmup", startup.warmup_s, ""),
    )
    return [
        f"{name};dur={value_s * 1e3:.3f}" + (f';desc="{what}"' if what else "")
        for name, value_s, what in spans
    ]
