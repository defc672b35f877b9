"""The time of a request in lines of common access logs."""

import re

_ALB = re.compile(
    r"(?:https?|h2|grpcs|wss?) (?:\S+ ){11}"
    r'"(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*" (?:\S+ ){3}(?:"[^"]*" ){3}\S+ (\d{4}-\S+) "'
)

_NGINX = re.compile(
    r"\S+ \S+ .*?\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\] "
    r'"(?:[^"\\]|\\.)*" \d{3} (?:\d+|-)'
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def alb_stamp(line: str) -> str | None:
    """When an Application Load Balancer received the request (``request_creation_time``).

    The time at the front of the line is when it answered. None when the line is none of its.
    """
    found = _ALB.match(line)
    return found[1] if found else None


def nginx_stamp(line: str) -> str | None:
    """When a line of nginx's combined format, or of the common format, was written."""
    found = _NGINX.match(line)
    if not found:
        return None
    day, month, year, clock, offset = found.groups()
    return f"{year}-{_MONTHS.find(month) // 3 + 1:02}-{day}T{clock}{offset}"
