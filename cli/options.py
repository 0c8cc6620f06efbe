"""Options that several commands have, each written once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pathlib import Path

F = TypeVar("F", bound=Callable[..., Any])


class Widths(click.ParamType):
    """Whole numbers with commas between."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers like 1024,1024", param, ctx)


class PathName(click.ParamType):
    """The name of a file or folder, which may begin with ``~``.

    Parameters
    ----------
    empty : what is wrong with an empty one, for messages.
    """

    name = "path"

    def __init__(self, empty: str) -> None:
        self._empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Path":
        """Return the path."""
        from fgnumba.validation.paths import path_of

        assert param is not None
        label = param.opts[0] if isinstance(param, click.Option) else str(param.metavar)
        if value == "":
            raise click.UsageError(f"{label}{self._empty}")
        return path_of(value, label)


FILE, FOLDER, RUN = (
    PathName(f" is empty; a {what} is required") for what in ("file", "folder", "run folder")
)
FILE_IN_A_FOLDER = PathName(": '' is in no folder that exists")

_SHARED: dict[str, Callable[[F], F]] = {
    "model": click.option(
        "--model",
        metavar="NAME|FILE.toml",
        help="logreg, mlp, cnn, resnet, or a file with [[layers]].  [default: mlp]",
    ),
    "widths": click.option("--widths", type=Widths(), help="Hidden layers of mlp.  [default: 1024,1024]"),
    "data": click.option(
        "--data",
        metavar="NAME|FILE",
        help="digits, mnist, fashion-mnist, an .npz file or IDX folder.  [default: digits]",
    ),
    "data_dir": click.option(
        "--data-dir", metavar="DIR", help="Folder of the IDX files of mnist or fashion-mnist."
    ),
    "direction": click.option(
        "--direction", metavar="NAME", help="rank1, orthogonal, rademacher or gaussian, of the weights."
    ),
    "directions": click.option(
        "--directions", type=int, metavar="T", help="Directions, or draws of noise, a step."
    ),
    "batch_size": click.option("--batch-size", type=int, metavar="N", help="[default: 64]"),
    "optimizer": click.option(
        "--optimizer", metavar="NAME", help="sgd, adam, adamw or frank-wolfe.  [default: the estimator's]"
    ),
    "learning_rate": click.option(
        "--learning-rate",
        type=float,
        metavar="X",
        help="At the first step.  [default: the estimator's, searched]",
    ),
    "decay": click.option(
        "--decay", type=float, metavar="X", help="k of rate × exp(-k step).  [default: 4 / steps]"
    ),
    "momentum": click.option("--momentum", type=float, metavar="X", help="Of sgd.  [default: 0]"),
    "nesterov": click.option(
        "--nesterov/--no-nesterov", default=None, help="Nesterov's momentum.  [default: the heavy ball]"
    ),
    "weight_decay": click.option(
        "--weight-decay", type=float, metavar="X", help="[default: 0; 0.01 for adamw]"
    ),
    "clip_norm": click.option(
        "--clip-norm", type=float, metavar="X", help="Greatest norm of a gradient.  [default: none]"
    ),
    "radius": click.option("--radius", type=float, metavar="X", help="Of frank-wolfe's ball."),
    "seed": click.option("--seed", type=int, metavar="N", help="[default: 0]"),
    "device": click.option(
        "--device", metavar="NAME", help="auto (a GPU where there is one), cpu or cuda.  [default: auto]"
    ),
    "config": click.option(
        "--config",
        type=FILE,
        metavar="FILE.toml",
        help="Settings, by the names of train's options; options win.",
    ),
}


def shared(*names: str) -> Callable[[F], F]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _SHARED[name](command)
        return command

    return decorate
