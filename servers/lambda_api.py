"""AWS Lambda's Invoke on the wire, for functions that are served here."""

import json

from servers.endpoint import Endpoint
from servers.serverless import ServerlessEndpoint
from servers.wire import Answer, ApiError

VERSION = "2015-03-31"
"""The first part of the path: the version of the API."""


def function_named(name: str, endpoints: dict[str, Endpoint]) -> Endpoint:
    """The function called ``name``, or by its ARN; ResourceNotFoundException when there is none."""
    short = name.split(":function:")[-1].split(":")[0]
    endpoint = endpoints.get(short)
    if not (isinstance(endpoint, ServerlessEndpoint) and endpoint.is_lambda):
        raise ApiError(404, "ResourceNotFoundException", f"Function not found: {name}")
    return endpoint


def function_error(error: ApiError) -> Answer:
    """What the caller gets when the function failed: status 200, and a header that says so."""
    if error.code != "ModelError":
        raise error
    timed_out = str(error.fields["OriginalMessage"]).startswith("Your invocation timed out")
    body = {
        "errorType": "Sandbox.Timedout" if timed_out else "Runtime.UserCodeError",
        "errorMessage": error.fields["OriginalMessage"],
    }
    headers = {"content-type": "application/json", "x-amz-function-error": "Unhandled"}
    return Answer(200, json.dumps(body).encode(), headers)
