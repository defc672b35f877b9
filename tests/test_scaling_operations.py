"""Scaling policies that an unmodified boto3 client puts while endpoints serve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.deployment import Deployment, Endpoint
from bench.target import Async, Realtime, Serverless
from tests.containers import COMMAND
from tests.serving import ECHO, Serving, eventually, serving

pytestmark = pytest.mark.slow

COUNT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/one/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
UNITS = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/zero/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real-time, a serverless and an asynchronous endpoint."""
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "model" / "code").mkdir(parents=True)
    (folder / "model" / "code" / "inference.py").write_text(ECHO)
    model = str(folder / "model")
    endpoints = [
        Endpoint("one", Realtime(profile={"launch_median_s": 0.01}), model, command=COMMAND),
        Endpoint("zero", Serverless(profile={"placement_median_s": 0}), model),
        Endpoint("later", Async(), model),
    ]
    with serving(Deployment(endpoints), Path(folder / "run")) as running:
        yield running


@pytest.fixture(scope="module")
def scaling(server: Serving) -> Any:
    return client(server, "application-autoscaling")


def client(server: Serving, service: str) -> Any:
    return server.client(service)


def put(scaling: Any, target: dict[str, str], metric: str, value: float) -> None:
    configuration = {
        "TargetValue": value,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
    }
    scaling.put_scaling_policy(
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=configuration,
        **target,
    )


def test_instances_follow_a_policy_that_is_put(server: Serving, scaling: Any) -> None:
    """Its bounds hold at once; it can be read, and taken away."""
    scaling.register_scalable_target(**COUNT, MinCapacity=2, MaxCapacity=3)
    put(scaling, COUNT, "SageMakerVariantInvocationsPerInstance", 70.0)
    eventually(lambda: server.status()["one"]["instances"] == 2, "two serve")
    [policy] = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70.0
    [target] = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 3)
    scaling.delete_scaling_policy(PolicyName="p", **COUNT)
    scaling.deregister_scalable_target(**COUNT)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_provisioned_concurrency_follows_a_policy_that_is_put(
    server: Serving, scaling: Any
) -> None:
    """From none to its fewest at once."""
    scaling.register_scalable_target(**UNITS, MinCapacity=1, MaxCapacity=2)
    put(scaling, UNITS, "SageMakerVariantProvisionedConcurrencyUtilization", 0.5)
    eventually(lambda: server.status()["zero"]["instances"] == 1, "one is kept ready")
    shown = client(server, "sagemaker").describe_endpoint(EndpointName="zero")
    config = shown["ProductionVariants"][0]["CurrentServerlessConfig"]
    assert config["ProvisionedConcurrency"] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ResourceId": "endpoint/nobody/variant/AllTraffic"}, "ValidationException"),
        ({"ResourceId": "endpoint/one"}, "ValidationException"),
        ({"ResourceId": "endpoint/one/variant/b"}, "ValidationException"),
        ({"ResourceId": "endpoint/later/variant/AllTraffic"}, "ValidationException"),
        ({"ScalableDimension": UNITS["ScalableDimension"]}, "ValidationException"),
    ],
)
def test_what_cannot_be_scaled_is_refused(scaling: Any, change: dict[str, str], code: str) -> None:
    """Unknown endpoints and variants, and capacities that follow something else."""
    with pytest.raises(ClientError) as caught:
        scaling.register_scalable_target(**{**COUNT, **change}, MinCapacity=1, MaxCapacity=2)
    assert caught.value.response["Error"]["Code"] == code


def test_a_policy_needs_a_registered_target(scaling: Any) -> None:
    """ObjectNotFoundException, as AWS has it."""
    with pytest.raises(ClientError) as caught:
        put(scaling, COUNT, "SageMakerVariantInvocationsPerInstance", 70.0)
    assert caught.value.response["Error"]["Code"] == "ObjectNotFoundException"
