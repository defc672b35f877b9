"""The decision chart: five questions, each answered with a measured value and its threshold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from bench.workload import Workload
from reports.bounds import PAYLOAD, PROCESSING, Demand, known_limits
from reports.option import Option
from reports.ranks import rank_interval
from reports.summary import Traffic, wilson
from reports.words import mode, quantile, seconds, share, significant, size

SILENT_SHARE = 0.5
"""Traffic that is silent for more of the time is not sustained, however much comes in between."""

_CHART_SOURCE = "AWS developer guide, deploy-model-options, which names no number; assumed"
_KEEP_ALIVE_SOURCE = "AWS publishes no keep-alive; the profile's is assumed"
_LIMITS_SOURCE = "AWS developer guide, hosting FAQs"


@dataclass(frozen=True)
class Measure:
    """A measured value with its 95 % interval, and what it is held against."""

    what: str
    value: str
    interval: str  # empty where the value is exact or set
    basis: str  # measured, set or assumed
    threshold: str
    source: str  # of the threshold
    margin: str
    """How far the value is from the threshold."""
    close: bool = False
    """Whether the interval reaches over the threshold, so that the answer is not sure."""


@dataclass(frozen=True)
class Step:
    """One question of the chart, answered."""

    slug: str
    question: str
    answer: str  # yes or no
    because: str
    measure: Measure
    flips_when: str
    evidence: tuple[str, str]
    """Where on the page the evidence is: an anchor and its name."""
    leads_to: str | None = None
    """The option the answer leads to; None when it leads to the next question."""


@dataclass(frozen=True)
class Chart:
    """The way through the chart; the last step leads to the answer."""

    steps: tuple[Step, ...]

    @property
    def mode(self) -> str:
        """The option that the chart leads to."""
        return str(self.steps[-1].leads_to)

    @property
    def close(self) -> tuple[Step, ...]:
        """The steps whose answer the interval leaves open."""
        return tuple(step for step in self.steps if step.measure.close)


_Case = tuple[Workload, Sequence[Option]]


def walk(workload: Workload, options: Sequence[Option]) -> Chart:
    """The way of ``workload`` through the chart, with what ``options`` measured as evidence."""
    steps: list[Step] = []
    questions: tuple[Callable[[_Case], Step], ...] = (
        _waits,
        _large,
        _long,
        _sustained,
        _consistent,
    )
    for ask in questions:
        steps.append(ask((workload, options)))
        if steps[-1].leads_to:
            break
    return Chart(tuple(steps))


def _waits(case: _Case) -> Step:
    yes = case[0].needs_answer
    measure = Measure(
        what="needs_answer",
        value=str(yes).lower(),
        interval="",
        basis="set",
        threshold="true",
        source="the workload",
        margin="none: it is set, not measured",
    )
    return Step(
        slug="waits",
        question="Does a caller wait for each answer?",
        answer="yes" if yes else "no",
        because="A caller waits for each answer." if yes else "Nobody waits for single answers.",
        measure=measure,
        flips_when=f"needs_answer becomes {str(not yes).lower()}: then "
        + ("a batch transform job needs no endpoint." if yes else "an endpoint is needed."),
        evidence=("again", "how it was run"),
        leads_to=None if yes else "batch",
    )


def _large(case: _Case) -> Step:
    workload, options = case
    largest = max((option.largest_payload_bytes for option in options), default=0.0)
    limit = known_limits()["realtime"][PAYLOAD].value
    own = [o for o in options if o.mode == "realtime"]
    for bound in own[0].bounds(_nothing()) if own else ():
        limit = bound.limit if bound.name == PAYLOAD else limit
    measure = Measure(
        what="largest payload",
        value=size(largest),
        interval="",
        basis="measured",
        threshold=f"{size(limit)} for real-time",
        source=_LIMITS_SOURCE,
        margin=_margin(largest, limit),
    )
    reasons = ("Payloads are larger than a waiting call takes", "Payloads are small enough")
    return _queue_step(
        Step(
            slug="large",
            question="Are payloads too large for a waiting call?",
            answer="yes" if largest > limit else "no",
            because="",
            measure=measure,
            flips_when=f"a payload is {'at most' if largest > limit else 'larger than'} "
            f"{size(limit)}.",
            evidence=("limits", "what each option takes"),
        ),
        workload,
        reasons,
    )


def _long(case: _Case) -> Step:
    workload, options = case
    single = [o for o in options if o.mode != "batch"] or options  # a job's call holds many records
    spreads = [o.summary.model_s for o in single if o.summary.model_s.n]
    longest = max(spreads, key=lambda spread: spread.at(0.99) or 0.0, default=None)
    value = (longest.at(0.99) or 0.0) if longest else 0.0
    low, high = (value, value)
    for option in options:
        if longest is not None and option.summary.model_s is longest:
            low, high = rank_interval(option.model_seconds, 0.99)
    limit = known_limits()["realtime"][PROCESSING].value
    measure = Measure(
        what=f"processing, {quantile(0.99)}",
        value=seconds(value),
        interval=f"{seconds(low)} to {seconds(high)}",
        basis="measured",
        threshold=seconds(limit),
        source=_LIMITS_SOURCE,
        margin=_margin(value, limit),
        close=low <= limit < high,
    )
    reasons = ("Processing takes longer than a waiting call may", "Processing is short")
    return _queue_step(
        Step(
            slug="long",
            question="Does processing take too long for a waiting call?",
            answer="yes" if value > limit else "no",
            because="",
            measure=measure,
            flips_when=f"processing at {quantile(0.99)} is "
            f"{'at most' if value > limit else 'longer than'} {seconds(limit)}.",
            evidence=("options", "the options"),
        ),
        workload,
        reasons,
    )


def _queue_step(step: Step, workload: Workload, reasons: tuple[str, str]) -> Step:
    """A step that leads to a queue where callers accept one."""
    beyond = step.answer == "yes"
    if not beyond:
        because, leads = f"{reasons[1]}: a queue would only add waiting.", None
    elif workload.accepts_queueing:
        because, leads = f"{reasons[0]}, and callers accept a queue.", "async"
    else:
        because, leads = f"{reasons[0]}, yet callers accept no queue.", None
    return Step(**{**vars(step), "because": because, "leads_to": leads})


def _sustained(case: _Case) -> Step:
    workload, options = case
    option, felt = _pacing(options), _quickest(options).summary.traffic
    traffic, allowed = option.summary.traffic, 1 - workload.objective.quantile
    # Bursts of many requests leave few of them after a silence, however long the silences are.
    often, mostly = traffic.after_keep_alive > allowed, traffic.silent_share > SILENT_SHARE
    yes = not (often or mostly)
    keep = seconds(traffic.keep_alive_s)
    shape = "sustained" if yes else "intermittent"
    return Step(
        slug="sustained",
        question="Is traffic sustained?",
        answer="yes" if yes else "no",
        because=f"Traffic is {shape}: median silence {seconds(felt.silence_s.at(0.5))}, longest "
        f"{seconds(felt.silence_s.max_s)}; silences of more than {keep} are "
        f"{share(traffic.silent_share)} of the time.",
        measure=_silent(traffic) if mostly and not often else _after_silence(traffic, allowed),
        flips_when=_flip(option, (often, mostly), allowed),
        evidence=("fig-timeline", "every request"),
        leads_to="realtime" if yes else None,
    )


def _after_silence(traffic: Traffic, allowed: float) -> Measure:
    gaps = traffic.silence_s.n
    low, high = wilson(round(traffic.after_keep_alive * gaps), gaps)
    return Measure(
        what=f"requests after {seconds(traffic.keep_alive_s)} of silence",
        value=share(traffic.after_keep_alive),
        interval=f"{share(low)} to {share(high)}",
        basis="measured",
        threshold=f"at most {share(allowed)}, the share that may be slow",
        source=_KEEP_ALIVE_SOURCE,
        margin=_margin(traffic.after_keep_alive, allowed),
        close=low <= allowed < high and gaps > 0 and 0 < traffic.after_keep_alive < 1,
    )


def _silent(traffic: Traffic) -> Measure:
    return Measure(
        what=f"time in silences of more than {seconds(traffic.keep_alive_s)}",
        value=share(traffic.silent_share),
        interval="",
        basis="measured",
        threshold=f"at most {share(SILENT_SHARE)}",
        source=_CHART_SOURCE,
        margin=_margin(traffic.silent_share, SILENT_SHARE),
    )


def _consistent(case: _Case) -> Step:
    workload, options = case
    option = _pacing(options)
    cold, bearable = option.summary.cold, workload.objective.latency_s
    middle = cold.unhindered_s.at(0.5)
    low, high = rank_interval(option.cold_seconds, 0.5)
    yes = middle is not None and middle > bearable
    if middle is None:
        because = "A cold start was not measured, so none is known to be too long."
    else:
        so = "too long" if yes else "short enough"
        because = f"A cold start takes {seconds(middle)} at the median, {so} for the objective."
    measure = Measure(
        what="cold start, median",
        value=seconds(middle),
        interval="" if middle is None else f"{seconds(low)} to {seconds(high)}",
        basis="measured; placement modelled",
        threshold=f"at most {seconds(bearable)}, the latency objective",
        source="the workload",
        margin="not known" if middle is None else _margin(middle, bearable),
        close=middle is not None and low <= bearable < high,
    )
    return Step(
        slug="consistent",
        question="Is a cold start too long for the callers?",
        answer="yes" if yes else "no",
        because=because,
        measure=measure,
        flips_when=f"a cold start takes {'at most' if yes else 'more than'} {seconds(bearable)}, "
        f"or the latency objective becomes {seconds(middle)}.",
        evidence=("fig-cold" if cold.count else "options", "where a cold start goes"),
        leads_to="realtime" if yes else "serverless",
    )


def _pacing(options: Sequence[Option]) -> Option:
    """Only the serverless run knows the keep-alive and what a cold start takes."""
    return next((each for each in options if each.mode == "serverless"), options[0])


def _quickest(options: Sequence[Option]) -> Option:
    """Where answers take long, there is no silence to be seen: the quickest shows the traffic."""
    return min(options, key=lambda each: each.summary.latency_s.at(0.5) or inf)


def _nothing() -> Demand:
    return Demand(0.0, None, None)


def _margin(value: float, threshold: float) -> str:
    """How many times below or above the threshold a value is."""
    if value == 0 or threshold == 0:
        return "as far as can be" if value != threshold else "none"
    ratio = value / threshold
    side, factor = ("above", ratio) if ratio > 1 else ("below", 1 / ratio)
    return f"{significant(factor, 2)} times {side} the threshold"


def _flip(option: Option, found: tuple[bool, bool], allowed: float) -> str:
    """``found``: whether requests come after silences too often, and time is mostly silence."""
    often, mostly = found
    traffic = option.summary.traffic
    silences = f"silences of more than {seconds(traffic.keep_alive_s)}"
    half = share(SILENT_SHARE)
    if mostly and not often:
        return f"{silences} are {half} of the time or less."
    if not traffic.bearable_keep_alive_s:
        return "the traffic becomes much lighter: now it leaves hardly any silence."
    bearable = seconds(traffic.bearable_keep_alive_s)
    if often:
        also = f" and {silences} are {half} of the time or less" if mostly else ""
        return (
            f"environments survive {bearable} of silence: then {share(allowed)} of requests or "
            f"fewer start cold{also}, and the traffic counts as sustained ({mode('realtime')})."
        )
    return (
        f"environments are dropped after less than {bearable} of silence: then more than "
        f"{share(allowed)} of requests start cold; or when {silences} are more than {half} of "
        "the time. Then the traffic counts as intermittent."
    )
