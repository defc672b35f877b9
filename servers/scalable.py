"""Scalable targets: what every operation of Application Auto Scaling names."""

import re
from typing import Literal

from msgspec import Struct

from servers.api_document import invalid
from servers.wire import ACCOUNT, REGION, ApiError

_RESOURCE = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")
INSTANCES = "sagemaker:variant:DesiredInstanceCount"
UNITS = "sagemaker:variant:DesiredProvisionedConcurrency"


class Target(Struct, frozen=True, rename="pascal"):
    """What every operation names."""

    service_namespace: Literal["sagemaker"]
    resource_id: str
    scalable_dimension: Literal[
        "sagemaker:variant:DesiredInstanceCount",
        "sagemaker:variant:DesiredProvisionedConcurrency",
    ]

    @property
    def key(self) -> tuple[str, str]:
        return self.resource_id, self.scalable_dimension

    def place(self) -> tuple[str, str]:
        """Endpoint and variant."""
        found = _RESOURCE.fullmatch(self.resource_id)
        if found is None:
            raise invalid(f"ResourceId {self.resource_id!r}: give endpoint/NAME/variant/NAME.")
        return found[1], found[2]


def not_found(what: str) -> ApiError:
    """400: there is no such target, policy or action."""
    return ApiError(400, "ObjectNotFoundException", f"{what}.")


def scaling_arn(kind: str, name: str) -> str:
    """The Amazon resource name, as the service spells it."""
    return f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:{kind}/{name}"
