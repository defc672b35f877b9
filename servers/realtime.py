"""Real-time: a persistent endpoint of production variants, each with instances of its own."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from bench.scaling import TargetTracking
from bench.target import ProvisionedScaling
from servers.branch import Branch, Lineup, Turn
from servers.channel import Stream
from servers.client_connection import Broken
from servers.direct_turn import DirectTurn, Waiting
from servers.endpoint import Invocation, Served, Streamed, StreamEnded, good_answer
from servers.endpoint_operations import Change, Update
from servers.guardrails import course_of
from servers.instance import Replica
from servers.layout import MAX_INSTANCES, Blueprint
from servers.metrics import Book, Outcome
from servers.replicas import Slot
from servers.rollout import Rollout, planned
from servers.routing import choose_weighted, shadow_share
from servers.scalable import INSTANCES
from servers.scaling import Bounds
from servers.sessions import NEW_SESSION, Sessions
from servers.wire import (
    SESSION_ID,
    TARGET_VARIANT,
    TIMED_OUT,
    Answer,
    ApiError,
    content_too_long,
    model_error,
    validation_error,
)


class RealtimeEndpoint:
    """Sends each request to a variant by weight, and there to an instance in service."""

    dimension = INSTANCES

    def __init__(self, blueprint: Blueprint) -> None:
        self.name = blueprint.name
        self.payload_max_bytes = int(blueprint.means.profile["payload_max_bytes"])
        self._lineup = blueprint.lineup(blueprint.plans())
        self._blueprint = blueprint
        self._luck = random.Random(f"{blueprint.means.seed}-variants")
        """Chooses variants, and what the shadow sees."""
        self._timers = blueprint.means.timers
        self._sessions = Sessions()
        self._rollout: Rollout | None = None

    @property
    def branches(self) -> list[Branch]:
        """The production variants; during an update the old ones."""
        return self._lineup.branches

    @property
    def books(self) -> list[Book]:
        """The metrics of each variant, the shadow's too."""
        return list(self._blueprint.books.values())

    async def open(self) -> None:
        """Start the instances; InstanceFailed when one does not become healthy."""
        await asyncio.gather(*(branch.open() for branch in self._lineup.all()))

    async def invoke(self, invocation: Invocation) -> Served:
        """An instance's answer; the API's errors for everything else."""
        branch, home = self._choose(invocation)
        self._copy(branch, invocation)
        return await self._invoke(branch, home, invocation)

    def begin(self, invocation: Invocation, waiting: Waiting) -> None:
        """The same, told to who waits; at once where an instance can be asked at once."""
        branch, home = self._choose(invocation)
        self._copy(branch, invocation)
        try:
            slot = branch.replicas.take((), home)
        except ApiError:  # which is counted where it is raised again
            waiting.later(self._invoke(branch, home, invocation))
            return
        if not DirectTurn(self, branch, invocation, waiting).begin(slot):
            waiting.later(self._invoke(branch, home, invocation, slot))

    def conclude(self, branch: Branch, turn: Turn[Answer], outcome: Outcome) -> Served:
        """What comes of an instance's answer; ModelError for one that is no good."""
        name = turn.slot.replica.name
        branch.replicas.give_back(turn.slot)
        answer = good_answer(self.name, turn.value, self.payload_max_bytes)
        outcome.model_s = turn.model_s
        self._sessions.follow(answer.headers, (branch.name, name))
        return Served(answer, name, turn.model_s, variant=branch.name)

    async def recover(self, turn: DirectTurn, error: Exception) -> Served:
        """What comes of it when an instance was asked and has not answered."""
        invocation = turn.invocation
        # Who closes a connection, and has not taken the request from it, may still listen.
        errors = [] if isinstance(error, Broken) and not error.sent else [error]

        async def ask(replica: Replica) -> Answer:
            if errors:
                raise await replica.failure(errors.pop())
            return await replica.invoke(invocation.body, invocation.headers, self.payload_max_bytes)

        with turn.metered as outcome:
            again = await turn.branch.ask(self.name, None, ask, turn.slot)
            return self.conclude(turn.branch, again, outcome)

    @contextlib.asynccontextmanager
    async def stream(self, invocation: Invocation) -> AsyncIterator[Streamed]:
        """An instance's answer as it comes; errors before its head as in `invoke`."""
        if invocation.headers.get(SESSION_ID) == NEW_SESSION:
            raise validation_error("A session cannot be opened by a streamed invocation.")
        branch, home = self._choose(invocation)
        self._copy(branch, invocation)

        def ask(replica: Replica) -> Awaitable[Stream]:
            return replica.stream(invocation.body, invocation.headers)

        with branch.metered(invocation.began_s) as outcome:
            turn = await branch.ask(self.name, home, ask)
            stream, began = turn.value, time.perf_counter() - turn.model_s
            try:
                if not 200 <= stream.status < 300:
                    await self._refused(stream)
                yield Streamed(
                    headers=stream.headers,
                    instance=turn.slot.replica.name,
                    variant=branch.name,
                    model_s=turn.model_s,
                    chunks=_pieces(stream, outcome),
                    abort=stream.abort,
                )
                outcome.model_s = time.perf_counter() - began
            finally:
                stream.abort()
                branch.replicas.give_back(turn.slot)

    async def close(self) -> None:
        """Stop the instances, letting each finish what it holds."""
        if self._rollout is not None:
            await self._rollout.stop()
        await asyncio.gather(*(branch.close() for branch in self._lineup.all()))
        for book in self.books:
            book.close()

    def oversize(self, _: str) -> ApiError:
        return content_too_long(self.payload_max_bytes)

    def status(self) -> dict[str, int]:
        running = self._lineup.all() + (self._rollout.fresh.all() if self._rollout else [])
        return {
            "instances": sum(branch.replicas.running for branch in running),
            "in_flight": sum(branch.replicas.outstanding for branch in running),
            "backlog": 0,
        }

    @property
    def settled(self) -> bool:
        """Whether each variant has the instances that are wanted."""
        return all(
            branch.replicas.in_service == branch.replicas.desired for branch in self.branches
        )

    @property
    def rolling_back(self) -> bool:
        """Whether an update has failed, and its old version is not yet alone again."""
        return self._rollout is not None and self._rollout.stage == "Deleting"

    def configuration(self) -> dict[str, Any]:
        """What CreateEndpointConfig would be told to make it."""
        kind = self._blueprint.target.instance_type

        def shown(branch: Branch) -> dict[str, Any]:
            return {
                "VariantName": branch.name,
                "ModelName": branch.model,
                "InstanceType": kind,
                "InitialInstanceCount": branch.count,
                "InitialVariantWeight": branch.weight,
                "RoutingConfig": {"RoutingStrategy": branch.replicas.routing},
            }

        return self._lineup.shown(shown)

    def describe(self) -> dict[str, Any]:
        """Its variants as ``DescribeEndpoint`` shows them."""
        found = self._lineup.shown(Branch.summary)
        if self._rollout is not None:
            found["PendingDeploymentSummary"] = self._rollout.pending()
        return found

    def change(self, changes: Sequence[Change]) -> None:
        """Change weights and counts of variants; ValidationError before any change.

        What is removed finishes what it holds.
        """
        known = {branch.name: branch for branch in self.branches}
        weights = {branch.name: branch.weight for branch in self.branches}
        for change in changes:
            if change.variant_name not in known:
                raise self._no_variant(change.variant_name)
            if change.serverless_update_config is not None:
                raise validation_error(f"Variant {change.variant_name} is not serverless.")
            if change.desired_instance_count == 0:
                raise validation_error("DesiredInstanceCount is 0: give 1 or more.")
            if change.desired_weight is not None:
                weights[change.variant_name] = change.desired_weight
        if not any(weights.values()):
            raise validation_error("At least one variant needs a weight above 0.")
        for branch in self.branches:
            branch.weight = weights[branch.name]
        for change in changes:
            if change.desired_instance_count is not None:
                known[change.variant_name].replicas.resize(change.desired_instance_count)

    def renew(self, update: Update, done: Callable[[str], None]) -> None:
        """Start the instances of a new configuration, move the traffic to them, let the old go.

        When one does not become healthy, all stays as it was.
        """
        current = self.branches if update.retain else []
        plans = planned(update.config, current, self._blueprint.target.routing)
        sizes = {plan.variant.name: plan.count for plan in plans if not plan.shadow}
        standing = {branch.name: branch.replicas.desired for branch in self.branches}
        course = course_of(update.deployment, sizes, standing)
        fresh = self._blueprint.lineup(plans)
        self._rollout = Rollout(self._lineup, fresh, course, update.watch, self._timers)

        def finished(failure: str) -> None:
            self._rollout = None
            self._lineup = self._lineup if failure else fresh
            self._blueprint.forget_all_but(branch.name for branch in self._lineup.all())
            done(failure)

        self._rollout.begin(finished)

    def follow(self, variant: str, policy: TargetTracking | ProvisionedScaling | None) -> None:
        """Let the variant's instances follow ``policy`` from now on, or nothing."""
        assert not isinstance(policy, ProvisionedScaling), "that is for environments"
        branch = self._production(variant, policy.max_count if policy else 1)
        self._blueprint.scalings[variant] = policy
        if branch.autoscaler is not None:
            branch.autoscaler.close()
        branch.autoscaler = self._blueprint.autoscaler(variant, branch.replicas)
        if policy is not None:
            bounds = Bounds(policy.min_count, policy.max_count)
            self._bound(branch, bounds, "the bounds of its policy")

    def hold(self, variant: str, least: int, most: int, reason: str) -> None:
        """Keep the variant's instances within new bounds from now on, also those of a policy."""
        branch = self._production(variant, most)
        if (scaling := self._blueprint.scaling_of(variant)) is not None:
            held = msgspec.structs.replace(scaling, min_count=least, max_count=most)
            self._blueprint.scalings[variant] = held
        if branch.autoscaler is not None:
            branch.autoscaler.hold(Bounds(least, most))
        self._bound(branch, Bounds(least, most), reason)

    def _bound(self, branch: Branch, bounds: Bounds, reason: str) -> None:
        """Launch what is missing now, drain what is too much."""
        before = branch.replicas.desired
        desired = bounds.hold(before)
        if desired != before:
            changed = {"variant": branch.name, "desired": desired, "before": before}
            self._timers.note("scaling", **changed, reason=reason)
            branch.replicas.resize(desired)

    def _production(self, variant: str, most: int) -> Branch:
        """ValidationError when there is none, or it cannot have as many instances."""
        branch = self._lineup.named(variant)
        if branch is None:
            raise self._no_variant(variant)
        if most > MAX_INSTANCES:
            raise validation_error(f"MaxCapacity is {most}: at most {MAX_INSTANCES}.")
        return branch

    def _no_variant(self, name: str) -> ApiError:
        return validation_error(f"Endpoint {self.name} has no production variant {name}.")

    def _choose(self, invocation: Invocation) -> tuple[Branch, str | None]:
        """The named variant, the session's, or one by weight; and the session's instance."""
        variant, home = self._sessions.place(invocation.headers) or (None, None)
        named = invocation.headers.get(TARGET_VARIANT)
        if named is not None and named != variant:
            variant, home = named, None
        lineup = self._side(variant, home)
        if variant is not None:
            if (branch := lineup.named(variant)) is not None:
                return branch, home
            if named is not None:
                raise self._no_variant(variant)
        # A session whose variant an update took away goes anywhere.
        branches = lineup.branches
        if len(branches) == 1:
            return branches[0], None
        weights = [branch.weight for branch in branches]
        return branches[choose_weighted(weights, self._luck)], None

    def _side(self, variant: str | None, home: str | None) -> Lineup:
        """The old variants or, as often as an update has got, the new ones; a session's own."""
        if self._rollout is None or not self._rollout.share:
            return self._lineup
        sides = [self._lineup, self._rollout.fresh]
        if self._luck.random() < self._rollout.share:
            sides.reverse()
        if home is not None and self._rollout.share < 1:
            sides.sort(key=lambda side: not side.holds(home))
        elif variant is not None and self._rollout.share < 1:
            sides.sort(key=lambda side: side.named(variant) is None)
        return sides[0]

    def _copy(self, branch: Branch, invocation: Invocation) -> None:
        """Send the shadow a copy, if it is to have one; its answer goes nowhere."""
        shadow = self._lineup.shadow
        if self._rollout is not None and branch in self._rollout.fresh.branches:
            shadow = self._rollout.fresh.shadow
        if shadow and self._luck.random() < shadow_share(shadow.weight, branch.weight):
            self._timers.start(self._discarded(shadow, invocation))

    async def _discarded(self, shadow: Branch, invocation: Invocation) -> None:
        with contextlib.suppress(ApiError):  # its metrics keep how it ended
            await self._invoke(shadow, None, invocation)

    async def _invoke(
        self, branch: Branch, home: str | None, invocation: Invocation, taken: Slot | None = None
    ) -> Served:
        def ask(replica: Replica) -> Awaitable[Answer]:
            return replica.invoke(invocation.body, invocation.headers, self.payload_max_bytes)

        with branch.metered(invocation.began_s) as outcome:
            turn = await branch.ask(self.name, home, ask, taken)
            return self.conclude(branch, turn, outcome)

    async def _refused(self, stream: Stream) -> None:
        """ModelError for an answer that is an error."""
        try:
            body = await stream.read(self.payload_max_bytes)
        except (Broken, TimeoutError):
            raise model_error(self.name, stream.status, None) from None
        good_answer(self.name, Answer(stream.status, body), self.payload_max_bytes)


async def _pieces(stream: Stream, outcome: Outcome) -> AsyncGenerator[bytes, None]:
    """The pieces of the answer; StreamEnded when they do not come to a good end."""
    try:
        async with contextlib.aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
    except TimeoutError:
        outcome.broke_off = True
        raise StreamEnded("ModelInvocationTimeExceeded", TIMED_OUT) from None
    except Broken as broken:
        outcome.broke_off = True
        reason = f"The container closed the connection: {broken}."
        raise StreamEnded("StreamBroken", reason) from broken
