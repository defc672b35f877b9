"""Whether a run may be trusted, in a sentence and as plain values for its manifest."""

from typing import Any

from bench.run import Run
from reports.summary import Summary, tail_of
from reports.words import quantile, seconds, share


def verdict(summary: Summary) -> dict[str, Any]:
    """``VALID`` or ``INVALID``, the reasons for the latter, and what calls for care."""
    return {
        "verdict": "VALID" if summary.valid else "INVALID",
        "reasons": [doubt.text for doubt in summary.doubts if doubt.invalid],
        "cares": [doubt.text for doubt in summary.doubts if not doubt.invalid],
    }


def sentence(run: Run, summary: Summary) -> str:
    """What the verdict rests on: how punctual the generator was, and what it used."""
    load = run.manifest["load"]
    check = load.get("selfcheck") or {}
    q = tail_of(summary.lateness_s)
    parts = [f"requests left {seconds(summary.lateness_s.at(q))} late at {quantile(q)}"]
    if q == 0.99 and "floor_p99_s" in check:
        parts[0] += f" (the machine's own timer: {seconds(check['floor_p99_s'])})"
    if load.get("generator_cpu_share") is not None:
        parts.append(f"the load generator used {share(load['generator_cpu_share'])} of a core")
    if check.get("steal_share"):
        parts.append(f"the host took {share(check['steal_share'])} of the machine")
    return f"{'Valid' if summary.valid else 'Invalid'} measurement: {', '.join(parts)}."
