"""The command line: the group that holds the commands of `bench.commands`."""

import signal
from typing import Any

import click

import bench
from bench.commands.about import completion, doctor, list_settings, profile
from bench.commands.calibrate import calibrate
from bench.commands.compare import compare, index
from bench.commands.report import report
from bench.commands.run import run
from bench.commands.transform import transform
from bench.commands.up import up
from bench.errors import INTERRUPTED, WeighbridgeError


class Commands(click.Group):
    """Prints our own errors as one message, with the exit code that belongs to each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)  # as they are needed, not by the alphabet

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WeighbridgeError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bench.__version__, prog_name="weighbridge")
def cli() -> None:
    """Put real traffic on SageMaker's inference options, on this machine, and say which to deploy.

    \b
    Start with    weighbridge run intermittent
    and then      weighbridge run replay --trace FILE     your own traffic
                  weighbridge run capacity --modes realtime
                                                          how much it can take
                  weighbridge run intermittent --sweep memory_mb=1024,2048
                  weighbridge transform FILE --out FOLDER
                  weighbridge up                          for boto3 and curl
                  weighbridge settings                    what --set takes

    \b
    Exit codes    0  passed                1  no option meets the objective
                  2  wrong usage           4  the measurement is invalid
                  130  interrupted
    """


for _command in (
    run,
    report,
    compare,
    index,
    calibrate,
    transform,
    up,
    list_settings,
    profile,
    doctor,
    completion,
):
    cli.add_command(_command)


def main() -> None:
    """The command ``weighbridge``."""
    # A CI system that cancels a job sends SIGTERM: it ends like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="weighbridge")
