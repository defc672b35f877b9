"""Serverless: environments started from zero, one request in each at a time.

SageMaker's serverless endpoints and AWS Lambda's functions: the profile tells them apart.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.scaling import TargetTracking
from bench.target import Lambda, ProvisionedScaling, Serverless
from servers.endpoint import ColdStart, Invocation, Means, Served, call_model, instance_names
from servers.endpoint_operations import Change, Update
from servers.environments import Environment, Environments, Weighed
from servers.instance import InstanceFailed
from servers.pages import Pages
from servers.provisioned import Provisioned, Scaler
from servers.scalable import UNITS
from servers.timers import Timer
from servers.usage import Usage
from servers.wire import (
    VARIANT,
    ApiError,
    NoModelAnswer,
    model_error,
    oversize_body,
    request_too_large,
    throttled,
    too_many_requests,
    validation_error,
)


class ServerlessEndpoint:
    """Scales from zero: a request takes an idle environment or starts one of its own.

    With provisioned concurrency it takes one of those first.
    """

    dimension = UNITS

    def __init__(self, name: str, target: Serverless, means: Means) -> None:
        self.name = name
        self.payload_max_bytes = int(means.profile["payload_max_bytes"])
        self.max_concurrency = target.max_concurrency
        self._target = target
        self.is_lambda = isinstance(target, Lambda)
        self._means = means
        self._timers = means.timers
        self._environments = Environments(target, means, instance_names("environment"))
        kept = Environments(target, means, instance_names("provisioned"))
        self._provisioned = Provisioned(target.provisioned_concurrency, kept, means)
        self._scaler = Scaler(target, self._provisioned, means)
        assert means.profile.cloudwatch is not None, "a serverless profile names its metrics"
        self._usage = Usage(name, means.metrics, means.timers.now, means.profile.cloudwatch)
        self._idle: list[Environment] = []
        self._version = 0
        self._busy = 0
        self._planned: list[Timer] = []

    async def open(self) -> None:
        """Start what is provisioned; nothing else: the first request does."""
        await self._provisioned.open()
        self._scaler.open()
        self._timers.when_load_begins(self._plan)

    def _plan(self, begin_s: float) -> None:
        for at_s in self._target.updates_s:
            self._planned.append(self._timers.call_at(begin_s + at_s, self.update))

    async def invoke(self, invocation: Invocation) -> Served:
        """The answer of an environment that is ready, or of one started for this request.

        ThrottlingException when ``max_concurrency`` requests are already open, or as many in the
        whole account as it may have.
        """
        account = self._means.account
        most = self._means.profile["account_concurrency"]
        self._usage.add("requests")
        if self._busy >= self.max_concurrency or account.open >= most:
            self._usage.add("throttled")
            raise self._throttled()
        with self._usage.invocation():
            self._busy += 1
            account.open += 1
            self._usage.concurrency(self._busy, self.max_concurrency)
            try:
                with self._timers.working():
                    return await self._invoke(invocation)
            finally:
                self._busy -= 1
                account.open -= 1
                self._usage.concurrency(self._busy, self.max_concurrency)

    async def close(self) -> None:
        """End every idle environment; those at work were waited for by the front end."""
        for timer in self._planned:
            timer.cancel()
        self._scaler.close()
        await asyncio.gather(self._provisioned.close(), self._let_go("closed"))
        self._usage.pages.close()

    def update(self, done: Callable[[str], None] = lambda _: None) -> None:
        """Begin a new version of the endpoint: every environment of the old one is lost.

        What is provisioned is started anew first. One at work finishes its request.
        """

        def switch() -> None:
            self._version += 1
            self._timers.note("endpoint_updated", version=self._version)
            self._timers.start(self._let_go("endpoint updated"))
            done("")

        self._provisioned.renew(switch)

    @property
    def settled(self) -> bool:
        """Whether all that is provisioned is there."""
        return self._provisioned.ready + self._provisioned.busy >= self._provisioned.units

    @property
    def rolling_back(self) -> bool:
        """Never: an update cannot fail once it has begun."""
        return False

    def configuration(self) -> dict[str, Any] | None:
        """What CreateEndpointConfig would be told to make it; None for AWS Lambda's functions."""
        if self.is_lambda:
            return None
        variant = {"VariantName": VARIANT, "ModelName": self.name}
        return {"ProductionVariants": [variant | {"ServerlessConfig": self._config()}]}

    def describe(self) -> dict[str, Any]:
        """Its own members of DescribeEndpoint."""
        variant = {
            "VariantName": VARIANT,
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            "CurrentInstanceCount": 0,
            "CurrentServerlessConfig": self._config(),
        }
        return {"ProductionVariants": [variant]}

    def change(self, changes: Sequence[Change]) -> None:
        """Set its concurrency while requests come; ValidationError when it breaks a limit."""
        config = changes[0].serverless_update_config
        if len(changes) > 1 or changes[0].variant_name != VARIANT or config is None:
            raise validation_error(
                f"Endpoint {self.name} is serverless, so it has no variants with instances: give "
                f"VariantName {VARIANT} with a ServerlessUpdateConfig."
            )
        self.change_concurrency(config.max_concurrency, config.provisioned_concurrency)

    def renew(self, update: Update, done: Callable[[str], None]) -> None:
        """`update`, with the concurrency of the configuration unless it is retained.

        All at once whatever its DeploymentConfig says, as on AWS.
        """
        variant = update.config.request.production_variants[0]
        wanted = variant.serverless_config
        if wanted is None:
            raise validation_error(
                f"Endpoint {self.name} is serverless; give its variant a ServerlessConfig. Start "
                "an endpoint with instances as another one."
            )
        mine = (VARIANT, self.name, self._target.memory_mb)
        if (variant.variant_name, variant.model_name, wanted.memory_size_in_mb) != mine:
            raise validation_error(
                f"Endpoint {self.name} keeps its variant, model and memory size here: "
                f"{VARIANT}, {self.name}, {self._target.memory_mb} MB. Start another one."
            )
        if not update.retain:
            units = wanted.provisioned_concurrency or 0
            self.change_concurrency(wanted.max_concurrency, units)
        self.update(done)

    def follow(self, variant: str, policy: TargetTracking | ProvisionedScaling | None) -> None:
        """Let the provisioned concurrency follow ``policy`` from now on, or nothing."""
        assert not isinstance(policy, TargetTracking), "that is for instances"
        self._check_units(variant, policy.max_units if policy else 0)
        self._scaler.follow(policy)

    def hold(self, variant: str, least: int, most: int, reason: str) -> None:
        """Keep the provisioned concurrency within new bounds from now on, also of a policy."""
        self._check_units(variant, most)
        self._scaler.hold(least, most, reason)

    def _check_units(self, variant: str, most: int) -> None:
        if variant != VARIANT:
            raise validation_error(f"Endpoint {self.name} has only the variant {VARIANT}.")
        if most > self.max_concurrency:
            raise validation_error(
                f"MaxCapacity {most} is above MaxConcurrency {self.max_concurrency}."
            )

    def _config(self) -> dict[str, int]:
        config = {
            "MemorySizeInMB": self._target.memory_mb,
            "MaxConcurrency": self.max_concurrency,
        }
        units = self._provisioned.units
        return config | ({"ProvisionedConcurrency": units} if units else {})

    def change_concurrency(self, max_concurrency: int | None, provisioned: int | None) -> None:
        """Set either or both; ValidationError when they break a limit."""
        most = self.max_concurrency if max_concurrency is None else max_concurrency
        units = self._provisioned.units if provisioned is None else provisioned
        limit = int(self._means.profile["max_concurrency_limit"])
        if not (1 <= most <= limit and 0 <= units <= most):
            raise validation_error(
                f"MaxConcurrency {most} and ProvisionedConcurrency {units}: the first must be "
                f"from 1 to {limit}, the second at most the first."
            )
        self.max_concurrency = most
        self._provisioned.resize(units, "asked for")

    @property
    def books(self) -> list[Pages]:
        """Its metrics."""
        return [self._usage.pages]

    def oversize(self, request_id: str) -> ApiError:
        if self.is_lambda:
            return request_too_large(self.payload_max_bytes)
        return oversize_body(request_id)

    def status(self) -> dict[str, Any]:
        return {
            "instances": len(self._idle) + self._busy + self._provisioned.ready,
            "in_flight": self._busy,
            "backlog": self._environments.starting,
            "provisioned": self._provisioned.units,
            "metrics": self._usage.statistics(),
        }

    def _throttled(self) -> ApiError:
        return too_many_requests() if self.is_lambda else throttled()

    async def _invoke(self, invocation: Invocation) -> Served:
        began = time.perf_counter()
        asked_s = self._timers.now()
        environment, cold = await self._environment()
        run_began = time.perf_counter()
        try:
            answer, model_s = await call_model(
                self.name, environment.instance, invocation, self.payload_max_bytes
            )
        except ApiError as error:
            self._usage.add("run_s", time.perf_counter() - run_began)
            self._note_cold(environment, cold, asked_s, None)
            self._after(environment, error)
            raise
        self._note_cold(environment, cold, asked_s, model_s)
        # Back among the idle ones before the answer leaves: the caller's next request may arrive
        # the moment this one is complete.
        self._after(environment, None)
        modelled_s = cold.modelled_s if cold else 0.0
        setup_s = modelled_s + cold.startup.setup_s if cold else None
        real_s = time.perf_counter() - began
        self._usage.served(max(real_s, model_s + (setup_s or 0.0)), model_s, setup_s)
        return Served(answer, environment.instance.name, model_s, cold)

    async def _environment(self) -> tuple[Environment, ColdStart | None]:
        """One for this request alone: provisioned, kept from before, or new."""
        units = self._provisioned.units
        environment = self._provisioned.take()
        if units:
            self._usage.add("spilled" if environment is None else "provisioned_taken")
            self._usage.provisioned(self._provisioned.busy, units)
            self._scaler.touched()
        environment = environment or self._take_idle()
        if environment is not None:
            return environment, None
        version = self._version
        try:
            instance, cold = await self._environments.start()
        except InstanceFailed as failure:
            message = f"the environment could not be started: {failure}"
            raise model_error(self.name, 500, message) from failure
        return Environment(instance, version), cold

    def _take_idle(self) -> Environment | None:
        # The one used last goes first, so that those not needed grow old and expire.
        while self._idle:
            environment = self._idle.pop()
            environment.disarm()
            if environment.instance.alive:
                return environment
            self._environments.ended(environment.instance, "ended by itself")
        return None

    def _note_cold(
        self,
        environment: Environment,
        cold: ColdStart | None,
        asked_s: float,
        first_inference_s: float | None,
    ) -> None:
        if cold is None:
            return
        startup = cold.startup
        self._timers.log.write(
            "cold_start",
            asked_s,
            instance=environment.instance.name,
            placement_s=cold.placement_s,
            pull_s=cold.pull_s,
            retry_s=cold.retry_s,
            wait_s=cold.wait_s,
            setup_s=startup.setup_s,
            process_s=startup.process_s,
            import_s=startup.import_s,
            load_s=startup.load_s,
            warmup_s=startup.warmup_s,
            first_inference_s=first_inference_s,
        )
        if isinstance(environment.instance, Weighed) and environment.instance.alive:
            size_bytes = self._target.memory_mb * 2**20
            resident = environment.instance.resident_bytes()
            self._usage.add("memory_share", resident / size_bytes)

    def _after(self, environment: Environment, error: ApiError | None) -> None:
        """Keep the environment for the next request, or end it."""
        lost = isinstance(error, NoModelAnswer)
        alive = environment.instance.alive
        if lost:
            # It may still be at work on this request: it cannot take another.
            detail = str(error.fields.get("OriginalMessage", "")) if error else ""
            end = self._environments.end(environment.instance, "gave no answer", detail)
            self._timers.start(end)
        if environment.provisioned:
            self._provisioned.give_back(environment, fit=alive and not lost)
            self._usage.provisioned(self._provisioned.busy, self._provisioned.units)
            self._scaler.touched()
        elif alive and not lost:
            self._keep(environment)

    def _keep(self, environment: Environment) -> None:
        if environment.version != self._version:
            self._timers.start(self._environments.end(environment.instance, "endpoint updated"))
            return
        self._idle.append(environment)
        environment.expiry = self._timers.call_at(
            self._timers.now() + self._environments.delays.keep_alive_s(),
            lambda: self._expire(environment),
        )

    def _expire(self, environment: Environment) -> None:
        self._idle.remove(environment)
        self._timers.start(self._environments.end(environment.instance, "idle"))

    async def _let_go(self, reason: str) -> None:
        """End every idle environment."""
        idle, self._idle = self._idle, []
        for environment in idle:
            environment.disarm()
        await asyncio.gather(*(self._environments.end(each.instance, reason) for each in idle))
