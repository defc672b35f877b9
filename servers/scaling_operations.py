"""Application Auto Scaling's control operations: targets, and the policies that they follow."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec
from msgspec import Meta, Struct

from bench.scaling import COOLDOWN_S, TargetTracking
from bench.target import ProvisionedScaling
from servers.api_document import Document, converted, invalid
from servers.control import Operations
from servers.endpoint_operations import EndpointOperations
from servers.scalable import UNITS, Target, not_found, scaling_arn
from servers.scheduled_actions import Capacities, Capacity, ScheduledActions
from servers.timers import Timers
from servers.wire import ApiError

_UTILIZATION = "SageMakerVariantProvisionedConcurrencyUtilization"
_METRICS: dict[str, Literal["InvocationsPerInstance", "ConcurrentRequestsPerModel"]] = {
    "SageMakerVariantInvocationsPerInstance": "InvocationsPerInstance",
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": "ConcurrentRequestsPerModel",
}

Seconds = Annotated[int, Meta(ge=0)]


class Registration(Target, frozen=True, rename="pascal"):
    """RegisterScalableTarget."""

    min_capacity: Capacity | None = None
    max_capacity: Capacity | None = None


class Metric(Struct, frozen=True, rename="pascal"):
    """What the policy follows."""

    predefined_metric_type: str


class TrackingConfiguration(Struct, frozen=True, rename="pascal"):
    """Target tracking."""

    target_value: Annotated[float, Meta(gt=0)]
    predefined_metric_specification: Metric
    scale_out_cooldown: Seconds = int(COOLDOWN_S)
    scale_in_cooldown: Seconds = int(COOLDOWN_S)
    disable_scale_in: bool = False


class PolicyRequest(Target, frozen=True, rename="pascal"):
    """PutScalingPolicy, DeleteScalingPolicy."""

    policy_name: Annotated[str, Meta(min_length=1, max_length=256)]
    policy_type: str = "TargetTrackingScaling"
    target_tracking_scaling_policy_configuration: TrackingConfiguration | None = None


@runtime_checkable
class Scaled(Protocol):
    """An endpoint whose capacity can follow a metric."""

    dimension: str

    def follow(self, variant: str, policy: TargetTracking | ProvisionedScaling | None) -> None:
        """From now on; None: nothing any more. ValidationError when there is no such variant."""

    def hold(self, variant: str, least: int, most: int, reason: str) -> None:
        """Keep the capacity within new bounds from now on, also when a policy changes it.

        ValidationError when there is no such variant, or it cannot have as many.
        """


@dataclass(frozen=True)
class Registered:
    """A scalable target, with its policy."""

    least: int
    most: int
    policy: PolicyRequest | None = None


class ScalingOperations:
    """Registers targets and puts policies; each works at once. Actions work when they are due."""

    def __init__(self, endpoints: EndpointOperations, timers: Timers) -> None:
        self._endpoints = endpoints
        self._timers = timers
        self._scheduled = ScheduledActions(timers, self._known, self._act)
        self._registered: dict[tuple[str, str], Registered] = {}

    @property
    def table(self) -> Operations:
        operations = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._targets,
            "PutScalingPolicy": self._put,
            "DeleteScalingPolicy": self._delete,
            "DescribeScalingPolicies": self._policies,
            **self._scheduled.table,
        }
        return {f"AnyScaleFrontendService.{name}": each for name, each in operations.items()}

    async def _register(self, body: Document) -> Document:
        wanted = converted(body, Registration)
        self._endpoint(wanted)
        old = self._registered.get(wanted.key)
        least = wanted.min_capacity or (old.least if old else None)
        most = wanted.max_capacity or (old.most if old else None)
        if least is None or most is None or least > most:
            raise invalid("Give MinCapacity and MaxCapacity, the first at most the second.")
        found = Registered(least, most, old.policy if old else None)
        if old is None:
            self._apply(wanted, found)
        elif old.policy is not None:
            self._endpoint(wanted).hold(wanted.place()[1], least, most, "new bounds of its target")
        self._registered[wanted.key] = found
        return {"ScalableTargetARN": scaling_arn("scalable-target", wanted.resource_id)}

    async def _deregister(self, body: Document) -> Document:
        wanted = converted(body, Target)
        self._apply(wanted, replace(self._known(wanted), policy=None))
        del self._registered[wanted.key]
        self._scheduled.forget(wanted)
        return {}

    async def _put(self, body: Document) -> Document:
        wanted = converted(body, PolicyRequest)
        known = self._known(wanted)
        if (
            wanted.policy_type != "TargetTrackingScaling"
            or wanted.target_tracking_scaling_policy_configuration is None
        ):
            raise invalid(
                f"PolicyType {wanted.policy_type}: here it is TargetTrackingScaling, with its "
                "configuration. Steps need alarms of CloudWatch: set realtime.scaling for them."
            )
        if known.policy is not None and known.policy.policy_name != wanted.policy_name:
            raise invalid(f"{wanted.resource_id} has the policy {known.policy.policy_name}.")
        found = replace(known, policy=wanted)
        self._apply(wanted, found)
        self._registered[wanted.key] = found
        name = f"{wanted.resource_id}:policyName/{wanted.policy_name}"
        return {"PolicyARN": scaling_arn("scalingPolicy", name), "Alarms": []}

    async def _delete(self, body: Document) -> Document:
        wanted = converted(body, PolicyRequest)
        known = self._known(wanted)
        if known.policy is None or known.policy.policy_name != wanted.policy_name:
            raise not_found(f"No scaling policy called {wanted.policy_name}")
        found = replace(known, policy=None)
        self._apply(wanted, found)
        self._registered[wanted.key] = found
        return {}

    async def _targets(self, _: Document) -> Document:
        targets = [
            {
                "ServiceNamespace": "sagemaker",
                "ResourceId": resource,
                "ScalableDimension": dimension,
                "MinCapacity": each.least,
                "MaxCapacity": each.most,
            }
            for (resource, dimension), each in self._registered.items()
        ]
        return {"ScalableTargets": targets}

    async def _policies(self, _: Document) -> Document:
        policies = (each.policy for each in self._registered.values())
        return {"ScalingPolicies": [msgspec.to_builtins(each) for each in policies if each]}

    def _endpoint(self, target: Target) -> Scaled:
        endpoint = self._endpoints.governed(target.place()[0])
        if not isinstance(endpoint, Scaled) or endpoint.dimension != target.scalable_dimension:
            raise invalid(
                f"{target.resource_id} has no {target.scalable_dimension} that can be set here."
            )
        return endpoint

    def _known(self, target: Target) -> Registered:
        if target.key not in self._registered:
            raise not_found(f"No scalable target registered for {target.resource_id}")
        return self._registered[target.key]

    def _act(self, target: Target, capacities: Capacities, reason: str) -> None:
        """Set new bounds, when no update is under way; what cannot be is noted."""
        name, variant = target.place()

        def act() -> None:
            if (known := self._registered.get(target.key)) is None:
                return
            least = capacities.min_capacity or known.least
            most = capacities.max_capacity or known.most
            noted = {"resource": target.resource_id, "min": least, "max": most, "reason": reason}
            try:
                if least > most:
                    raise invalid(f"MinCapacity {least} is more than MaxCapacity {most}.")
                self._endpoint(target).hold(variant, least, most, reason)
            except ApiError as error:
                self._timers.note("scheduled_action_failed", **noted, error=error.message)
            else:
                self._registered[target.key] = replace(known, least=least, most=most)
                self._timers.note("scheduled_action", **noted)

        self._endpoints.after_update(name, act)

    def _apply(self, target: Target, found: Registered) -> None:
        endpoint, (_, variant) = self._endpoint(target), target.place()
        endpoint.follow(variant, _policy(target.scalable_dimension, found))


def _policy(dimension: str, found: Registered) -> TargetTracking | ProvisionedScaling | None:
    put = found.policy.target_tracking_scaling_policy_configuration if found.policy else None
    if put is None:
        return None
    name = put.predefined_metric_specification.predefined_metric_type
    if dimension == UNITS:
        if name != _UTILIZATION or put.target_value > 1 or put.disable_scale_in:
            raise invalid(f"{dimension} follows {_UTILIZATION}, a share from 0 to 1, both ways.")
        return ProvisionedScaling(
            max_units=found.most,
            min_units=found.least,
            target_utilization=put.target_value,
            scale_out_cooldown_s=put.scale_out_cooldown,
            scale_in_cooldown_s=put.scale_in_cooldown,
        )
    if name not in _METRICS:
        raise invalid(f"PredefinedMetricType {name!r}: here there are {', '.join(_METRICS)}.")
    return TargetTracking(
        target_value=put.target_value,
        metric=_METRICS[name],
        min_count=found.least,
        max_count=found.most,
        scale_out_cooldown_s=put.scale_out_cooldown,
        scale_in_cooldown_s=put.scale_in_cooldown,
        disable_scale_in=put.disable_scale_in,
    )
