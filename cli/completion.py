"""Completion of names in the shell: what each option and argument offers when the user presses the tab key.

A shell runs ``fgtrain`` again at each press, so that neither NumPy nor Numba may be imported here. The names are
therefore written out; a test compares them with those that the library knows.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

MODELS = ("logreg", "mlp", "cnn", "resnet", "vgg", "char-lstm", "char-transformer")
DATA = ("digits", "mnist", "fashion-mnist", "kmnist", "emnist-letters", "cifar-10")
ESTIMATORS = (
    *("feedback", "local-feedback", "local", "fdfa", "activity", "activity-layerwise"),
    *("activity-feedback", "activity-layerwise-feedback", "weight-perturbation", "orthogonal", "projected"),
    *("control-variate", "subspace-gauss-newton", "spsa", "coordinates", "hybrid", "rtrl", "block-feedback"),
    *("relayed-feedback", "local-noise-feedback"),
)
SYMBOLS = ("characters", "bytes")
AUGMENTATIONS = ("flip", "crop", "none")
SCHEDULES = ("exponential", "cosine", "cosine-to-zero")
LOSSES = ("cross-entropy", "mse", "huber", "bce")
DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian")
OPTIMIZERS = ("sgd", "adam", "adamw", "frank-wolfe", "auto")
DEVICES = ("auto", "cpu", "cuda")
OF_ANY_DEVICE = ("auto", "float32", "tf32", "bf16x3", "bf16x2", "bf16")
"""The precisions of products that some device has."""
LOGGERS = ("csv", "mlflow", "tensorboard", "wandb")
NETWORKS = ("logreg", "mlp", "cnn")
PRECISIONS = ("auto", "float32", "bf16x3", "bf16x2", "bf16")
EXPERIMENTS = (
    *("figure1", "beale", "rosenbrock", "logreg", "mlp", "cnn", "depth", "memory", "local-losses"),
    "fair-map",
)
REVERSE_MODE = "reverse-mode"
"""The name of backpropagation among the estimators of ``fgtrain compare``."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(known: Sequence[str], or_file: bool = False, group: str | None = None) -> Complete:
    """Return the completion of an option that takes a name.

    Parameters
    ----------
    known : sequence of str
        The names.
    or_file : bool
        Whether the path of a file or folder may stand in place of a name. Default: False.
    group : str, optional
        The group of entry points in which installed packages have more names. None (the default): there is none.
    """

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        offered = [*known, *_of_packages(group)]
        fitting = [CompletionItem(name) for name in offered if name.startswith(begun)]
        # Bash forgets what comes before an item of type "file", and offers files only where no name fits.
        return [*_files(begun), *fitting] if or_file else fitting

    return complete


def listed(known: Sequence[str]) -> Complete:
    """Return the completion of an option that takes names with commas between them: it completes the last one.

    Parameters
    ----------
    known : sequence of str
        The names. One that is in the list already is not offered again.
    """

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        before, comma, last = begun.rpartition(",")
        given = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in known
            if name.startswith(last) and name not in given
        ]

    return complete


def runs(begun: str) -> list[CompletionItem]:
    """Return the run folders whose path begins with a text: folders that have a config.toml.

    Parameters
    ----------
    begun : str
        What the user has typed. Where no run folder fits, the shell offers folders.

    Returns
    -------
    list of CompletionItem
        Those in the folder that `begun` names; where it names none, those in ``runs/`` and in the current folder.
    """
    folder = os.path.dirname(begun)
    paths = _runs_in(folder) if folder else [*_runs_in("runs"), *_runs_in("")]
    # As in `names`: an item of type "dir" comes first.
    return [
        CompletionItem(begun, type="dir"),
        *(CompletionItem(path) for path in paths if path.startswith(begun)),
    ]


def _runs_in(folder: str) -> list[str]:
    try:
        found = [name for name in os.listdir(folder or ".") if Path(folder, name, "config.toml").is_file()]
    except OSError:
        return []
    return sorted(os.path.join(folder, name) for name in found)


def _of_packages(group: str | None) -> list[str]:
    """Return the names that installed packages have in a group of entry points; none of them is imported."""
    if group is None:
        return []
    from fgnumba.objects.code import installed

    return [name for name in installed(group) if ":" not in name]


def _files(begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]


def folders(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the completion of an option that takes a folder: the shell offers folders."""
    return [CompletionItem(begun, type="dir")]
