"""``CreateTransformJob`` as it comes over the wire, checked."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from bench.errors import ConfigError
from servers.agent import Filters
from servers.api_document import converted, invalid
from servers.joining import Stamp, kind_of
from servers.jsonpath import compiled
from servers.splitting import SplitType

NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
MEBIBYTE = 1 << 20
MAX_JOINT_MB = 100
DEFAULT_MB = 6

Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=NAME)]
Uri = Annotated[str, Meta(max_length=1024, pattern=r"^(https|s3)://([^/]+)/?(.*)$")]
Media = Annotated[str, Meta(max_length=256)]
Path = Annotated[str, Meta(max_length=63)]
Text = Annotated[str, Meta(max_length=10240)]
Strategy = Literal["MultiRecord", "SingleRecord"]


class _Part(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", omit_defaults=True):
    """The members of the API carry these names in their own spelling."""


class S3DataSource(_Part, frozen=True):
    s3_data_type: Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile", "Converse"] = field(
        name="S3DataType"
    )
    s3_uri: Uri = field(name="S3Uri")


class DataSource(_Part, frozen=True):
    s3_data_source: S3DataSource = field(name="S3DataSource")


class TransformInput(_Part, frozen=True):
    data_source: DataSource
    content_type: Media | None = None
    compression_type: Literal["None", "Gzip"] = "None"
    split_type: SplitType = "None"


class TransformOutput(_Part, frozen=True):
    s3_output_path: Uri = field(name="S3OutputPath")
    accept: Media | None = None
    assemble_with: Literal["None", "Line"] = "None"
    kms_key_id: Annotated[str, Meta(max_length=2048)] | None = None


class TransformResources(_Part, frozen=True):
    instance_type: Annotated[str, Meta(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")]
    instance_count: Annotated[int, Meta(ge=1, le=100)]
    volume_kms_key_id: Annotated[str, Meta(max_length=2048)] | None = None
    transform_ami_version: Annotated[str, Meta(max_length=63)] | None = None


class ModelClientConfig(_Part, frozen=True):
    invocations_timeout_in_seconds: Annotated[int, Meta(ge=1, le=3600)] = 600
    invocations_max_retries: Annotated[int, Meta(ge=0, le=3)] = 3


class DataProcessing(_Part, frozen=True):
    input_filter: Path = "$"
    output_filter: Path = "$"
    join_source: Literal["None", "Input"] = "None"


class DataCaptureConfig(_Part, frozen=True):
    destination_s3_uri: Uri = field(name="DestinationS3Uri")
    kms_key_id: Annotated[str, Meta(max_length=2048)] | None = None
    generate_inference_id: bool = False


class Tag(_Part, frozen=True):
    key: Annotated[str, Meta(max_length=128)]
    value: Annotated[str, Meta(max_length=256)]


class TransformRequest(_Part, frozen=True):
    """The members of ``CreateTransformJob``, with their ranges."""

    transform_job_name: Name
    model_name: Name
    transform_input: TransformInput
    transform_output: TransformOutput
    transform_resources: TransformResources
    max_concurrent_transforms: Annotated[int, Meta(ge=0)] | None = None
    model_client_config: ModelClientConfig | None = None
    max_payload_mb: Annotated[int, Meta(ge=0, le=100)] | None = field(
        default=None, name="MaxPayloadInMB"
    )
    batch_strategy: Strategy | None = None
    environment: Annotated[
        dict[Annotated[str, Meta(max_length=1024, pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")], Text],
        Meta(max_length=16),
    ] = {}
    data_processing: DataProcessing | None = None
    data_capture_config: DataCaptureConfig | None = None
    tags: Annotated[list[Tag], Meta(max_length=50)] = []
    experiment_config: dict[str, str] = {}

    @property
    def inference_ids(self) -> bool:
        """Whether each record of the output gets an id of its own."""
        return self.data_capture_config is not None and (
            self.data_capture_config.generate_inference_id
        )


@dataclass(frozen=True)
class Effective:
    """How the container is fed: the request's own word, else the container's, else the default."""

    concurrent: int = 1
    payload_mb: int = DEFAULT_MB
    strategy: Strategy = "MultiRecord"

    @property
    def limit_bytes(self) -> int:
        return self.payload_mb * MEBIBYTE

    def log_line(self) -> str:
        """As SageMaker's job log says it."""
        return (
            f"[sagemaker logs]: MaxConcurrentTransforms={self.concurrent}, "
            f"MaxPayloadInMB={self.payload_mb}, "
            f"BatchStrategy={'MULTI_RECORD' if self.strategy == 'MultiRecord' else 'SINGLE_RECORD'}"
        )


def parse_request(body: Any) -> TransformRequest:
    """The request, checked; ValidationException names the member, the rule and the remedy."""
    request = converted(body, TransformRequest)
    _check_input(request)
    _check_capture(request)
    _check_joint(request.max_concurrent_transforms or 1, _payload_mb(request))
    try:
        _check_processing(request)
    except ConfigError as error:
        raise invalid(f"DataProcessing: {error}") from None
    return request


def effective(request: TransformRequest, told: dict[str, Any]) -> Effective:
    """What holds for this job; ``told`` is the container's /execution-parameters.

    ValidationException when together they break the joint rule.
    """
    strategies: dict[str, Strategy] = {
        "MULTI_RECORD": "MultiRecord",
        "SINGLE_RECORD": "SingleRecord",
    }
    told_mb = _whole(told.get("MaxPayloadInMB"))
    payload = request.max_payload_mb
    if payload is None:
        payload = DEFAULT_MB if told_mb is None else min(told_mb, MAX_JOINT_MB)
    concurrent = request.max_concurrent_transforms or _whole(told.get("MaxConcurrentTransforms"))
    strategy = request.batch_strategy or strategies.get(str(told.get("BatchStrategy")))
    _check_joint(concurrent or 1, payload)
    return Effective(concurrent or 1, payload, strategy or "MultiRecord")


def filters_of(
    request: TransformRequest, end_included: bool = False, stamp: Stamp | None = None
) -> Filters | None:
    """DataProcessing and ``stamp`` with their format; None when there is nothing to do."""
    given = request.data_processing
    target = request.transform_output.accept if stamp else request.transform_input.content_type
    kind = kind_of(target)
    if kind is None or (given is None and stamp is None):
        return None
    given = given or DataProcessing()
    join = given.join_source == "Input"
    return Filters(kind, given.input_filter, join, given.output_filter, end_included, stamp)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _payload_mb(request: TransformRequest) -> int:
    return DEFAULT_MB if request.max_payload_mb is None else request.max_payload_mb


def _check_input(request: TransformRequest) -> None:
    given = request.transform_input
    kind = given.data_source.s3_data_source.s3_data_type
    if kind not in ("S3Prefix", "ManifestFile"):
        raise invalid(f"S3DataType {kind} is not supported by batch transform. Use S3Prefix.")
    # The whole object is one record then; AWS's examples send images as SingleRecord.
    if request.batch_strategy == "MultiRecord" and given.split_type == "None":
        raise invalid("BatchStrategy MultiRecord needs a SplitType: Line, RecordIO or TFRecord.")


def _check_capture(request: TransformRequest) -> None:
    if not request.inference_ids:
        return
    accept = request.transform_output.accept
    if kind_of(accept) is None:
        raise invalid(
            f"DataCaptureConfig: GenerateInferenceId with Accept {accept!r}: an id can be "
            "appended to text/csv, application/json or application/jsonlines only. Set "
            "TransformOutput.Accept to one of these."
        )
    if request.max_payload_mb == 0:
        raise invalid(
            "DataCaptureConfig: GenerateInferenceId with MaxPayloadInMB 0, which streams whole "
            "objects: their records are not known. Set MaxPayloadInMB."
        )


def _check_joint(concurrent: int, payload_mb: int) -> None:
    if concurrent * payload_mb > MAX_JOINT_MB:
        raise invalid(
            f"MaxConcurrentTransforms x MaxPayloadInMB is {concurrent} x {payload_mb}: "
            f"at most {MAX_JOINT_MB}. Lower one of them."
        )


def _check_processing(request: TransformRequest) -> None:
    given = request.data_processing
    if given is None or given == DataProcessing():
        return
    source, target = request.transform_input, request.transform_output
    kind = kind_of(source.content_type)
    if kind is None:
        raise ConfigError(
            f"ContentType {source.content_type!r} cannot be filtered or joined. "
            "Use text/csv, application/json or application/jsonlines."
        )
    if source.content_type != target.accept:
        raise ConfigError(
            f"ContentType {source.content_type!r} and Accept {target.accept!r} must be equal."
        )
    if source.split_type != target.assemble_with:
        raise ConfigError(
            f"SplitType {source.split_type} and AssembleWith {target.assemble_with} must be equal."
        )
    if request.max_payload_mb == 0:
        raise ConfigError("MaxPayloadInMB 0 streams whole objects, which cannot be filtered.")
    for text in (given.input_filter, given.output_filter):
        if kind == "csv" and not compiled(text).indices_only:
            raise ConfigError(f"{text!r}: rows of CSV have indices only, such as $[0,-1].")
        compiled(text)
