"""Steady independent callers. ``locust -f scenarios/sustained.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class Sustained(OpenLoopUser):
    """Sends the workload of ``sustained.toml``, or the plan it was started with."""

    scenario = "sustained"
