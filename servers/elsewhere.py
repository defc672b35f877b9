"""Servers that are not ours, behind no front of ours: the load goes to them directly.

Such an endpoint finds out how its server is to be called, and tells it when it is open.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from bench.errors import ConfigError
from servers.endpoint import Invocation, Served
from servers.wire import ApiError, content_too_long, unavailable

TIMEOUT_S = 10.0
MAX_BYTES = 10**6
_MODEL = re.compile(r"(?P<base>.*)/v2/models/(?P<model>[^/]+)(/versions/[^/]+)?(/infer)?/?")


@dataclass(frozen=True)
class Contact:
    """How a server is called: the URL that takes requests, and in which protocol."""

    url: str
    protocol: str
    """``sagemaker``: bodies as they are; ``open-inference``: as the tensors in ``inputs``."""
    inputs: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {"url": self.url, "protocol": self.protocol, "inputs": self.inputs}


class Elsewhere:
    """An endpoint whose requests do not pass through here."""

    payload_max_bytes = 2**40

    def __init__(self, name: str, address: str, model: str = "") -> None:
        self.name = name
        self.contact: Contact | None = None
        self._address = address
        self._model = model

    async def open(self) -> None:
        """Find out how the server is called; ConfigError when it does not answer."""
        self.contact = await contact_of(self._address, self._model)

    async def invoke(self, _: Invocation) -> Served:
        """Refused: a detour through here would be measured with the server."""
        where = self.contact.url if self.contact else self._address
        raise unavailable(f"{self.name} is called at {where}, not here.")

    async def close(self) -> None:
        """Nothing of ours runs there."""

    def oversize(self, _: str) -> ApiError:
        return content_too_long(self.payload_max_bytes)

    def status(self) -> dict[str, int]:
        return {"instances": 1, "in_flight": 0, "backlog": 0}


async def contact_of(address: str, model: str = "") -> Contact:
    """How the server at ``address`` is called; ConfigError names what it does not answer.

    A path that ends in ``/invocations`` is taken as it is, a model's under ``/v2/models`` too; any
    other address is that of a server, which is asked for its protocol.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--target-url {address!r}: give an address like http://127.0.0.1:8000/v2/models/NAME "
            "or http://127.0.0.1:8080/invocations."
        )
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        asker = _Asker(session, address)
        if parts.path.endswith("/invocations"):
            await asker.reach(address.removesuffix("invocations") + "ping")
            return Contact(address, "sagemaker")
        if found := _MODEL.fullmatch(address):
            return await asker.open_inference(found["base"], found["model"])
        base = address.rstrip("/")
        if await asker.ask("GET", f"{base}/v2") is not None:
            return await asker.open_inference(base, model or await asker.only_model(base))
        if await asker.reach(f"{base}/ping") == 200:
            return Contact(f"{base}/invocations", "sagemaker")
    raise ConfigError(
        f"{address} answers neither /v2 nor /ping. Name the path that takes the requests: one that "
        "ends in /invocations, or /v2/models/NAME."
    )


@dataclass(frozen=True)
class _Asker:
    session: aiohttp.ClientSession
    address: str

    async def reach(self, url: str) -> int:
        """The status of any answer at all."""
        try:
            async with self.session.get(url) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def ask(self, method: str, url: str) -> Any:
        """The JSON there; None when the answer is none of that."""
        try:
            async with self.session.request(method, url) as answer:
                if answer.status != 200:
                    return None
                content = await answer.content.read(MAX_BYTES)
                while len(content) < MAX_BYTES and (more := await answer.content.read(MAX_BYTES)):
                    content += more
                return json.loads(content)
        except ValueError:
            return None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def open_inference(self, base: str, model: str) -> Contact:
        metadata = await self.ask("GET", f"{base}/v2/models/{model}")
        if not isinstance(metadata, dict) or not metadata.get("inputs"):
            raise ConfigError(
                f"{base} does not say which inputs the model {model!r} takes. Name a model that it "
                "serves, or an address that ends in /invocations."
            )
        return Contact(f"{base}/v2/models/{model}/infer", "open-inference", metadata["inputs"])

    async def only_model(self, base: str) -> str:
        index = await self.ask("POST", f"{base}/v2/repository/index")
        found = [str(each.get("name")) for each in index] if isinstance(index, list) else []
        if len(found) != 1:
            listed = f"it lists {', '.join(found)}" if found else "it lists none"
            raise ConfigError(
                f"{base} must be told which model to ask: {listed}. Give "
                f"{base}/v2/models/NAME, or --set url.model=NAME."
            )
        return quote(found[0], safe="")

    def _unreachable(self, error: Exception) -> ConfigError:
        reason = str(error) or type(error).__name__
        return ConfigError(f"{self.address} cannot be reached: {reason}. Is the server running?")


async def healthy(url: str, process: asyncio.subprocess.Process) -> bool:
    """Poll ``url`` until it answers 200; false when the process has ended before."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        while process.returncode is None:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.05)
    return False
