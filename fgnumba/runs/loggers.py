"""Loggers of a run by name, with their files in the run folder."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, printable, shown
from fgnumba.training.loggers.base import Logger, require
from fgnumba.training.loggers.csv_file import CSVLogger
from fgnumba.training.loggers.mlflow import MLflow
from fgnumba.training.loggers.tensorboard import TensorBoard
from fgnumba.training.loggers.wandb import WeightsAndBiases

LOGGERS: dict[str, Callable[[Path, Callable[[str], None]], Logger]] = {
    "csv": lambda folder, warn: CSVLogger(folder / "log.csv", warn=warn),
    "tensorboard": lambda folder, warn: TensorBoard(folder / "tensorboard", warn=warn),
    "mlflow": lambda folder, warn: MLflow(folder / "mlruns", run_name=folder.name, warn=warn),
    "wandb": lambda folder, warn: WeightsAndBiases(folder=folder, warn=warn),
}
"""The loggers of ``fgtrain train --logger`` by name: functions of the run folder and of what prints a warning."""
FILES = {
    "csv": ("log.csv", "log.settings.json"),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlruns",),
    "wandb": ("wandb", ".*.step"),
}
"""What each of them leaves in the run folder: names, and patterns of names."""
_MODULES = {
    "tensorboard": ("tensorboardX",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}


def checked_names(names: Any) -> tuple[str, ...]:
    """Return the names of loggers, each once, after checking that they are known and their packages installed.

    Parameters
    ----------
    names : sequence of str
        The names, as a user or a run folder gives them.

    Raises
    ------
    ConfigError
        A name is unknown, or a package is missing.
    """
    if not isinstance(names, list | tuple):
        raise ConfigError(f"logger is {shown(names)}; a list of names is required")
    for name in names:
        if not isinstance(name, str) or name not in LOGGERS:
            raise ConfigError(f"logger: unknown logger {shown(name)}{did_you_mean(str(name), LOGGERS)}")
        for module in _MODULES.get(name, ()):
            require(module, name, f"logger {name}")
    return tuple(dict.fromkeys(names))


def loggers_of(names: Sequence[str], folder: Path, warn: Callable[[str], None]) -> list[Logger]:
    """Return the loggers of a run.

    Parameters
    ----------
    names : sequence of str
        Their names.
    folder : Path
        The run folder, into which they write.
    warn : callable
        Called with a line of text if one of them fails.
    """
    return [LOGGERS[name](folder, warn) for name in checked_names(names)]


def copy_logs(names: Sequence[str], source: Path, folder: Path, warn: Callable[[str], None]) -> None:
    """Copy what the loggers of a run have written into another folder; what cannot be copied is said in a line.

    Parameters
    ----------
    names : sequence of str
        Names of the loggers.
    source : Path
        The run folder.
    folder : Path
        The other folder.
    warn : callable
        Called with a line of text if something cannot be copied.
    """
    for found in [path for name in names for pattern in FILES[name] for path in sorted(source.glob(pattern))]:
        copy = folder / found.name
        try:
            if found.is_dir():
                shutil.copytree(found, copy, symlinks=True)
            else:
                shutil.copyfile(found, copy)
        except OSError as error:
            shutil.rmtree(copy, ignore_errors=True)
            copy.unlink(missing_ok=True)
            # A folder's error is a list of all files that failed.
            warn(printable(f"{found} is not copied to {folder}: {error.strerror or type(error).__name__}"))
