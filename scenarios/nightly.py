"""A burst each night. ``locust -f scenarios/nightly.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class Nightly(OpenLoopUser):
    """Sends the workload of ``nightly.toml``, or the plan it was started with."""

    scenario = "nightly"
