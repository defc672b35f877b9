"""Numbers as people read them: times, money, shares and counts, each with sensible digits."""

from math import floor, isinf, log10

NOTHING = "–"  # noqa: RUF001 - an en dash is the usual mark for an empty cell


class ProperName(str):
    """Keeps its own capitals at the beginning of a sentence too."""

    def capitalize(self) -> str:
        return str(self)


MODES = {
    "realtime": "real-time",
    "serverless": "serverless",
    "lambda": ProperName("AWS Lambda"),
    "async": "asynchronous",
    "batch": "batch transform",
    "triton": "Triton",
    "url": "server at",
}


def mode(name: str) -> str:
    """The option's name as prose."""
    return MODES.get(name, name)


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - floor(log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return NOTHING
    if isinf(value):
        return "never"
    if value < 0.9995:
        return f"{significant(value * 1000)} ms"
    if value < 120:
        return f"{significant(value)} s"
    if value < 7200:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if value < 2 * 86400:
        return f"{_trimmed(value / 3600)} h"
    return f"{_trimmed(value / 86400)} days"


def _trimmed(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def usd(value: float | None) -> str:
    """An amount of money; small ones keep two significant digits."""
    if value is None:
        return NOTHING
    if isinf(value):
        return "not known"
    if value == 0:
        return "$0"
    if value < 0.1:
        return f"${value:.{1 - floor(log10(value))}f}"
    return f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"


def rate(value: float) -> str:
    """A price for one unit, exactly as listed."""
    whole, dot, cents = f"{value:.10f}".rstrip("0").partition(".")
    return f"${whole}{dot}{cents:0<2}"


def units(quantity: float, unit: str) -> str:
    """So many of a unit."""
    alone = quantity == 1 or unit.isupper() or unit in ("thousand", "million")
    many = "" if alone else "s"
    return f"{significant(quantity)} {unit}{many}"


def share(value: float | None) -> str:
    """A share in per cent that reads 100 % or 0 % only when it is."""
    if value is None:
        return NOTHING
    percent = value * 100
    for digits in (1, 2, 3, 4):
        text = f"{percent:.{digits}f}"
        if value in (0, 1) or float(text) not in (0.0, 100.0):
            break
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def count(value: float) -> str:
    """How many, in words from a million on."""
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:,.0f}"


def times(ratio: float) -> str:
    """How many times as much."""
    return f"{significant(ratio, 2)} times"


def size(value: float) -> str:
    """Bytes in the unit that suits them: powers of a thousand, or whole MiB as limits are."""
    if value and value % 2**20 == 0 and value < 2**30:
        return f"{value / 2**20:.0f} MiB"
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= bytes_:
            return f"{significant(value / bytes_)} {unit}"
    return f"{value:.0f} bytes"


def quantile(q: float) -> str:
    """The short name of a quantile: 0.999 is p99.9."""
    return f"p{q * 100:g}"
