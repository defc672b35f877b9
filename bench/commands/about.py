"""Commands that only tell: settings, profile, doctor, completion."""

import click
from click.shell_completion import get_completion_class
from rich.table import Table

from bench.commands.common import plain_console
from bench.doctor import findings
from bench.settings import settings
from bench.target import TARGETS


@click.command("settings")
def list_settings() -> None:
    """List every key that --set takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for setting in settings():
        table.add_row(setting.key, setting.default, setting.meaning)
    plain_console().print(table)


@click.group()
def profile() -> None:
    """Limits and delays that an option follows."""


@profile.command("show")
@click.argument("mode", type=click.Choice(list(TARGETS)))
def show_profile(mode: str) -> None:
    """Print each value of MODE with what it rests on and its source."""
    from servers.profile import read_profile

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "value", "basis", "meaning", "source"):
        table.add_column(column, overflow="fold")
    for entry in read_profile(mode).ledger():
        value = f"{entry['value']} {entry['unit']}"
        cells = (entry["name"], value, entry["basis"], entry["meaning"], entry["source"])
        table.add_row(*cells)
    plain_console().print(table)


@click.command()
def doctor() -> None:
    """Tell what this machine can do."""
    console = plain_console()
    from servers.limits import Caps, find_limiter

    limits = find_limiter().describe(Caps(memory_mb=1024, vcpus=0.5))
    for name, text in limits.items():
        console.print(f"{'!!  ' if 'not ' in text else 'ok  '}{name:<13}of serverless: {text}")
    for finding in findings():
        mark = {True: "ok  ", False: "!!  ", None: "    "}[finding.good]
        console.print(f"{mark}{finding.name:<13}{finding.text}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    For example: eval "$(weighbridge completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None, "the choices are those that click knows"
    click.echo(
        found(context.find_root().command, {}, "weighbridge", "_WEIGHBRIDGE_COMPLETE").source()
    )
