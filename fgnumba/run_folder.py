"""Run folders: config.toml, metrics.jsonl, model.safetensors, loss.png; complete or absent."""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fgnumba.callbacks import History, Record
from fgnumba.configuration import RunConfig, read_toml
from fgnumba.errors import ConfigError, DtypeError, RunError, ShapeError
from fgnumba.presets import model_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fgnumba.graph import Graph

T = TypeVar("T")

CONFIG, METRICS, MODEL, FIGURE = "config.toml", "metrics.jsonl", "model.safetensors", "loss.png"


def check_destination(path: Path) -> None:
    """Raise RunError unless `path` is free: absent, or an empty folder."""
    if path.is_dir():
        if any(path.iterdir()):
            what = "holds another run" if (path / CONFIG).exists() else "is not empty"
            raise RunError(f"out: {path} {what}; a new or empty folder is required")
        # The finished folder takes the place of this one, which neither of these allows.
        if path.samefile(os.curdir) or path.is_mount():
            raise RunError(f"out: {path} is the current folder or a mount point; name a folder in it")
    elif path.exists() or path.is_symlink():
        raise RunError(f"out: {path} is a file; a new or empty folder is required")
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise RunError(f"out: {parent} is a file; {path} cannot be below it")
            if not os.access(parent, os.W_OK):
                raise RunError(f"out: {parent} is not writable")
            break


def next_free(base: Path, name: str) -> Path:
    """Return ``base/name-N`` with the first number that is free."""
    number = 1
    while (base / f"{name}-{number}").exists():
        number += 1
    return base / f"{name}-{number}"


def write(
    path: Path,
    config: RunConfig,
    model: "Graph",
    history: History,
    run: Mapping[str, Any] | None = None,
    numbered: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a run folder at `path`, whole: into a temporary folder beside it, which is then renamed.

    Returns where it is: a run that finds `path` taken meanwhile is not lost, but takes the next free number.

    Parameters
    ----------
    config : with ``layers``, so that the run can be rebuilt from the folder alone.
    run : facts of the run for the ``[run]`` table of config.toml, beside input shape and classes.
    numbered : the name ends in a number, which may be counted up.
    files : more files, by name.

    Raises
    ------
    RunError
        The folder cannot be written; nothing is left behind.
    """
    from safetensors.numpy import save

    facts = {"input_shape": list(model.input_shape), "classes": model.outputs, **(run or {})}
    # A link to an empty folder stays one.
    path = path.resolve() if path.is_symlink() else path
    temporary = None
    created = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        (temporary / CONFIG).write_text(config.to_toml(facts), encoding="utf-8")
        lines = [json_object(asdict(record)) + "\n" for record in history.records]
        (temporary / METRICS).write_text("".join(lines), encoding="utf-8")
        # save_file would write a file that the owner alone can read.
        (temporary / MODEL).write_bytes(save(model.parameters()))
        draw(history).savefig(temporary / FIGURE, dpi=150)
        for name, content in (files or {}).items():
            (temporary / name).write_bytes(content)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        return _rename(temporary, path, numbered)
    except OSError as error:
        raise RunError(f"out: {path} cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in created:
            # Goes where nothing has come to stand in it.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _rename(folder: Path, path: Path, numbered: bool) -> Path:
    base = re.sub(r"-\d+$", "", path.name) if numbered else path.name
    while True:
        try:
            if path.is_dir():
                path.rmdir()
            return folder.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        path = next_free(path.parent, base)


def json_object(values: Mapping[str, Any]) -> str:
    """Return one line of JSON, which has no NaN and no infinity: they become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False)


def draw(history: History) -> "Figure":
    """Return the figure of a run: losses and test accuracy over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    steps = [record.step for record in history.records]
    axis.plot(steps, [record.loss for record in history.records], label="training loss", color="#c1440e")
    axis.plot(
        steps, [record.test_loss for record in history.records], label="test loss", color="#c1440e", ls="--"
    )
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    right = axis.twinx()
    right.plot(steps, [record.test_accuracy for record in history.records], color="#33658a")
    right.set_ylabel("test accuracy", color="#33658a")
    right.set_ylim(0, 1)
    axis.legend(loc="center right", frameon=False)
    return figure


@dataclass(frozen=True)
class Run:
    """A run read back.

    Parameters
    ----------
    config : its configuration.
    model : with its trained parameters.
    records : of its history.
    """

    config: RunConfig
    model: "Graph"
    records: list[Record]


def read(path: Path, device: str = "auto") -> Run:
    """Return the run in the folder `path`.

    Raises
    ------
    RunError
        `path` is no run folder, or one of its files is missing or damaged.
    DeviceError
    """
    if not path.is_dir():
        raise RunError(
            f"{path}: {'not a folder' if path.exists() else 'no such folder'}; a run folder is required"
        )
    for name in (CONFIG, METRICS, MODEL):
        if not (path / name).is_file():
            raise RunError(f"{path} is not a run folder: {name} is missing")
    config, facts = _damage(path / CONFIG, lambda: _read_config(path / CONFIG))
    shape, classes = facts
    model = _damage(
        path / CONFIG,
        lambda: model_from(config.layers or (), classes, CONFIG, shape, config.seed, device),
    )
    _damage(path / MODEL, lambda: model.load_parameters(_load(path / MODEL)))
    records = _damage(path / METRICS, lambda: _read_records(path / METRICS))
    return Run(config, model, records)


def _read_config(path: Path) -> tuple[RunConfig, tuple[tuple[int, ...], int]]:
    config = RunConfig.from_toml(path)
    facts = read_toml(path, "config").get("run", {})
    for name in ("input_shape", "classes"):
        if name not in facts:
            raise ValueError(f"[run] has no {name}")
    return config, (tuple(facts["input_shape"]), int(facts["classes"]))


def _load(path: Path) -> dict[str, Any]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    return arrays


def _read_records(path: Path) -> list[Record]:
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _damage(path: Path, read: Callable[[], T]) -> T:
    """Return what `read` does, any of its complaints turned into one that names the file."""
    try:
        return read()
    except (ConfigError, ShapeError, DtypeError, OSError, ValueError, TypeError, KeyError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"{path} is damaged: {message.removeprefix(f'{path}: ')}") from None
