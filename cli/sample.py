"""``fgtrain sample``: text from a model that was trained on text, symbol by symbol."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import click

from fgnumba.cli.message import write
from fgnumba.cli.options import RUN, examples, shared
from fgnumba.cli.sections import Sectioned


@click.command(
    cls=Sectioned,
    epilog=examples(
        'fgtrain sample runs/book-char-lstm-1 --prompt "Once upon" --length 500',
        "fgtrain sample runs/book-char-lstm-1 --temperature 0.7 --seed 3",
        "fgtrain sample runs/book-char-lstm-1 --temperature 0 --length 80",
    ),
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--prompt",
    default="",
    metavar="TEXT",
    help="Text that the model reads first and then continues. A model of windows, such as a transformer, reads its "
    "last symbols alone, as many as the run's context.  [default: a line break that is not printed]",
)
@click.option(
    "--length",
    type=int,
    default=500,
    metavar="N",
    help="Number of symbols to print after the prompt: characters, or bytes where the run's symbols are bytes.  "
    "[default: 500]",
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    metavar="T",
    help="Temperature of the draws: below 1 for likelier text, above 1 for more surprising text, 0 for the most "
    "probable symbol each time.  [default: 1]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="Seed of the draws; the same seed gives the same text.  [default: 0]",
)
@shared("trust_code")
def sample(run: Path, prompt: str, length: int, temperature: float, seed: int) -> None:
    """Print text that continues a prompt, as the model in RUN predicts it.

    RUN is the folder of a run on a text that has ended. Each symbol is drawn from the model's probabilities, printed at
    once, and read by the model, which then predicts the next. A model of windows predicts it from the last symbols, as
    many as the run's context. Ctrl-C ends the text.
    """
    from fgnumba.cli.signals import Interrupt
    from fgnumba.errors import RunError
    from fgnumba.runs import saved_run
    from fgnumba.runs.sampling import opening, sampled
    from fgnumba.runs.texts import in_alphabet, read_alphabet

    trained = saved_run.read(run)
    alphabet = read_alphabet(run, trained.config, trained.model.outputs)
    if alphabet is None:
        raise RunError(f"{run} was not trained on a text; fgtrain predict applies its model")
    begun = in_alphabet("prompt", prompt, alphabet)
    symbols = sampled(trained.model, begun or opening(alphabet), length, temperature, seed)
    shown = _shown()
    with Interrupt() as interrupt:
        write(shown(prompt))
        decode = alphabet.decoder()
        try:
            for symbol in symbols:
                write(shown(decode(symbol)))
                interrupt.check()
        finally:
            # The shell's next prompt stands on a line of its own; a file or a pipe gets the text alone.
            write(_end())


def _is_terminal() -> bool:
    with contextlib.suppress(OSError, ValueError):
        return sys.stdout.isatty()
    return False


def _end() -> str:
    return "\n" if _is_terminal() else ""


def _shown() -> Callable[[str], str]:
    """Return what makes text harmless to a terminal, which obeys characters such as escape; a pipe gets them all."""
    if not _is_terminal():
        return lambda text: text
    return harmless


def harmless(text: str) -> str:
    """Return a text whose control characters, but for tabs and line breaks, are written as escapes.

    Parameters
    ----------
    text : str
        The text.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t\r" or ord(character) > 0x9F
        else repr(character)[1:-1]
        for character in text
    )
