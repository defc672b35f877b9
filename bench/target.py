"""Whom the traffic is sent to: an inference option with its settings."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from bench.scaling import Scaling

Overrides = Annotated[
    dict[str, float | bool],
    Meta(description="values of the option's profile to replace, by name"),
]

Device = Annotated[
    str,
    Meta(
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where the model computes: auto, cpu, cuda or cuda:N",
    ),
]

MaxBatch = Annotated[
    int, Meta(ge=1, le=4096, description="most calls computed at once, where that is safe; 1: off")
]

InstanceCount = Annotated[int, Meta(ge=1, le=100)]


class Variant(Struct, frozen=True, forbid_unknown_fields=True):
    """One version of the model behind an endpoint, with instances of its own."""

    name: Annotated[
        str,
        Meta(
            max_length=63,
            pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
            description="what TargetVariant calls it",
        ),
    ]
    weight: Annotated[float, Meta(ge=0, description="its share is weight / sum of weights")] = 1.0
    instance_count: Annotated[
        InstanceCount | None, Meta(description="default: that of the endpoint")
    ] = None
    model: Annotated[
        str | None, Meta(description="a model archive or folder; default: that of the run")
    ] = None


class Realtime(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="realtime"):
    """A persistent endpoint."""

    instance_type: Annotated[
        str, Meta(description="for the price only: a type in the price table")
    ] = "ml.m5.large"
    instance_count: Annotated[
        int, Meta(ge=1, le=100, description="InitialInstanceCount of each variant")
    ] = 1
    routing: Annotated[
        Literal["RANDOM", "LEAST_OUTSTANDING_REQUESTS"],
        Meta(description="RANDOM or LEAST_OUTSTANDING_REQUESTS, among a variant's instances"),
    ] = "RANDOM"
    variants: Annotated[
        list[Variant],
        Meta(
            max_length=10,
            description="production variants, a list of {name, weight, instance_count, model}; "
            "none: one, AllTraffic",
        ),
    ] = []
    shadow: Annotated[
        Variant | None,
        Meta(description="a variant that gets copies of requests; its answers are discarded"),
    ] = None
    scaling: Scaling | None = None
    device: Device = "auto"
    max_batch: MaxBatch = 32
    max_delay_s: Annotated[
        float, Meta(ge=0, le=1, description="longest wait for more calls to compute at once")
    ] = 0.0
    max_waiting: Annotated[
        int, Meta(ge=1, le=1_000_000, description="calls one model server holds; beyond it 503")
    ] = 1000
    profile: Overrides = {}


class ProvisionedScaling(Struct, frozen=True, forbid_unknown_fields=True):
    """Target tracking of the provisioned concurrency on its own utilisation."""

    max_units: Annotated[int, Meta(ge=1, description="most environments kept ready")]
    min_units: Annotated[int, Meta(ge=1, description="fewest environments kept ready")] = 1
    target_utilization: Annotated[
        float, Meta(gt=0, le=1, description="share of them that should be at work")
    ] = 0.7
    scale_out_cooldown_s: Annotated[
        float, Meta(ge=0, description="rest after adding, unless more is needed")
    ] = 300.0
    scale_in_cooldown_s: Annotated[float, Meta(ge=0, description="rest after removing")] = 300.0


class Scheduled(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of the provisioned concurrency at a moment."""

    at_s: Annotated[float, Meta(ge=0)]
    """Seconds after the load began; where there is none, after the endpoint opened."""
    units: Annotated[int, Meta(ge=0)]


class Serverless(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="serverless"
):
    """An endpoint that starts environments from zero, one request in each at a time."""

    memory_mb: Annotated[int, Meta(description="MemorySizeInMB of the endpoint")] = 2048
    max_concurrency: Annotated[int, Meta(description="MaxConcurrency of the endpoint")] = 20
    provisioned_concurrency: Annotated[
        int, Meta(ge=0, description="environments kept ready, at most max_concurrency")
    ] = 0
    provisioned_scaling: Annotated[
        ProvisionedScaling | None,
        Meta(description="target tracking of the environments kept ready"),
    ] = None
    provisioned_schedule: Annotated[
        list[Scheduled],
        Meta(
            max_length=1000,
            description="list of {at_s, units}: changes of the environments kept ready",
        ),
    ] = []
    updates_s: Annotated[
        list[Annotated[float, Meta(ge=0)]],
        Meta(
            max_length=1000,
            description="seconds of the load at which it is updated: every environment is lost",
        ),
    ] = []
    bill_setup: Annotated[
        bool, Meta(description="whether the set-up of a cold start is billed; AWS does not say")
    ] = False
    profile: Overrides = {}


class Triton(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="triton"):
    """NVIDIA Triton with its Python backend, serving the same model: to compare with."""

    instance_type: Annotated[
        str | None, Meta(description="for a price: the type it would run on; default: none")
    ] = None
    max_batch: MaxBatch = 32
    max_delay_s: Annotated[
        float, Meta(ge=0, le=1, description="longest wait for more calls to compute at once")
    ] = 0.0
    device: Device = "auto"
    environment: Annotated[
        str,
        Meta(description="an environment that holds nvidia-pytriton; default: ours"),
    ] = ""


class Url(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="url"):
    """A server that runs already, to compare with."""

    address: Annotated[
        str, Meta(description="of /invocations, of a model under /v2/models, or of such a server")
    ] = ""
    model: Annotated[
        str, Meta(description="the model's name, if the server has several; default: the only one")
    ] = ""
    instance_type: Annotated[
        str | None, Meta(description="for a price: the type it runs on; default: none")
    ] = None


class Lambda(Serverless, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="lambda"):
    """The same model as a function of AWS Lambda, in an image or a zip archive."""

    max_concurrency: Annotated[int, Meta(description="reserved concurrency of the function")] = 20
    package: Annotated[Literal["image", "zip"], Meta(description="how the function is packed")] = (
        "image"
    )
    bill_setup: Annotated[
        bool,
        Meta(description="whether the set-up of a cold start is billed; since August 2025 it is"),
    ] = True


Cooldown = Annotated[float, Meta(ge=0)]


class Async(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="async"):
    """A durable queue in front of instances that come and go with it."""

    instance_type: Annotated[
        str, Meta(description="for the price only: a type in the price table")
    ] = "ml.m5.large"
    min_instances: Annotated[
        int, Meta(ge=0, le=100, description="fewest instances; 0: none while nothing waits")
    ] = 0
    max_instances: Annotated[int, Meta(ge=1, le=100, description="most instances")] = 1
    max_concurrency: Annotated[
        int | None,
        Meta(description="MaxConcurrentInvocationsPerInstance, 1 to 1000; default: the profile's"),
    ] = None
    target_backlog: Annotated[
        float, Meta(gt=0, description="ApproximateBacklogSizePerInstance to keep")
    ] = 5.0
    scale_out_cooldown_s: Annotated[
        Cooldown, Meta(description="rest after adding, unless more is needed")
    ] = 300.0
    scale_in_cooldown_s: Annotated[Cooldown, Meta(description="rest after removing")] = 300.0
    wake_on_first_request: Annotated[
        bool, Meta(description="a step policy on HasBacklogWithoutCapacity beside the target")
    ] = True
    wake_cooldown_s: Annotated[Cooldown, Meta(description="cool-down of that policy")] = 300.0
    output_path: Annotated[
        str, Meta(max_length=512, description="S3OutputPath: s3://bucket/prefix")
    ] = "s3://weighbridge-async/output"
    failure_path: Annotated[
        str, Meta(max_length=512, description="S3FailurePath; empty: failures leave no object")
    ] = "s3://weighbridge-async/failure"
    success_topic: Annotated[
        str, Meta(description="an SNS topic's ARN, a webhook's http(s) address, or file:PATH")
    ] = ""
    error_topic: Annotated[str, Meta(description="the same for failures")] = ""
    sns_url: Annotated[str, Meta(description="address of an SNS-compatible service")] = ""
    include_response_in: Annotated[
        tuple[
            Literal["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"],
            ...,
        ],
        Meta(description="IncludeInferenceResponseIn: list of topics that get small responses"),
    ] = ()
    store_url: Annotated[
        str,
        Meta(description="an S3-compatible store's address (keys: AWS_* variables); default: own"),
    ] = ""
    backlog_url: Annotated[
        str, Meta(description="nats://… for a JetStream queue; default: a file of its own")
    ] = ""
    sync: Annotated[
        Literal["normal", "full"],
        Meta(description="full: survives a power failure, too, which may else damage the queue"),
    ] = "normal"
    profile: Overrides = {}


class Batch(Struct, frozen=True, forbid_unknown_fields=True, tag_field="mode", tag="batch"):
    """Transform jobs: no endpoint. Requests are gathered and transformed together."""

    instance_type: Annotated[
        str, Meta(description="for the price only: a type in the price table")
    ] = "ml.m5.large"
    instance_count: Annotated[int, Meta(ge=1, le=100, description="InstanceCount of each job")] = 1
    max_instances: Annotated[
        int, Meta(ge=1, le=100, description="largest InstanceCount that this machine accepts")
    ] = 4
    every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e9,
            description="seconds between two jobs (3600: hourly, 86400: nightly); 0: one job at "
            "the end of the traffic",
        ),
    ] = 3600.0
    max_payload_mb: Annotated[int, Meta(ge=1, le=100, description="MaxPayloadInMB of each job")] = 6
    max_concurrent_transforms: Annotated[
        int, Meta(ge=0, le=100, description="MaxConcurrentTransforms; 0: the container decides")
    ] = 0
    strategy: Annotated[
        Literal["MultiRecord", "SingleRecord"], Meta(description="BatchStrategy of each job")
    ] = "MultiRecord"
    cluster: Annotated[
        str | None,
        Meta(description="address of a dask scheduler whose workers run the agents of jobs"),
    ] = None
    profile: Overrides = {}


Target = Realtime | Serverless | Lambda | Async | Batch
Peer = Triton | Url

TARGETS: dict[str, type[Realtime] | type[Serverless] | type[Lambda] | type[Async] | type[Batch]] = {
    "realtime": Realtime,
    "serverless": Serverless,
    "lambda": Lambda,
    "async": Async,
    "batch": Batch,
}

DEFAULT_MODES = tuple(mode for mode in TARGETS if mode != "lambda")
"""What is measured when nothing is said: SageMaker's own options."""

PEERS: dict[str, type[Triton] | type[Url]] = {"triton": Triton, "url": Url}
"""Servers that the options are compared with. They are never measured unless asked for."""


def mode_of(target: Target | Peer) -> str:
    """The name of the option, such as ``realtime``, or of the peer, such as ``triton``."""
    return str(type(target).__struct_config__.tag)
