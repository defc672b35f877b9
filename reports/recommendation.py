"""Which option to pick: the cheapest measured one that meets the objective, and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.workload import Workload
from reports.bounds import MODES, Bound, bounds, excluded
from reports.changes import Change, changes
from reports.costs import is_dataset
from reports.decision import Chart, walk
from reports.option import (
    EXCLUDED,
    INVALID,
    MEETS,
    MISSES,
    UNDECIDED,
    Option,
    Standing,
    demand_of,
    judge,
    more_in_words,
)
from reports.words import mode, seconds, share, significant, usd

USE, CANNOT_TELL, NONE_MEETS, NOT_MEASURED, NO_NUMBERS = (
    "use",
    "undecided",
    "none meets the objective",
    "not measured",
    "invalid",
)

_DAY_S = 86_400.0
MOST_OTHERS = 1  # that the headline names all of
CLEARLY_CHEAPER = 2.0
HARDLY_CHEAPER = 1.2


@dataclass(frozen=True)
class Recommendation:
    """An option, the numbers that led to it, and what would change it."""

    headline: str
    """One sentence; the option's name stands between double asterisks."""
    outcome: str  # use, undecided, none meets the objective, not measured or invalid
    mode: str | None
    runner_up: str | None
    confidence: str  # high, moderate, low or none
    confidence_because: str
    chart: Chart
    standings: tuple[Standing, ...]
    unmeasured: tuple[tuple[str, str], ...]  # option and the reason
    agrees: bool | None
    """Whether the chart and the measurement name the same option; None: nothing to compare."""
    agreement: str
    changes: tuple[Change, ...]
    limits: tuple[Bound, ...] = ()
    """Every hard limit of every option against what the traffic asked."""
    ranking: tuple[str, ...] = ()
    """The options that meet the objective or may, cheapest first."""


@dataclass(frozen=True)
class _Ranking:
    """The options in the order of their cost, and what is known of each."""

    workload: Workload
    options: tuple[Option, ...]
    standings: dict[str, Standing]

    def having(self, *verdicts: str) -> list[Option]:
        """The options with one of ``verdicts``, cheapest first."""
        return [each for each in self.options if self.standings[each.mode].verdict in verdicts]

    @property
    def outcome(self) -> str:
        if not self.having(MEETS, UNDECIDED, MISSES, EXCLUDED):
            return NO_NUMBERS
        able = self.having(MEETS, UNDECIDED)
        if not able:
            return NONE_MEETS
        return USE if self.standings[able[0].mode].verdict == MEETS else CANNOT_TELL


def recommend(workload: Workload, options: Sequence[Option]) -> Recommendation:
    """The option to pick for ``workload`` among the measured ``options``."""
    chart = walk(workload, options)
    judged = {option.mode: judge(option, workload) for option in options}
    by_cost = tuple(sorted(options, key=lambda option: option.cost.month_usd))
    ranking = _Ranking(workload, by_cost, judged)
    measured = ranking.outcome
    able = ranking.having(MEETS, UNDECIDED)
    winner = able[0].mode if measured == USE else None
    others = [option.mode for option in able if option.mode != winner]
    others += [option.mode for option in ranking.having(MISSES)]
    headline = _HEADLINES[measured](ranking)
    outcome = measured
    named = {option.mode for option in options}
    limits = _limits(options)
    refused = {name: excluded([bound for bound in limits if bound.mode == name]) for name in MODES}
    if chart.mode not in named and not refused[chart.mode] and chart.mode in _BY_RULE:
        outcome = NOT_MEASURED
        headline = _unmeasured_headline(chart, headline)
    confidence, because = _confidence(ranking, winner)
    if outcome == NOT_MEASURED:
        confidence, because = "low", "The decision chart says so; it was not measured."
    agrees, agreement = _agreement(chart, winner, measured, named)
    standings = tuple(judged[option.mode] for option in options)
    return Recommendation(
        headline=headline,
        outcome=outcome,
        mode=chart.mode if outcome == NOT_MEASURED else winner,
        runner_up=others[0] if others else None,
        confidence=confidence,
        confidence_because=because,
        chart=chart,
        standings=standings,
        unmeasured=_unmeasured(chart, judged, refused),
        agrees=agrees,
        agreement=agreement,
        changes=changes(workload, options, standings, winner),
        limits=limits,
        ranking=tuple(option.mode for option in able),
    )


_BY_RULE = ("batch", "async")
"""The chart leads here by what the workload is, not by how its traffic is spread."""


def _limits(options: Sequence[Option]) -> tuple[Bound, ...]:
    """The limits of all options: of the measured ones with their own demand and profile."""
    known = {option.mode: option.bounds(demand_of([option])) for option in options}
    demand = demand_of(options)
    return tuple(
        bound
        for name in dict.fromkeys((*MODES, *known))
        for bound in (known[name] if name in known else bounds(name, demand))
    )


_CENT_USD = 0.01


def price_of(option: Option) -> str:
    """What the option costs, for a day when a day was simulated, else for a month."""
    if not option.cost.priced:
        return "price not known"
    if is_dataset(option.run):
        return f"{_amount(option.cost.amount_usd)} for the dataset"
    if abs(option.cost.period_s - _DAY_S) < 1:
        return f"{_amount(option.cost.amount_usd)} a day"
    return f"{_amount(option.cost.month_usd)} a month"


def _amount(value_usd: float) -> str:
    """Money as one says it; the tables hold the digits."""
    return "less than a cent" if 0 < value_usd < _CENT_USD else usd(value_usd)


def _met(option: Option, workload: Workload) -> str:
    within, objective = option.summary.within, workload.objective
    return (
        f"{share(within.share)} of requests within {seconds(objective.latency_s)} "
        f"({share(objective.quantile)} needed)"
    )


def _use(ranking: _Ranking) -> str:
    best = ranking.having(MEETS)[0]
    head = (
        f"Use **{mode(best.mode)}**: it answered {_met(best, ranking.workload)} "
        f"for {price_of(best).removesuffix(' for the dataset')}"
    )
    others = [option for option in ranking.options if option is not best]
    if len(others) > MOST_OTHERS:
        # The cheaper one that fell short and the next best say why; the table holds the rest.
        cheaper = [o for o in others if o.cost.month_usd < best.cost.month_usd][-1:]
        able = [o for o in others if o not in cheaper and o in ranking.having(MEETS, UNDECIDED)]
        others = [*cheaper, *able[:1]] or others[:1]
    return head + "".join(f"; {_other(option, ranking)}" for option in others) + "."


def _other(option: Option, ranking: _Ranking) -> str:
    verdict, name = ranking.standings[option.mode].verdict, mode(option.mode)
    if verdict == MEETS:
        return f"{name} would cost {price_of(option)}"
    if verdict == MISSES:
        return f"{name} ({price_of(option)}) managed only {share(option.summary.within.share)}"
    if verdict == UNDECIDED:
        return f"{name} ({price_of(option)}) may or may not meet it"
    if verdict == EXCLUDED:
        return f"{name} is ruled out by its limits"
    return f"the measurement of {name} is invalid"


def _cannot_tell(ranking: _Ranking) -> str:
    open_ = ranking.having(UNDECIDED)[0]
    more = more_in_words(ranking.standings[open_.mode].more_requests)
    text = (
        f"**Cannot tell yet**: {mode(open_.mode)} ({price_of(open_)}) answered "
        f"{_met(open_, ranking.workload)}, too close to call; {more}"
    )
    safe = ranking.having(MEETS)
    if safe:
        text += f". Until then {mode(safe[0].mode)} is the safe choice, at {price_of(safe[0])}"
    return text + "."


def _none_meets(ranking: _Ranking) -> str:
    objective = ranking.workload.objective
    named = ranking.having(MISSES, EXCLUDED) + ranking.having(INVALID)
    each = "; ".join(_shortfall(option, ranking) for option in named)
    return (
        f"**No measured option meets the objective** of {share(objective.quantile)} within "
        f"{seconds(objective.latency_s)}: {each}."
    )


def _shortfall(option: Option, ranking: _Ranking) -> str:
    if ranking.standings[option.mode].verdict != MISSES:
        return _other(option, ranking)
    if option.summary.error_rate > ranking.workload.objective.error_rate:
        return f"{mode(option.mode)} failed {share(option.summary.error_rate)} of requests"
    return f"{mode(option.mode)} managed {share(option.summary.within.share)}"


def _no_numbers(ranking: _Ranking) -> str:
    reasons = [ranking.standings[option.mode] for option in ranking.options]
    each = " ".join(f"{mode(s.mode).capitalize()}: {s.because}" for s in reasons)
    return f"**No recommendation**: the measurement is invalid, not slow. {each}"


_HEADLINES = {
    USE: _use,
    CANNOT_TELL: _cannot_tell,
    NONE_MEETS: _none_meets,
    NO_NUMBERS: _no_numbers,
}


def _unmeasured_headline(chart: Chart, measured: str) -> str:
    reason = chart.steps[-1].because.removesuffix(".")
    rest = measured.replace("**", "")
    return (
        f"Use **{mode(chart.mode)}**: {reason[0].lower()}{reason[1:]}. It was not measured; "
        f"of what was measured, {rest[0].lower()}{rest[1:]}"
    )


def _confidence(ranking: _Ranking, winner: str | None) -> tuple[str, str]:
    if winner is None:
        return "none", "No option was proved to meet the objective at the lowest cost."
    if len(ranking.options) == 1:
        return "low", "Only one option was measured, so nothing was compared."
    best = next(option for option in ranking.options if option.mode == winner)
    within, objective = best.summary.within, ranking.workload.objective
    proof = (
        f"The 95 % interval of its share in time, {share(within.low)} to {share(within.high)}, "
        f"lies above the {share(objective.quantile)} needed"
    )
    if ranking.having(INVALID):
        return "low", f"{proof}, but another option's measurement is invalid."
    rivals = [option for option in ranking.having(MEETS, UNDECIDED) if option is not best]
    if not rivals:
        return "high", f"{proof}, and no other option meets the objective."
    if not rivals[0].cost.priced or not best.cost.priced:
        return "low", f"{proof}, but the price of {mode(rivals[0].mode)} is not known."
    ratio = rivals[0].cost.month_usd / max(best.cost.month_usd, 1e-12)
    text = f"{proof}, and the next one that meets it costs {significant(ratio, 2)} times as much."
    if best.summary.latency_s.supports(objective.quantile) and ratio >= CLEARLY_CHEAPER:
        return "high", text
    if ratio >= HARDLY_CHEAPER:
        return "moderate", text
    return "low", f"{text} Prices and machine speed are less sure than that."


def _agreement(
    chart: Chart, winner: str | None, measured: str, named: set[str]
) -> tuple[bool | None, str]:
    static = mode(chart.mode)
    close = "".join(
        f" Its answer to “{step.question}” is not sure: the interval reaches over the threshold."
        for step in chart.close
    )
    if chart.mode not in named:
        text = f"The chart leads to {static}, which was not measured; nothing to compare."
        return None, text + close
    if winner is None:
        found = "cannot tell yet" if measured == CANNOT_TELL else "names no option"
        return None, f"The chart leads to {static}; the measurement {found}.{close}"
    if winner == chart.mode:
        return True, f"The chart and the measurement agree on {static}. {_reasons(chart)}{close}"
    return False, (
        f"The chart leads to {static}, the measurement to {mode(winner)}. "
        "The measurement decides: it is the cheapest option that met the objective; the chart "
        f"knows only the shape of the traffic.{close}"
    )


def _reasons(chart: Chart) -> str:
    """What the last steps on the way found, which is what decided."""
    shape = [step.because for step in chart.steps if step.slug in ("sustained", "consistent")]
    return " ".join(shape or [chart.steps[-1].because])


def _unmeasured(
    chart: Chart, judged: dict[str, Standing], refused: dict[str, str | None]
) -> tuple[tuple[str, str], ...]:
    found = []
    rules = {"batch": chart.steps[0], **{s.leads_to: s for s in chart.steps if s.leads_to}}
    asked = [step for step in chart.steps[1:] if step.slug in ("large", "long")]
    if asked:
        rules.setdefault("async", asked[-1])
    for name in MODES:
        if name in judged:
            continue
        missing = "no run of it was given"
        rule = rules.get(name)
        if refused[name]:
            reason = f"Ruled out: {refused[name]}"
        elif name == chart.mode:
            reason = f"The chart leads here, but {missing}."
        elif name in _BY_RULE and rule is not None:
            reason = f"{rule.because}"
        else:
            reason = "No run of it was given."
        found.append((name, reason))
    return tuple(found)
