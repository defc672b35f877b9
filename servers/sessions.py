"""Sticky sessions: the model mints an id, and later requests with it go to the same instance."""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime

from servers.wire import CLOSED_SESSION_ID, NEW_SESSION_ID, SESSION_ID

MAX_SESSIONS = 10_000
"""Most remembered; beyond it the one unused longest is forgotten."""

NEW_SESSION = "NEW_SESSION"

Place = tuple[str, str]
"""Names of a variant and of an instance."""


class Sessions:
    """Where each open session lives."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, tuple[Place, datetime]] = OrderedDict()

    def place(self, request: Mapping[str, str], now: datetime | None = None) -> Place | None:
        """Where a request with these headers belongs; None when anywhere will do."""
        session = request.get(SESSION_ID)
        if session is None or session not in self._places:
            return None
        place, expires = self._places[session]
        if (now or datetime.now(UTC)) >= expires:
            del self._places[session]
            return None
        self._places.move_to_end(session)
        return place

    def follow(self, answer: Mapping[str, str], place: Place) -> None:
        """Note what the headers of an answer from ``place`` open and close."""
        closed, opened = answer.get(CLOSED_SESSION_ID), answer.get(NEW_SESSION_ID)
        if closed is not None:
            self._places.pop(closed, None)
        if opened is not None:
            session, _, expires = opened.partition(";")
            self._places[session.strip()] = place, _expiry(expires)
            if len(self._places) > MAX_SESSIONS:
                self._places.popitem(last=False)


def _expiry(attribute: str) -> datetime:
    """The moment in ``Expires=YYYY-MM-DDThh:mm:ssZ``; one that cannot be read never comes."""
    text = attribute.strip().removeprefix("Expires=")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
