"""The ``fgtrain`` command: its subcommands, and how their errors are shown.

Every error that a user can cause is one line on standard error and exit status 2. Subcommands import the library when
they run, so that help is there at once.
"""

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from fgnumba import __version__
from fgnumba.cli.message import say
from fgnumba.errors import FgError, did_you_mean

COMMANDS = ("train", "evaluate", "predict", "replay", "info", "search", "compare", "bench", "reproduce")


class Commands(click.Group):
    """Subcommands, each in a module of its name that is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or fail with the nearest name."""
        if cmd_name not in COMMANDS:
            ctx.fail(f"unknown command {cmd_name!r}{did_you_mean(cmd_name, COMMANDS)}")
        command: click.Command = getattr(import_module(f"fgnumba.cli.{cmd_name}"), cmd_name)
        return command


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="fgtrain")
@click.pass_context
def fgtrain(context: click.Context) -> None:
    """Train neural networks with forward gradients: no reverse pass."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run ``fgtrain``; the entry point."""
    try:
        status = fgtrain.main(args=arguments, prog_name="fgtrain", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message())
    except FgError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the pipe has gone; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")
    except MemoryError as error:
        _fail(f"not enough memory: {error}" if str(error) else "not enough memory")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    say(f"fgtrain: error: {' '.join(message.split())}")
    sys.exit(2)
