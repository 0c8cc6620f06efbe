"""Help texts in sections: the options of a command under headings, in lines that a terminal of 80 columns holds."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

FIRST_COLUMN = 22
"""Width in columns of the options; the help of a longer one begins on the next line."""


SECTIONS = {
    "Model": ("model", "widths"),
    "Data": ("data", "data_dir", "target", "drop", "symbols", "context", "augment", "validation"),
    "Training": (
        "epochs",
        "steps",
        "batch_size",
        "loss",
        "patience",
        "restore_best",
        "stop_above",
        "seed",
        "device",
        "precision",
        "tangent_precision",
        "config",
    ),
    "Gradient estimator": ("estimator", "direction", "directions", "telemetry"),
    "Optimiser": (
        *(
            "optimizer",
            "learning_rate",
            "decay",
            "schedule",
            "warmup",
            "momentum",
            "nesterov",
            "weight_decay",
            "clip_norm",
        ),
        "radius",
    ),
    "Run folder": ("out", "resume", "trust_code", "checkpoint_every", "keep", "compact"),
    "Output": ("quiet", "as_json", "loggers", "help"),
}
"""The options of ``fgtrain train`` by heading. Commands that share some of them show these under the same headings."""


class Formatter(click.HelpFormatter):
    """Formats help texts; a name with hyphens, such as ``--no-restore-best``, is never broken."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = FIRST_COLUMN, col_spacing: int = 2
    ) -> None:
        """Write terms with their explanations beside them in a second column.

        Parameters
        ----------
        rows : iterable of tuple of str
            Each term and its explanation.
        col_max : int
            Largest width of the first column; the explanation of a longer term begins on the next line.
        col_spacing : int
            Number of columns between the two.
        """
        rows = list(rows)
        first = min(max(len(term) for term, _ in rows), col_max) + col_spacing
        width = max(self.width - self.current_indent - first, 10)
        for term, explanation in rows:
            # A default is not torn from its word: a no-break space is no place to break a line.
            whole = explanation.replace("[default: ", "[default:\xa0")
            lines = [
                line.replace("\xa0", " ") for line in textwrap.wrap(whole, width, break_on_hyphens=False)
            ]
            beside = f"{term:{first}}{lines.pop(0)}" if lines and len(term) <= first - col_spacing else term
            for line in (beside, *(" " * first + line for line in lines)):
                self.write(" " * self.current_indent + line.rstrip() + "\n")


class Context(click.Context):
    """The context of a command, whose help is formatted by `Formatter`."""

    formatter_class = Formatter


class Sectioned(click.Command):
    """A command whose help lists its options under headings.

    Parameters
    ----------
    sections : mapping of str to sequence of str, optional
        The names of the options' parameters by heading, in the order in which they are shown. What no section names
        comes last, below "Other options". None (the default): all stand below "Options".
    *arguments, **settings
        As ``click.Command`` takes them.
    """

    context_class = Context

    def __init__(
        self, *arguments: Any, sections: Mapping[str, Sequence[str]] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into `formatter`, section by section."""
        help_option = self.get_help_option(ctx)
        records = {
            "help" if parameter is help_option else parameter.name: record
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        named = {name for names in self.sections.values() for name in names}
        rest = {"Other options" if named else "Options": [name for name in records if name not in named]}
        for heading, names in {**self.sections, **rest}.items():
            # An option that two sections name stands in the first of them.
            rows = [records.pop(name) for name in names if name in records]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
