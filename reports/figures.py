"""The figures of a page: each in two sizes, with how to read it and what it shows."""

from collections.abc import Sequence

from reports import plots
from reports.curve import curve_of
from reports.drawn import Drawn, Missing, both, frames, sentence
from reports.gapfigures import gaps
from reports.heat import AT_ONCE, due_at_once
from reports.heatfigures import heat
from reports.moneyfigures import money
from reports.option import Option
from reports.report import Report
from reports.series import TAIL_REQUESTS, Series, series_of
from reports.words import count, mode, quantile, seconds, share, significant

_TITLES = {
    "percentiles": "Latency by percentile",
    "timeline": "Every request over the simulated time",
    "windows": "Latency over the simulated time",
    "flow": "Requests under way",
    "cold": "Where a cold start goes",
    "parts": "Where the time of a queued request goes",
    "capacity": "What one instance carries",
}


def figures(report: Report) -> tuple[Drawn | Missing, ...]:
    """Every figure that the runs of ``report`` give data for, in the order of the page.

    One that they give too little data for is `Missing` and says why.
    """
    series = [series_of(option) for option in report.options]
    found: list[Drawn | Missing | None] = [
        _percentiles(report, series),
        _timeline(report, series),
        heat(report),
        _windows(report, series),
        _flow(series),
        _cold(series),
        gaps(report),
        _parts(series),
        *(_capacity(report, option) for option in report.options),
        *money(report),
    ]
    return tuple(each for each in found if each)


def _named(slug: str) -> tuple[str, str]:
    return slug, _TITLES[slug]


def _percentiles(report: Report, series: Sequence[Series]) -> Drawn | None:
    if not any(len(one.sorted_s) for one in series):
        return None
    objective = report.workload.objective
    parts = []
    for option in report.options:
        just = option.summary.within.quantile_s
        needed = share(objective.quantile)
        does = (
            f"never answers {needed}"
            if just is None
            else f"answers {needed} within {seconds(just)}"
        )
        parts.append(f"{mode(option.mode)} {does}")
    return Drawn(
        slug="percentiles",
        title=_TITLES["percentiles"],
        basis="measured, with modelled placement in cold starts",
        svg=both(_named("percentiles"), plots.percentiles, (series, objective), parts),
        how_to_read=(
            "Each curve gives the latency that a share of the answered requests did not exceed; "
            "the right part is stretched to show the slowest ones. It passes the objective where "
            "it runs below the diamond. Dotted: "
            f"fewer than {TAIL_REQUESTS} requests decide."
        ),
        shows=sentence(parts) + _left_out(report),
    )


def _timeline(report: Report, series: Sequence[Series]) -> Drawn | Missing | None:
    if not any(len(one.dots.due_s) for one in series):
        return None
    if due_at_once(report.options):
        return Missing(_TITLES["timeline"], AT_ONCE)
    parts = [
        f"{mode(option.mode)}: {count(option.summary.cold.count)} cold starts and "
        f"{count(option.summary.failed)} failures in {count(one.dots.of)} requests"
        for option, one in zip(report.options, series, strict=True)
    ]
    fewer = [one for one in series if len(one.dots.due_s) < one.dots.of]
    thinned = (
        f" Drawn are {' and '.join(count(len(one.dots.due_s)) for one in fewer)} requests, "
        "the slowest of each moment and an even sample of the rest."
        if fewer
        else ""
    )
    return Drawn(
        slug="timeline",
        title=_TITLES["timeline"],
        basis="measured, with modelled placement in cold starts",
        svg=both(
            _named("timeline"),
            plots.timeline,
            (series, report.workload.objective),
            parts,
            frames(max(170, 135 * len(series)), max(150, 118 * len(series))),
        ),
        how_to_read=(
            "Dots are requests, triangles are requests that waited for a cold start, crosses "
            "failed; height is the latency from the due time, on a scale of powers of ten."
            + thinned
        ),
        shows=sentence(parts),
    )


def _cold(series: Sequence[Series]) -> Drawn | None:
    one = next((one for one in series if one.mode in ("serverless", "lambda") and one.cold), None)
    if one is None:
        return None
    middle = one.cold[(len(one.cold) - 1) // 2]
    modelled = middle.placement_s / max(middle.total_s, 1e-9)
    parts = [
        f"the {middle.name} cold start took {seconds(middle.total_s)}: "
        f"{seconds(middle.placement_s)} placement, {seconds(middle.setup_s)} set-up, "
        f"{seconds(middle.model_s)} in the model; {share(modelled)} of it is modelled, not measured"
    ]
    return Drawn(
        slug="cold",
        title=_TITLES["cold"],
        basis="measured; placement modelled",
        svg=both(_named("cold"), plots.cold_parts, one.cold, parts, frames(150, 205)),
        how_to_read=(
            "Each bar is one real request; hatching marks the modelled part, which AWS does not "
            "publish, and plain colour what was measured on this machine."
        ),
        shows=sentence(parts),
    )


def _windows(report: Report, series: Sequence[Series]) -> Drawn | None:
    known = [one for one in series if len(one.windows.at_s)]
    if not known:
        return None
    parts = []
    for one in known:
        worst = int(one.windows.p95_s.argmax())
        parts.append(
            f"{mode(one.mode)}: p95 is at most {seconds(float(one.windows.p95_s[worst]))} and at "
            f"least {seconds(float(one.windows.p95_s.min()))}, in {len(one.windows.at_s)} windows "
            f"of {count(float(one.windows.n.min()))} to {count(float(one.windows.n.max()))} answers"
        )
    return Drawn(
        slug="windows",
        title=_TITLES["windows"],
        basis="measured, with modelled placement in cold starts",
        svg=both(_named("windows"), plots.windows, (known, report.workload.objective), parts),
        how_to_read=(
            "The thick line is p95, the thin one the median, each of one window of time; a line "
            "that rises or falls says that the service was not steady. Windows with fewer than 20 "
            "answers are left out."
        ),
        shows=sentence(parts),
    )


def _flow(series: Sequence[Series]) -> Drawn | None:
    known = [one for one in series if len(one.flow.at_s)]
    if not known:
        return None
    parts = []
    for one in known:
        paid = one.flow.instances
        with_instances = f", {_many(float(paid.min()), float(paid.max()))}" if len(paid) else ""
        parts.append(
            f"{mode(one.mode)}: at most {count(float(one.flow.most.max()))} at once{with_instances}"
        )
    height = 60 + 75 * len(known)
    return Drawn(
        slug="flow",
        title=_TITLES["flow"],
        basis="measured",
        svg=both(_named("flow"), plots.under_way, known, parts, frames(height)),
        how_to_read=(
            "The height is how many requests were due and not yet answered, the most in each step "
            "of time; what keeps growing is a backlog. The dashed line is the instances paid for."
        ),
        shows=sentence(parts),
    )


def _many(low: float, high: float) -> str:
    if low == high:
        return f"{significant(high)} instance{'' if high == 1 else 's'}"
    return f"{significant(low)} to {significant(high)} instances"


def _parts(series: Sequence[Series]) -> Drawn | None:
    known = [one for one in series if one.parts]
    if not known:
        return None
    parts = []
    for one in known:
        name, shares = one.parts[0]
        longest, value = max(shares, key=lambda pair: pair[1])
        total = sum(each for _, each in shares)
        parts.append(
            f"{mode(one.mode)}: of {seconds(total)} at the {name}, {seconds(value)} are {longest}"
        )
    height = 60 + 46 * len(known)
    return Drawn(
        slug="parts",
        title=_TITLES["parts"],
        basis="measured; placement modelled",
        svg=both(_named("parts"), plots.parts, known, parts, frames(height + 25, height + 75)),
        how_to_read=(
            "Each bar is one real request, the one at the median and the one at p95; its parts "
            "stand in the order in which they happened, the model in plain colour."
        ),
        shows=sentence(parts),
    )


def _capacity(report: Report, option: Option) -> Drawn | None:
    found = curve_of(option.run)
    if found is None or not found.rate_rps:
        return None
    latency_s = report.workload.objective.latency_s
    parts = [option.cost.capacity.text.removesuffix(".")]
    slug = f"capacity-{option.mode}" if option.mode.isalnum() else "capacity-other"
    return Drawn(
        slug=slug,
        title=f"{_TITLES['capacity']}: {mode(option.mode)}",
        basis="measured",
        svg=both(
            (slug, _TITLES["capacity"]),
            plots.capacity,
            (option.mode, found, latency_s, (found.most_rps(latency_s) or None, None)),
            parts,
        ),
        how_to_read=(
            f"Each point is a run at one rate; its height is {quantile(found.quantile)}. A cross "
            "is a run that does not count. The upright line is the highest rate up to which every "
            "run met the objective."
        ),
        shows=sentence(parts),
    )


def _left_out(report: Report) -> str:
    failed = sum(option.summary.failed for option in report.options)
    return f" {count(failed)} failed requests are not on the curves." if failed else ""
