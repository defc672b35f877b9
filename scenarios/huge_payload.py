"""Bodies up to a gigabyte. ``locust -f scenarios/huge_payload.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class HugePayload(OpenLoopUser):
    """Sends the workload of ``huge_payload.toml``, or the plan it was started with."""

    scenario = "huge_payload"
