"""The command line, the nouns, the clock, the run folder and the orchestration of Weighbridge."""

__version__ = "0.1.0"
