"""Options that several commands share, each defined once, and the examples below a command's help."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from fgnumba.cli import completion

if TYPE_CHECKING:
    from pathlib import Path

F = TypeVar("F", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Return the text that a command's help ends with: commands to copy, each on a line of its own.

    Parameters
    ----------
    lines : str
        One command each, with a comment after ``#`` where the command does not explain itself.

    Returns
    -------
    str
        The ``epilog`` of a click command. Its first line, a backspace, tells click to keep the line breaks.
    """
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


class Widths(click.ParamType):
    """Whole numbers separated by commas, such as ``1024,1024``."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers, or report on one line that `value` is no such list."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers like 1024,1024", param, ctx)


class Columns(click.ParamType):
    """Names of columns, separated by commas."""

    name = "COLUMN,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[str, ...]:
        """Return the name, or the names where there are several."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(part.strip() for part in value.split(","))
        return names[0] if len(names) == 1 else names


def joined(
    ctx: click.Context, param: click.Parameter, values: tuple[str | tuple[str, ...], ...]
) -> str | tuple[str, ...] | None:
    """Return the columns of all options of a name; None if it was not given.

    Parameters
    ----------
    ctx, param : click.Context, click.Parameter
        As click passes them.
    values : tuple
        What :class:`Columns` made of each.
    """
    names = tuple(name for value in values for name in ((value,) if isinstance(value, str) else value))
    return (names[0] if len(names) == 1 else names) if names else None


class PathName(click.ParamType):
    """The path of a file or folder. It may begin with ``~``, which stands for the home folder.

    Parameters
    ----------
    empty : str
        The message about an empty path. It follows the option's name, such as ``--out``, immediately.
    offered : str
        What the shell offers to complete it: ``file`` (the default), ``dir``, or ``run``, the run folders.
    """

    name = "path"

    def __init__(self, empty: str, offered: str = "file") -> None:
        self._empty, self._offered = empty, offered

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what the shell offers for a path that begins with `incomplete`."""
        if self._offered == "run":
            return completion.runs(incomplete)
        return [CompletionItem(incomplete, type=self._offered)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Path":
        """Return the path, with ``~`` expanded; report an empty or impossible one on one line."""
        from fgnumba.validation.paths import path_of

        assert param is not None
        label = param.opts[0] if isinstance(param, click.Option) else str(param.metavar)
        if value == "":
            raise click.UsageError(f"{label}{self._empty}")
        return path_of(value, label)


def trusted(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    """Allow code of these names to be imported until the command ends."""
    if names:
        from fgnumba.objects.code import trusting

        context.with_resource(trusting(names))


def trust_named(name: str | None) -> None:
    """Allow code to be imported that an option beside a run folder names, until the command ends; None: no option."""
    from fgnumba.objects.code import is_code, trusting

    if is_code(name):
        click.get_current_context().with_resource(trusting([str(name)]))


def trust_the_user() -> None:
    """Allow all code to be imported that the settings name, until the command ends.

    A command calls this after it has read its settings: what the user names is trusted, in options and in files of
    settings and layers. What a run folder's config.toml names was refused before, unless ``--trust-code`` names it.
    """
    from fgnumba.objects.code import EVERYTHING, trusting

    click.get_current_context().with_resource(trusting([EVERYTHING]))


FILE, FOLDER, RUN = (
    PathName(f" is empty; a {kind} is required", offered)
    for kind, offered in (("file", "file"), ("folder", "dir"), ("run folder", "run"))
)
FILE_IN_A_FOLDER = PathName(": '' is in no folder that exists")

_SHARED: dict[str, Callable[[F], F]] = {
    "model": click.option(
        "--model",
        shell_complete=completion.names(completion.MODELS, or_file=True),
        metavar="NAME|FILE.toml",
        help="Model to use: logreg, mlp, cnn, resnet, vgg (for colour images), char-lstm or char-transformer (for a "
        "text), or a TOML file that describes one with [[layers]].  [default: mlp; char-lstm for a text]",
    ),
    "widths": click.option(
        "--widths",
        type=Widths(),
        help="Number of units in each hidden layer of mlp, for instance 256,128 for two layers, or in each "
        "layer of char-lstm, or in each block of char-transformer, all of one width; of filters in each convolution of "
        "vgg.  [default: 1024,1024; 64 for a table; 64,128,256 for vgg; 512 for char-lstm; 128,128,128,128 for "
        "char-transformer]",
    ),
    "data": click.option(
        "--data",
        shell_complete=completion.names(completion.DATA, or_file=True, group="fgnumba.datasets"),
        metavar="NAME|FILE",
        help="Data set: digits (included), mnist, fashion-mnist, kmnist, emnist-letters, cifar-10, an .npz file, a "
        "folder of IDX files, a text (.txt; any UTF-8 file with --symbols or --context), or, with --target, a table "
        "(.csv, .parquet).  [default: digits]",
    ),
    "data_dir": click.option(
        "--data-dir",
        shell_complete=completion.folders,
        metavar="DIR",
        help="Folder that holds the files of mnist, fashion-mnist, kmnist, emnist-letters or cifar-10.  [default: "
        "they are downloaded once and kept in the user's cache]",
    ),
    "target": click.option(
        "--target",
        type=Columns(),
        multiple=True,
        callback=joined,
        help="Column of a table that is to be predicted; several of numbers with commas between, or by several "
        "options.  [default: the data are no table]",
    ),
    "drop": click.option(
        "--drop",
        type=Columns(),
        multiple=True,
        callback=joined,
        help="Column of a table that the model shall not read, such as a row's number; several with commas between, or "
        "by several options.  [default: none]",
    ),
    "symbols": click.option(
        "--symbols",
        shell_complete=completion.names(completion.SYMBOLS),
        metavar="NAME",
        help="What is predicted of a text: characters or bytes.  [default: characters]",
    ),
    "context": click.option(
        "--context",
        type=int,
        metavar="L",
        help="Number of symbols of a text that a step takes from each of its streams, or of which each of its windows "
        "consists; there are as many as --batch-size says.  [default: 64]",
    ),
    "loss": click.option(
        "--loss",
        shell_complete=completion.names(completion.LOSSES, group="fgnumba.losses"),
        metavar="NAME",
        help="Loss: cross-entropy (classes), mse or huber (regression), bce (several labels of an example), or "
        "package.module:name, a function of one example's outputs and target; it also decides what the target of a "
        "table is taken for.  [default: the one that the targets call for]",
    ),
    "estimator": click.option(
        "--estimator",
        shell_complete=completion.names(completion.ESTIMATORS, group="fgnumba.estimators"),
        metavar="NAME",
        help="Gradient estimator: feedback, local-feedback, relayed-feedback, activity, weight-perturbation, ...; "
        "`fgtrain info` lists all of them.  [default: local-feedback for mlp, cnn, resnet and vgg; feedback for a "
        "table, real targets and models of your own; rtrl for texts, or block-feedback for those that a transformer "
        "reads in windows]",
    ),
    "direction": click.option(
        "--direction",
        shell_complete=completion.names(completion.DIRECTIONS),
        metavar="NAME",
        help="Distribution of the random directions of weight perturbation: rank1, orthogonal, rademacher or "
        "gaussian.  [default: the estimator's]",
    ),
    "directions": click.option(
        "--directions",
        type=int,
        metavar="T",
        help="Number of random directions (for activity perturbation: of noise draws) in each step.  "
        "[default: the estimator's]",
    ),
    "augment": click.option(
        "--augment",
        shell_complete=completion.names(completion.AUGMENTATIONS),
        metavar="NAME,...",
        help="How the images of each batch are changed at random, one after the other: flip (left to right with "
        "probability 0.5; flip:P with P), crop (moved by up to 4 pixels; crop:N by N); or none.  "
        "[default: none; flip,crop:4 for vgg on colour images]",
    ),
    "batch_size": click.option(
        "--batch-size",
        type=int,
        metavar="N",
        help="Number of training examples in each step, of a text streams or windows.  [default: 64; 32 for vgg; "
        "32 streams or 12 windows of a text]",
    ),
    "optimizer": click.option(
        "--optimizer",
        shell_complete=completion.names(completion.OPTIMIZERS),
        metavar="NAME",
        help="Optimizer: sgd, adam, adamw or frank-wolfe; or auto, the estimator's with a learning rate that is "
        "measured in the run, so that none is given or searched.  [default: the estimator's]",
    ),
    "learning_rate": click.option(
        "--learning-rate",
        type=float,
        metavar="X",
        help="Learning rate of the first step.  [default: the rate that a search found for the estimator]",
    ),
    "decay": click.option(
        "--decay",
        type=float,
        metavar="K",
        help="Decay of the learning rate: step i, counted from 0, uses learning rate × exp(-K i); 0 keeps it "
        "constant.  [default: 4 / steps]",
    ),
    "schedule": click.option(
        "--schedule",
        shell_complete=completion.names(completion.SCHEDULES),
        metavar="NAME",
        help="How the learning rate falls: exponential, as --decay says; or along half a cosine in 4 / K steps: "
        "cosine, to a tenth, or cosine-to-zero.  [default: exponential; cosine for a text; cosine-to-zero for vgg]",
    ),
    "warmup": click.option(
        "--warmup",
        type=int,
        metavar="N",
        help="Number of steps over which the learning rate rises: step i, counted from 0, uses (i + 1) / N of it, up "
        "to all of it.  [default: 0; for a text that the model reads in windows 100, or a tenth of the steps if these "
        "are fewer]",
    ),
    "momentum": click.option(
        "--momentum",
        type=float,
        metavar="X",
        help="Momentum of sgd, from 0 (none) to below 1.  [default: the estimator's, 0 for most]",
    ),
    "nesterov": click.option(
        "--nesterov/--no-nesterov",
        default=None,
        help="Use Nesterov's momentum in place of classical (heavy-ball) momentum.  [default: --no-nesterov]",
    ),
    "weight_decay": click.option(
        "--weight-decay",
        type=float,
        metavar="X",
        help="Weight decay coefficient of the optimizer.  [default: 0; 0.01 for adamw]",
    ),
    "clip_norm": click.option(
        "--clip-norm",
        type=float,
        metavar="X",
        help="Largest Euclidean norm of a gradient; a longer gradient is scaled down to it.  "
        "[default: no limit]",
    ),
    "radius": click.option(
        "--radius",
        type=float,
        metavar="X",
        help="Radius of the ball in which frank-wolfe keeps the parameters; frank-wolfe requires it.",
    ),
    "seed": click.option(
        "--seed",
        type=int,
        metavar="N",
        help="Seed of everything random; the same seed gives the same result.  [default: 0]",
    ),
    "device": click.option(
        "--device",
        shell_complete=completion.names(completion.DEVICES),
        metavar="NAME",
        help="Where the model runs: cpu, cuda (an NVIDIA GPU), or auto, which takes the GPU if there is one.  "
        "[default: auto]",
    ),
    "precision": click.option(
        "--precision",
        shell_complete=completion.names(completion.OF_ANY_DEVICE),
        metavar="NAME",
        help="Number format of the factors of matrix products, which are summed in float32. On the CPU: float32, "
        "bf16x3, bf16x2, bf16, or auto, the fastest that is as exact as float32. On a GPU: float32 (which is also its "
        "auto), tf32 or bf16.  [default: auto]",
    ),
    "tangent_precision": click.option(
        "--tangent-precision",
        shell_complete=completion.names(completion.OF_ANY_DEVICE),
        metavar="NAME",
        help="The same for the products of tangents alone.  [default: that of --precision]",
    ),
    "jobs": click.option(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="Number of runs at the same time, each in a process of its own with its share of the threads. But "
        "for times, the result is the same for any number. More than 1 needs `pip install 'fgnumba[jobs]'`.  "
        "[default: 1]",
    ),
    "trust_code": click.option(
        "--trust-code",
        "trust_code",
        multiple=True,
        metavar="MODULE:NAME",
        callback=trusted,
        expose_value=False,
        help="Name of code that a run folder may import and run, such as mypackage.layers:swish; may be given several "
        "times. A run folder may come from anybody, so that what it names is otherwise refused.  [default: none]",
    ),
    "config": click.option(
        "--config",
        type=FILE,
        metavar="FILE.toml",
        help="TOML file of settings. Its keys are the options of `fgtrain train` with underscores, such as "
        "batch_size = 32. An option on the command line overrides the file.",
    ),
}


def shared(*names: str) -> Callable[[F], F]:
    """Return a decorator that gives a command the named shared options, in this order.

    Parameters
    ----------
    names : str
        Keys of the table of shared options, such as ``"batch_size"``.
    """

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _SHARED[name](command)
        return command

    return decorate
