"""Silence and short bursts. ``locust -f scenarios/intermittent.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class Intermittent(OpenLoopUser):
    """Sends the workload of ``intermittent.toml``, or the plan it was started with."""

    scenario = "intermittent"
