"""From a real-time target, or a new configuration of it, to variants that can be opened."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.errors import ConfigError
from bench.scaling import Scaling
from bench.target import Realtime, Variant
from servers.autoscaler import Autoscaler
from servers.branch import Branch, Lineup
from servers.endpoint import Means, instance_names
from servers.instance import Replica
from servers.metrics import Book
from servers.replicas import Replicas, ReplicasMeans
from servers.scaling import Windows
from servers.wire import VARIANT

MakerOf = Callable[[str], Callable[[str], Replica]]
"""From the name of a model to what makes an instance, not started, from its own name."""


@dataclass(frozen=True)
class Plan:
    """A variant to be made."""

    variant: Variant
    count: int
    routing: str
    model: str
    """The name under which its model is known."""
    shadow: bool = False


@dataclass
class Blueprint:
    """Makes variants, not opened, of one endpoint: those it begins with and those of updates."""

    name: str
    target: Realtime
    means: Means
    maker_of: MakerOf
    new_name: Callable[[], str] = field(default_factory=lambda: instance_names("instance"))
    books: dict[str, Book] = field(default_factory=dict)
    """By variant: a variant of the same name goes on with the same metrics."""
    scalings: dict[str, Scaling | None] = field(default_factory=dict)
    """Policies that were changed while it serves, by variant."""
    _places: "itertools.count[int]" = field(default_factory=itertools.count)

    def plans(self) -> list[Plan]:
        """What the target asks for; the shadow comes last."""
        target = self.target
        variants = target.variants or [Variant(VARIANT)]
        check_realtime(target)
        plans = [self._plan(variant, False) for variant in variants]
        return plans + ([self._plan(target.shadow, True)] if target.shadow else [])

    def lineup(self, plans: Sequence[Plan]) -> Lineup:
        """The variants of these plans."""
        made = [(plan.shadow, self._branch(plan)) for plan in plans]
        shadows = [branch for shadow, branch in made if shadow]
        return Lineup([branch for shadow, branch in made if not shadow], next(iter(shadows), None))

    def forget_all_but(self, variants: Iterable[str]) -> None:
        """Close the metrics of the others; their policies are gone as well."""
        for gone in set(self.books) - set(variants):
            self.books.pop(gone).close()
            self.scalings.pop(gone, None)

    def autoscaler(self, variant: str, replicas: Replicas) -> Autoscaler | None:
        """That of its policy, if it has one."""
        scaling = self.scaling_of(variant)
        if scaling is None:
            return None
        profile = self.means.profile
        windows = Windows(
            int(profile["alarm_out_points"]), profile["alarm_in_s"], profile["alarm_in_share"]
        )
        return Autoscaler(scaling, windows, replicas, self.books[variant], self.means.timers)

    def scaling_of(self, variant: str) -> Scaling | None:
        return self.scalings.get(variant, self.target.scaling)

    def _plan(self, variant: Variant, shadow: bool) -> Plan:
        count = variant.instance_count or self.target.instance_count
        model = known_as(self.name, variant)
        return Plan(variant, count, self.target.routing, model, shadow)

    def _branch(self, plan: Plan) -> Branch:
        variant, means, place = plan.variant, self.means, next(self._places)
        make = self.maker_of(plan.model)
        parts = ReplicasMeans(
            means,
            lambda: make(self.new_name()),
            plan.routing,
            random.Random(f"{means.seed}-routing-{place}"),
            random.Random(f"{means.seed}-launches-{place}"),
        )
        replicas = Replicas(variant.name, parts)
        if variant.name not in self.books:
            self.books[variant.name] = Book(self.name, variant.name, self.means.metrics)
        count, scaler = plan.count, None
        if not plan.shadow and (scaling := self.scaling_of(variant.name)) is not None:
            count = max(scaling.min_count, min(scaling.max_count, count))
            scaler = self.autoscaler(variant.name, replicas)
        return Branch(
            name=variant.name,
            weight=variant.weight,
            count=count,
            model=plan.model,
            replicas=replicas,
            book=self.books[variant.name],
            autoscaler=scaler,
            timers=means.timers,
        )


def known_as(endpoint: str, variant: Variant) -> str:
    """The name under which callers know the model of a variant of the deployment."""
    return f"{endpoint}-{variant.name}" if variant.model else endpoint


def check_realtime(target: Realtime) -> None:
    """ConfigError when settings contradict each other; it names them."""
    names = [variant.name for variant in target.variants]
    if target.shadow is not None:
        names.append(target.shadow.name)
        if len(target.variants) > 1:
            raise ConfigError(
                f"realtime.variants = {', '.join(names[:-1])}: with a shadow there is exactly one "
                "production variant. Remove the others, or realtime.shadow."
            )
    twins = {name for name in names if names.count(name) > 1}
    if twins:
        raise ConfigError(
            f"realtime.variants: two are called {', '.join(sorted(twins))}. Rename one."
        )
    if target.variants and not any(variant.weight for variant in target.variants):
        raise ConfigError("realtime.variants: every weight is 0. Give one of them a share.")
    if (scaling := target.scaling) is None:
        return
    if not 1 <= scaling.min_count <= scaling.max_count <= MAX_INSTANCES:
        raise ConfigError(
            f"realtime.scaling: min_count = {scaling.min_count}, max_count = {scaling.max_count}. "
            f"Choose 1 <= min_count <= max_count <= {MAX_INSTANCES}."
        )


MAX_INSTANCES = 100
"""Of a variant: they are processes of this machine."""
