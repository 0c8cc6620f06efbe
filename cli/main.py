"""The ``fgtrain`` command: its subcommands, and how their errors are shown.

Every error that a user can cause is one line on standard error and exit status 2. Subcommands import the library when
they run, so that help is there at once.
"""

import signal
import sys
from importlib import import_module
from typing import Any

import click

from fgnumba import __version__
from fgnumba.cli.message import finish, prepare, say
from fgnumba.cli.signals import Ended, Interrupt
from fgnumba.errors import FgError, RunError, did_you_mean, printable

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

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what click would answer by itself, or print, is answered here."""
        try:
            # From the start: what a command imports and reads takes a while.
            with Interrupt():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Ended) else signal.SIGINT
            hint = f"; {error}" if str(error) else ""
            say(f"fgtrain: ended by {signal.Signals(number).name}{hint}")
            ctx.exit(128 + number)
        except BrokenPipeError as error:
            # Of another pipe than standard output, whose reader may go.
            raise RunError(f"a process that was talked to has gone: {error.strerror}") from None


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
    prepare()
    try:
        status = _status(arguments)
    finally:
        finish()
    sys.exit(status)


def _status(arguments: list[str] | None) -> int:
    """Run a command and return its exit status; its error is one line."""
    try:
        status = fgtrain.main(args=arguments, prog_name="fgtrain", standalone_mode=False)
    except click.ClickException as error:
        return _failed(error.format_message())
    except FgError as error:
        return _failed(str(error))
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _failed(f"{place}{error.strerror or error}")
    except MemoryError as error:
        return _failed(f"not enough memory: {error}" if str(error) else "not enough memory")
    return status if isinstance(status, int) else 0


def _failed(message: str) -> int:
    say(f"fgtrain: error: {printable(message)}")
    return 2
