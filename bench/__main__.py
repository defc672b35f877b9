"""``python -m bench`` is the command ``weighbridge``."""

from bench.cli import main

main()
