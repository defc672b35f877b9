"""Recorded traffic. ``locust -f scenarios/replay.py --headless --host URL``"""

from scenarios.engine import OpenLoopUser


class Replay(OpenLoopUser):
    """Sends the workload of ``replay.toml``, or the plan it was started with."""

    scenario = "replay"
