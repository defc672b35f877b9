"""The models that callers name: those of the deployment, and those made by CreateModel."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bench.errors import ConfigError
from servers.api_document import Document, arn, converted, invalid, page_of, text_of
from servers.control import Operations
from servers.places import file_path
from servers.wire import ApiError

MAX_MODELS = 1_000
_KEPT: tuple[str, ...] = ("PrimaryContainer", "ExecutionRoleArn")

Name = Annotated[str, Meta(max_length=63, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]


class Container(Struct, frozen=True, rename="pascal"):
    """``PrimaryContainer`` of CreateModel, as far as it is heeded."""

    model_data_url: str | None = None
    image: str | None = None
    environment: dict[str, str] = {}


class ModelRequest(Struct, frozen=True, rename="pascal"):
    """CreateModel, as far as an instance needs it."""

    model_name: Name
    primary_container: Container | None = None
    containers: list[Container] = []
    execution_role_arn: str | None = None


@dataclass(frozen=True)
class Model:
    """A model that is unpacked."""

    name: str
    base: Path
    """Stands for /opt/ml, with the model in ``model``."""
    environment: dict[str, str] = field(default_factory=dict)
    described: Document = field(default_factory=dict)
    created_s: float = field(default_factory=time.time)
    status: str = "InService"

    @property
    def modified_s(self) -> float:
        return self.created_s


class ModelRegistry:
    """Models by name. ``unpack`` is None where callers may not bring any."""

    def __init__(self, unpack: Callable[[Path], Path] | None) -> None:
        self._unpack = unpack
        self._models: dict[str, Model] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def find(self, name: str) -> Model | None:
        return self._models.get(name)

    def named(self, name: str) -> Model:
        """ValidationException when there is none."""
        if name not in self._models:
            raise invalid(f'Could not find model "{arn("model", name)}". Create it first.')
        return self._models[name]

    def add(self, name: str, base: Path, url: str) -> None:
        """Let callers name a model of the deployment."""
        described = {"PrimaryContainer": {"ModelDataUrl": url}}
        self._models[name] = Model(name, base, described=described)

    @property
    def table(self) -> Operations:
        return {
            "SageMaker.CreateModel": self._create,
            "SageMaker.DescribeModel": self._describe,
            "SageMaker.ListModels": self._list,
            "SageMaker.DeleteModel": self._delete,
        }

    async def _create(self, body: Document) -> Document:
        """From a ``file://`` address."""
        request = converted(body, ModelRequest)
        name = request.model_name
        self._check_room(name)
        container = request.primary_container or next(iter(request.containers), Container())
        path, unpack = _model_path(container), self._unpack
        if unpack is None:
            raise invalid(
                "Models are not taken from callers when others than this machine can call."
            )
        try:
            base = await asyncio.to_thread(unpack, path)
        except ConfigError as error:
            raise invalid(f"ModelDataUrl: {error}") from None
        self._check_room(name)  # another call may have been quicker
        described = {key: body[key] for key in _KEPT if key in body}
        self._models[name] = Model(name, base, container.environment, described)
        return {"ModelArn": arn("model", name)}

    def _check_room(self, name: str) -> None:
        if name in self._models:
            raise invalid(f"Cannot create already existing model {name!r}.")
        if len(self._models) >= MAX_MODELS:
            raise ApiError(400, "ResourceLimitExceeded", f"There are {MAX_MODELS} models already.")

    async def _describe(self, body: Document) -> Document:
        model = self.named(text_of(body, "ModelName"))
        return {
            "ModelName": model.name,
            "ModelArn": arn("model", model.name),
            "CreationTime": model.created_s,
            **model.described,
        }

    async def _list(self, body: Document) -> Document:
        page, more = page_of(self._models.values(), body)
        models = [
            {
                "ModelName": model.name,
                "ModelArn": arn("model", model.name),
                "CreationTime": model.created_s,
            }
            for model in page
        ]
        return {"Models": models, **more}

    async def _delete(self, body: Document) -> Document:
        """It can be named no more; what runs with it goes on."""
        del self._models[self.named(text_of(body, "ModelName")).name]
        return {}


def _model_path(container: Container) -> Path:
    address = container.model_data_url or ""
    if not address.startswith("file://"):
        raise invalid(
            f"ModelDataUrl {address!r}: give file:// and the path of a model.tar.gz or a folder of "
            "its layout. The image is not pulled: its place is taken by the local model server."
        )
    path = file_path(address)
    if not path.exists():
        raise invalid(f"ModelDataUrl: there is no {path}.")
    return path
