"""What became of large bodies: which sizes an option answers, and what it says of the others."""

from collections.abc import Iterator, Mapping, Sequence

from reports.option import Option
from reports.words import size

LARGE_BYTES = 1_000_000
"""Below it no option refuses a body for its size."""
MOST_SIZES = 8


def answered_by_size(
    options: Sequence[Option],
) -> Iterator[tuple[str, Mapping[str, tuple[float, str]]]]:
    """For each size: by option the share that was answered, and why the others were not.

    Nothing where no body is large, or where there are too many sizes for a table.
    """
    sent = {option.mode: option.run.requests() for option in options}
    sizes = sorted({int(each) for frame in sent.values() for each in frame["request_bytes"]} - {0})
    if not 2 <= len(sizes) <= MOST_SIZES or sizes[-1] < LARGE_BYTES:
        return
    for wanted in sizes:
        found = {}
        for mode, frame in sent.items():
            errors = frame.loc[frame["request_bytes"] == wanted, "error"]
            if len(errors):
                failed = errors[errors != ""]
                reason = str(failed.mode().iloc[0]) if len(failed) else ""
                found[mode] = (1 - len(failed) / len(errors), reason)
        yield size(wanted), found
