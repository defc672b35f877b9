"""The backlog on NATS JetStream, for those who outgrow one machine. Needs ``weighbridge[nats]``.

A work-queue stream holds the jobs, a durable consumer leases them (its ack wait is the lease), and
a key-value bucket holds decisions: a key can be created once, so a job is decided once.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import nats
from msgspec import Struct
from msgspec.structs import replace
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js.errors import (
    APIError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NoKeysError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from servers.backlog import Counts, Job, Lease, Outcome

LEASE_S = 30.0
FETCH_S = 0.1
RECONNECT_S = 0.2
"""Between two attempts: meanwhile nothing can be accepted."""
LOOKS = 20
"""How often the oldest job may be gone by the time it is asked for."""
MAX_MESSAGE_BYTES = 1 << 20


class _Message(Struct, frozen=True):
    job: Job
    body: bytes | None = None


_messages = msgspec.msgpack.Decoder(_Message)
_outcomes = msgspec.msgpack.Decoder(Outcome)
_encode = msgspec.msgpack.encode


class NatsBacklog:
    """A `Backlog` for one endpoint in a JetStream account."""

    def __init__(self, url: str, endpoint: str, *, lease_s: float = LEASE_S) -> None:
        self._url = url
        self._stream = f"weighbridge-{endpoint}"
        self._subject = f"weighbridge.{endpoint}.jobs"
        self._bucket = f"{self._stream}-decided"
        self._lease_s = lease_s
        self._held: dict[int, tuple[int, Any, float]] = {}
        """By place in the stream: token, message, and when its lease ends here."""

    async def open(self) -> None:
        """Connect, and make stream, consumer and bucket where they are not."""
        self._client: Client = await nats.connect(
            self._url, max_reconnect_attempts=-1, reconnect_time_wait=RECONNECT_S
        )
        self._jetstream: JetStreamContext = self._client.jetstream()
        await self._jetstream.add_stream(
            name=self._stream,
            subjects=[self._subject],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            max_msg_size=MAX_MESSAGE_BYTES,
        )
        config = api.ConsumerConfig(ack_wait=self._lease_s, max_deliver=-1, max_ack_pending=100_000)
        self._jobs = await self._jetstream.pull_subscribe(
            self._subject, durable="workers", stream=self._stream, config=config
        )
        # A consumer that was there already keeps its own.
        self._lease_s = float((await self._jobs.consumer_info()).config.ack_wait or self._lease_s)
        self._decisions: KeyValue = await self._jetstream.create_key_value(
            bucket=self._bucket, storage=api.StorageType.FILE
        )
        await self._forget_orphans()

    async def close(self) -> None:
        await self._client.close()

    async def put(self, job: Job, body: bytes | None = None) -> None:
        # The id lets the server drop what a lost acknowledgement makes the client send twice.
        await self._jetstream.publish(
            self._subject, _encode(_Message(job, body)), headers={"Nats-Msg-Id": job.id}
        )

    async def take(self, limit: int) -> list[Lease]:
        try:
            messages = await self._jobs.fetch(limit, timeout=FETCH_S)
        except NatsTimeout:
            return []
        return [await self._lease(message) for message in messages]

    async def expired(self, now_s: float, limit: int) -> list[Lease]:
        """The oldest jobs, as long as they are expired: the stream gives no other order."""
        leases: list[Lease] = []
        while len(leases) < limit:
            oldest = await self._oldest()
            if oldest is None or oldest.expires_s > now_s:
                return leases
            if oldest.id in {lease.job.id for lease in leases}:  # until that one is finished
                return leases
            taken = await self.take(1)
            if not taken:
                return leases
            if taken[0].job.expires_s > now_s:  # the oldest is being worked on
                await self.release(taken[0])
                return leases
            leases += taken
        return leases

    async def decided(self, limit: int) -> list[Lease]:
        """None: a decided job comes back with the others when its lease ends."""
        del limit
        return []

    async def next_expiry_s(self) -> float | None:
        oldest = await self._oldest()
        return None if oldest is None else oldest.expires_s

    async def free_dead(self) -> int:
        """None: the server knows nothing of processes, a lease must end by itself."""
        return 0

    async def extend(self, leases: Sequence[Lease]) -> list[bool]:
        renewed = []
        for lease in leases:
            message = self._mine(lease)
            if message is not None:
                await message.in_progress()
                self._held[lease.key] = (lease.token, message, time.monotonic() + self._lease_s)
            renewed.append(message is not None)
        return renewed

    async def decide(self, lease: Lease, outcome: Outcome, again: bool = False) -> bool:
        if self._mine(lease) is None:
            return False
        if again:
            await self._decisions.put(_key(lease), _encode(outcome))
            return True
        try:
            await self._decisions.create(_key(lease), _encode(outcome))
        except KeyWrongLastSequenceError:
            return False
        return True

    async def finish(self, lease: Lease) -> bool:
        message = self._mine(lease)
        if message is None:
            return False
        await message.ack_sync()
        self._held.pop(lease.key, None)
        with contextlib.suppress(APIError, NatsTimeout):  # then it goes at the next start
            await self._forget(_key(lease))
        return True

    async def release(self, lease: Lease, delay_s: float = 0.0) -> None:
        message = self._mine(lease)
        if message is not None:
            self._held.pop(lease.key, None)
            await message.nak(delay_s or None)

    async def counts(self) -> Counts:
        """A job that this process does not hold counts as waiting: its lease may have ended.

        The server counts it as taken until it is asked for, and only `take` tells who holds it.
        """
        info = await self._jobs.consumer_info()
        unacknowledged, now_s = info.num_ack_pending or 0, time.monotonic()
        self._held = {key: held for key, held in self._held.items() if held[2] > now_s}
        taken = min(unacknowledged, len(self._held))
        waiting = (info.num_pending or 0) + unacknowledged - taken
        oldest = await self._oldest()
        return Counts(waiting, taken, oldest.received_s if oldest and waiting else None)

    def _mine(self, lease: Lease) -> Any:
        """The message under this lease; None when the lease has ended."""
        held = self._held.get(lease.key)
        if held is None or held[0] != lease.token or held[2] <= time.monotonic():
            return None
        return held[1]

    async def _lease(self, message: Any) -> Lease:
        content = _messages.decode(message.data)
        place, deliveries = message.metadata.sequence.stream, message.metadata.num_delivered
        self._held[place] = (deliveries, message, time.monotonic() + self._lease_s)
        lease = Lease(content.job, place, deliveries, deliveries, None, content.body)
        if deliveries > 1:  # only an earlier holder can have decided
            with contextlib.suppress(KeyNotFoundError):
                found = await self._decisions.get(_key(lease))
                return replace(lease, decided=_outcomes.decode(found.value or b""))
        return lease

    async def _forget(self, key: str) -> None:
        # A purge of the bucket's own would leave a mark for each job there ever was.
        subject = f"$KV.{self._bucket}.{key}"
        await self._jetstream.purge_stream(f"KV_{self._bucket}", subject=subject)

    async def _forget_orphans(self) -> None:
        """Decisions whose job was finished by a process that ended before it could forget them."""
        try:
            keys = await self._decisions.keys()
        except NoKeysError:
            return
        for key in keys:
            try:
                await self._jetstream.get_msg(self._stream, seq=int(key.partition(".")[0]))
            except NotFoundError:
                await self._forget(key)

    async def _oldest(self) -> Job | None:
        for _ in range(LOOKS):
            info = await self._jetstream.stream_info(self._stream)
            if not info.state.messages:
                return None
            try:
                found = await self._jetstream.get_msg(self._stream, seq=info.state.first_seq)
            except NotFoundError:  # finished between the two questions
                continue
            return _messages.decode(found.data or b"").job
        return None


def _key(lease: Lease) -> str:
    """Of a job's decision: its place, to find it, and its id, should a stream be made anew."""
    return f"{lease.key}.{lease.job.id}"
