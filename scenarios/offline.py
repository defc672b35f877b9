"""A dataset, all of it due at once. ``locust -f scenarios/offline.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class Offline(OpenLoopUser):
    """Sends the workload of ``offline.toml``, or the plan it was started with."""

    scenario = "offline"
