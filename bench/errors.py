"""Exit codes, and the errors that lead to them."""

PASSED = 0
FAILED = 1
USAGE = 2
INCONCLUSIVE = 3
INVALID = 4
INTERRUPTED = 130


class WeighbridgeError(Exception):
    """An error whose text is meant for the user: it names the value and the remedy."""

    exit_code = USAGE


class ConfigError(WeighbridgeError):
    """The command, a file or the machine does not allow what was asked for."""

    exit_code = USAGE


class MeasurementError(WeighbridgeError):
    """The measurement could not be carried out, so there are no numbers to judge."""

    exit_code = INVALID
