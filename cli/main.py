"""The ``fgtrain`` command: its subcommands, and how it reports their errors.

Every error that a user can cause is reported as one line on standard error, with exit status 2. A subcommand imports
the library only when it runs, so that help texts appear immediately.
"""

import signal
import sys
from importlib import import_module
from typing import Any

import click

from fgnumba import __version__
from fgnumba.cli.message import finish, prepare, say, show_warnings
from fgnumba.cli.options import examples
from fgnumba.cli.sections import Context
from fgnumba.cli.signals import Ended, Interrupt
from fgnumba.errors import FgError, RunError, did_you_mean, printable

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "sample",
    "export",
    "runs",
    "show",
    "replay",
    "info",
    "search",
    "compare",
    "bench",
    "reproduce",
)


class Commands(click.Group):
    """The subcommands. Each is defined in the module of its name, which is imported when the subcommand is called."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands, in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the subcommand called `cmd_name`; report an unknown name together with the most similar one."""
        if cmd_name not in COMMANDS:
            ctx.fail(f"unknown command {cmd_name!r}{did_you_mean(cmd_name, COMMANDS)}")
        command: click.Command = getattr(import_module(f"fgnumba.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand, and report an interrupt or a broken pipe, which click would report in its own way."""
        try:
            # Signals are handled from the start, because a command's imports and input files take a while.
            with Interrupt():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Ended) else signal.SIGINT
            hint = f"; {error}" if str(error) else ""
            say(f"fgtrain: ended by {signal.Signals(number).name}{hint}")
            ctx.exit(128 + number)
        except BrokenPipeError as error:
            # This pipe is not standard output: `show` handles the case that the reader of that has ended.
            raise RunError(f"a process that fgtrain writes to has ended: {error.strerror}") from None


_EPILOG = examples(
    "fgtrain train                       # train on handwritten digits",
    "fgtrain evaluate runs/digits-mlp-1  # evaluate the trained model",
    "fgtrain train --help                # options and examples of a command",
)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="fgtrain")
@click.pass_context
def fgtrain(context: click.Context) -> None:
    """Train neural networks with forward gradients, which need no reverse pass (no backpropagation)."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run ``fgtrain`` and exit with its status: the entry point of the command.

    Parameters
    ----------
    arguments : list of str, optional
        Arguments of the command line after the program's name. None (the default) takes those of the process.
    """
    prepare()
    show_warnings()
    try:
        status = _status(arguments)
    finally:
        finish()
    sys.exit(status)


def _status(arguments: list[str] | None) -> int:
    """Run a command and return its exit status; report an error as one line."""
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
