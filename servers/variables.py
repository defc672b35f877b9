"""What a real-time target says to its model servers, as variables of their environment."""

import socket
from dataclasses import dataclass

from bench.deployment import OpenInference
from bench.target import Realtime


@dataclass(frozen=True)
class Ports:
    """Where an endpoint's model servers speak the Open Inference Protocol, all on the same two."""

    model: str
    host: str
    http: int
    grpc: int

    def describe(self) -> dict[str, str]:
        """The addresses, for whoever wants to call them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return {
            "model": self.model,
            "http": f"http://{host}:{self.http}",
            "grpc": f"{host}:{self.grpc}",
        }

    def variables(self) -> dict[str, str]:
        return {
            "WEIGHBRIDGE_MODEL_NAME": self.model,
            "WEIGHBRIDGE_OIP_HOST": self.host,
            "WEIGHBRIDGE_OIP_PORT": str(self.http),
            "WEIGHBRIDGE_GRPC_PORT": str(self.grpc),
        }


def settings_variables(target: Realtime) -> dict[str, str]:
    """The target's settings that its model servers follow."""
    return {
        "WEIGHBRIDGE_DEVICE": target.device,
        "WEIGHBRIDGE_MAX_BATCH": str(target.max_batch),
        "WEIGHBRIDGE_MAX_DELAY_US": str(round(target.max_delay_s * 1e6)),
        "WEIGHBRIDGE_MAX_WAITING": str(target.max_waiting),
    }


def ports_for(wanted: OpenInference | None, target: Realtime, host: str) -> Ports | None:
    """The ports wished for, or free ones where these are taken; None where they have no place.

    The kernel deals connections out among the servers that share a port, so the protocol has no
    place where these differ: in variants and shadows.
    """
    if wanted is None or target.variants or target.shadow is not None:
        return None
    http = _free(host, wanted.http_port, 0)
    return Ports(wanted.model, host, http, _free(host, wanted.grpc_port, http))


def _free(host: str, port: int, other: int) -> int:
    """``port``, if nobody listens there; else one that is free, and not ``other``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family) as probe:
            try:
                if port == other != 0:
                    raise OSError
                probe.bind((host, port))
                found: int = probe.getsockname()[1]
            except OSError:
                if port == 0:
                    raise
                port = 0
                continue
        if found != other:
            return found
