"""Requests at a rate that a search changes from load to load; see capacity.toml."""

from scenarios.engine import OpenLoopUser


class Capacity(OpenLoopUser):
    """Sends one rate of the search; under plain ``locust -f`` the first."""

    scenario = "capacity"
