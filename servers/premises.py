"""What the endpoints of one server process share."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from bench.events import EventLog
from servers.endpoint import Account
from servers.limits import Limiter
from servers.local_store import LocalStore
from servers.timers import Timers


@dataclass(frozen=True)
class Site:
    """What the endpoints of one process share."""

    folder: Path
    """For unpacked models; removed when the process ends."""
    log: Path
    timers: Timers
    limiter: Limiter
    starts: asyncio.Semaphore
    seed: int
    data: Path
    """Holds objects, queues and jobs."""
    store: LocalStore
    address: str
    """Where the process listens, for its own helpers."""
    metrics: EventLog = EventLog(None)  # noqa: RUF009 - it writes nowhere
    """Takes the endpoints' metrics."""
    accounts: dict[str, Account] = field(default_factory=dict)
    """By option: its endpoints share the account's limit."""
