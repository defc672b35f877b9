"""What each size of a sweep would cost at other traffic: a map whose rows were all measured."""

from reports.drawn import Table
from reports.option import MEETS, UNDECIDED
from reports.sweep import Size, SweepReport
from reports.words import count, usd

FACTORS = (0.01, 1.0, 100.0, 10_000.0)
"""Of this traffic. The sizes are those that ran: between them the model's time is not known."""


def by_traffic(report: SweepReport) -> Table | None:
    """The cost of a month for each size at several volumes; None where no price is known."""
    sizes = [size for size in report.sizes if size.option.cost.priced]
    if not sizes:
        return None
    volumes = [sizes[0].option.cost.requests_a_month * factor for factor in FACTORS]
    best = [_cheapest(sizes, volume) for volume in volumes]
    rows = tuple(
        (
            size.label,
            *(
                usd(size.option.cost.monthly_usd(volume)) + (" ←" if size is wins else "")
                for volume, wins in zip(volumes, best, strict=True)
            ),
        )
        for size in sizes
    )
    head = (report.name, *(f"{count(max(1.0, volume))} requests" for volume in volumes))
    return Table(_said(report, volumes, best), head, rows)


def _cheapest(sizes: list[Size], volume: float) -> Size | None:
    able = [size for size in sizes if size.standing.verdict in (MEETS, UNDECIDED)]
    return min(able, key=lambda size: size.option.cost.monthly_usd(volume), default=None)


def _said(report: SweepReport, volumes: list[float], best: list[Size | None]) -> str:
    basis = (
        "A month by traffic, modelled from the times measured at each size; the same share of "
        "requests starts cold as here."
    )
    if best[0] is None:
        return f"{basis} No {report.name} met the objective."
    turns = [
        f"from {before.label} to {after.label} between {count(low)} and {count(high)} requests"
        for low, high, before, after in zip(volumes, volumes[1:], best, best[1:], strict=False)
        if before is not None and after is not None and before is not after
    ]
    told = "is proved or may yet be proved to meet the objective"
    if turns:
        return f"{basis} The cheapest that {told} (←) changes {'; '.join(turns)} a month."
    return f"{basis} The cheapest that {told} (←) is {best[0].label} at each of these volumes."
