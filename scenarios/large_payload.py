"""Bodies around the limits. ``locust -f scenarios/large_payload.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class LargePayload(OpenLoopUser):
    """Sends the workload of ``large_payload.toml``, or the plan it was started with."""

    scenario = "large_payload"
