"""How a queue lies in an LMDB environment; every function works in the caller's transaction.

What each step of a job writes is in one tree, for a commit costs by the pages that it touches:

    d PLACE   decided and free: its holder died before it had published
    t PLACE   taken
    w PLACE   waits; in the order in which they came, the newest at the tree's very end

Beside it are bodies, by place, and zones. An index by expiry would be touched twice by each job;
instead the places of 256 transactions are a zone, and of each zone it is noted before when no job
expires. So only zones where one may have expired are looked through.
"""

import heapq
import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import TypeAlias

import lmdb
import msgspec
from msgspec import Raw, Struct

from servers.backlog import Counts, Job, Lease, Outcome

Transaction: TypeAlias = "lmdb.Transaction[bytes]"

DECIDED, TAKEN, WAITING = b"d", b"t", b"w"
_BOOT = b"boot"
_ZONE = slice(5)
"""Of a place: all but its last three bytes."""

_place = struct.Struct(">Q")
_moment = struct.Struct(">d")


class Entry(Struct, frozen=True, array_like=True):
    """A job in the tree. The last three say who has taken it, and mean nothing elsewhere."""

    job: Raw
    expires_s: float
    deliveries: int = 0
    outcome: Outcome | None = None
    token: int = 0
    owner: str = ""
    """The process that has it; empty: nobody, it is only held back."""
    ends_s: float = 0.0
    """When the lease ends, in seconds since the machine was started."""


_encode = msgspec.msgpack.encode
_entry = msgspec.msgpack.Decoder(Entry).decode
_job = msgspec.msgpack.Decoder(Job).decode


class Queue:
    """The tables of one queue."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._bodies = environment.open_db(b"bodies")
        self._zones = environment.open_db(b"expiry")
        self._putting: tuple[Transaction | None, int] = None, 0

    def restarted(self, transaction: Transaction, boot: str) -> None:
        """Free every job when the machine has been started since the last call."""
        if transaction.get(_BOOT) != boot.encode():
            for key, entry in self.taken(transaction):
                self.free(transaction, key, entry)
            transaction.put(_BOOT, boot.encode())

    def put(self, transaction: Transaction, job: Job, body: bytes | None) -> None:
        """Put a new job behind all others."""
        place = self._next_place(transaction)
        entry = Entry(Raw(_encode(job)), job.expires_s)
        transaction.put(WAITING + place, _encode(entry), append=True)
        self._note(transaction, place, job.expires_s)
        if body is not None:
            transaction.put(place, body, append=True, db=self._bodies)

    def first(self, transaction: Transaction, state: bytes, limit: int) -> list[bytes]:
        """Keys of the oldest jobs in one state."""
        found: list[bytes] = []
        cursor = transaction.cursor()
        more = cursor.set_range(state)
        while more and len(found) < limit and cursor.key().startswith(state):
            found.append(cursor.key())
            more = cursor.next()
        return found

    def take(self, transaction: Transaction, key: bytes, owner: str, ends_s: float) -> Lease:
        """Take a free job. No other transaction has the same token, and later ones are larger."""
        entry, place = _entry(transaction.pop(key) or b""), key[1:]
        deliveries, token = entry.deliveries + 1, transaction.id()
        taken = Entry(entry.job, entry.expires_s, deliveries, entry.outcome, token, owner, ends_s)
        transaction.put(TAKEN + place, _encode(taken))
        job = _job(entry.job)
        body = None if job.input else transaction.get(place, db=self._bodies)
        (number,) = _place.unpack(place)
        return Lease(job, number, token, deliveries, entry.outcome, body)

    def taken(self, transaction: Transaction) -> list[tuple[bytes, Entry]]:
        """All jobs that are taken, with their keys."""
        return [(key, _entry(value)) for key, value in _items(transaction, TAKEN)]

    def held(self, transaction: Transaction, lease: Lease) -> Entry | None:
        """The job under this lease; None when it is somebody else's or nobody's."""
        value = transaction.get(_key(lease))
        entry = None if value is None else _entry(value)
        return None if entry is None or entry.token != lease.token else entry

    def write(self, transaction: Transaction, lease: Lease, entry: Entry) -> None:
        """Write a job under its lease anew."""
        transaction.put(_key(lease), _encode(entry))

    def forget(self, transaction: Transaction, lease: Lease) -> bool:
        """Remove a job; false when the lease is lost."""
        if self.held(transaction, lease) is None:
            return False
        if lease.body is not None:
            transaction.delete(_place.pack(lease.key), db=self._bodies)
        return transaction.delete(_key(lease))

    def free(self, transaction: Transaction, key: bytes, entry: Entry) -> None:
        """Let a taken job be taken again."""
        place = key[1:]
        transaction.delete(key)
        free = Entry(entry.job, entry.expires_s, entry.deliveries, entry.outcome)
        if entry.outcome is None:
            transaction.put(WAITING + place, _encode(free))
            self._note(transaction, place, entry.expires_s)
        else:
            transaction.put(DECIDED + place, _encode(free))

    def counts(self, transaction: Transaction) -> Counts:
        """How the queue stands."""
        # What waits is not walked through: it is all that is behind the rest.
        before = [
            key[:1]
            for key in takewhile(WAITING.__gt__, transaction.cursor().iternext(values=False))
        ]
        waiting = transaction.stat()["entries"] - len(before) + before.count(DECIDED)
        free = self.first(transaction, DECIDED, 1) + self.first(transaction, WAITING, 1)
        if not free:
            return Counts(0, before.count(TAKEN))
        oldest = _entry(transaction.get(min(free, key=lambda key: key[1:]), b""))
        return Counts(waiting, before.count(TAKEN), _job(oldest.job).received_s)

    # Expiry

    def expired(self, transaction: Transaction, now_s: float, limit: int) -> list[bytes]:
        """Keys of jobs that have waited beyond their time, in about the order of expiry."""
        found: list[bytes] = []
        for bound_s, zone in sorted(self._bounds(transaction)):
            if bound_s > now_s or len(found) >= limit:
                break
            waiting = sorted(self._looked_through(transaction, zone))
            found += [key for expires_s, key in waiting if expires_s <= now_s]
        return found[:limit]

    def next_expiry_s(self, transaction: Transaction) -> float | None:
        """When the next waiting job expires; None: nothing waits."""
        bounds = self._bounds(transaction)
        heapq.heapify(bounds)
        while bounds:
            bound_s, zone = bounds[0]
            waiting = self._looked_through(transaction, zone)
            if not waiting:
                heapq.heappop(bounds)
                continue
            first_s, _ = min(waiting)
            if first_s == bound_s:
                return first_s
            heapq.heapreplace(bounds, (first_s, zone))
        return None

    def tidy(self, transaction: Transaction) -> None:
        """Drop the zones in front of the first job that waits."""
        waiting = self.first(transaction, WAITING, 1)
        cursor = transaction.cursor(self._zones)
        while cursor.first() and (not waiting or cursor.key() < waiting[0][1:][_ZONE]):
            cursor.delete()

    def _note(self, transaction: Transaction, place: bytes, expires_s: float) -> None:
        zone = place[_ZONE]
        bound = transaction.get(zone, db=self._zones)
        if bound is None or _moment.unpack(bound)[0] > expires_s:
            transaction.put(zone, _moment.pack(expires_s), db=self._zones)

    def _bounds(self, transaction: Transaction) -> list[tuple[float, bytes]]:
        cursor = transaction.cursor(self._zones)
        return [(_moment.unpack(bound)[0], zone) for zone, bound in cursor]

    def _looked_through(self, transaction: Transaction, zone: bytes) -> list[tuple[float, bytes]]:
        """When each job that waits there expires, with its key; then the zone's bound is exact."""
        items = _items(transaction, WAITING + zone)
        waiting = [(_entry(value).expires_s, key) for key, value in items]
        if waiting:
            first_s, _ = min(waiting)
            if transaction.get(zone, db=self._zones) != _moment.pack(first_s):
                transaction.put(zone, _moment.pack(first_s), db=self._zones)
        else:
            transaction.delete(zone, db=self._zones)
        return waiting

    def _next_place(self, transaction: Transaction) -> bytes:
        """Larger than any before, also of other processes: they cannot have this transaction."""
        of, count = self._putting
        self._putting = transaction, count + 1 if of is transaction else 0
        return _place.pack((transaction.id() << 16) + self._putting[1])


def _items(transaction: Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = transaction.cursor()
    items = cursor.iternext() if cursor.set_range(prefix) else ()
    return takewhile(lambda item: item[0].startswith(prefix), items)


def _key(lease: Lease) -> bytes:
    return TAKEN + _place.pack(lease.key)
