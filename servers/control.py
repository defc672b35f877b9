"""The control API: JSON 1.1, one table of operations, to which each option adds its own."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from servers.api_document import Document, QueryError, document_of
from servers.wire import Answer, ApiError

MAX_BODY_BYTES = 1 << 20
JSON_1_1 = "application/x-amz-json-1.1"

Operation = Callable[[Document], Awaitable[Document]]
Operations = Mapping[str, Operation]
"""By target, such as ``SageMaker.DescribeEndpoint``."""

log = logging.getLogger(__name__)


class Control:
    """Answers every operation that one of its tables has."""

    def __init__(self, *tables: Operations) -> None:
        self._operations = {target: each for table in tables for target, each in table.items()}

    async def answer(self, target: str, body: bytes | None) -> Answer:
        """The answer to one call, errors in the API's own form; ``body`` None: it was too long."""
        try:
            operation = self._operations.get(target)
            if operation is None:
                listed = ", ".join(sorted(self._operations))
                message = f"{target!r} is not known here. There are: {listed}."
                raise ApiError(400, "UnknownOperationException", message)
            if body is None:
                message = f"The body is longer than {MAX_BODY_BYTES} bytes."
                raise ApiError(413, "RequestEntityTooLarge", message)
            return _answer(200, await operation(document_of(body)))
        except QueryError as error:
            refused = _answer(error.status, {"__type": error.code, "message": error.message})
            refused.headers["x-amzn-query-error"] = f"{error.query_code};Sender"
            return refused
        except ApiError as error:
            # The runtime's own code is spelt otherwise here.
            code = "ValidationException" if error.code == "ValidationError" else error.code
            return _answer(error.status, {"__type": code, "Message": error.message})
        except Exception:  # the API's answer to a fault of ours is InternalFailure
            log.exception("%s failed", target)
            internal = {"__type": "InternalFailure", "Message": "An internal failure occurred."}
            return _answer(500, internal)


def _answer(status: int, body: Document) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"content-type": JSON_1_1})
