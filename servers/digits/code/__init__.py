"""What the digits model's archive holds under ``code/``."""
