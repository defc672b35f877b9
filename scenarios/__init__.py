"""Locust files, one a scenario, that also run under plain ``locust -f``, and their data."""
