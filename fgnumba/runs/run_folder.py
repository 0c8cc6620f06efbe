"""Run folders: config.toml, metrics.jsonl, model.safetensors, loss.png; while a run trains, its checkpoints.

A run that has ended has a model.safetensors, the last that is written of what makes a run; one that has not can be
resumed. The figure comes after it, and may be missing.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fgnumba.errors import ConfigError, DtypeError, RunError, ShapeError, shown
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.layers.parameters import shapes_of
from fgnumba.runs import figures
from fgnumba.runs.configuration import RunConfig, read_toml
from fgnumba.runs.presets import model_from
from fgnumba.storage.durable import MAX_NAME, AppendLog, make_folder, replace, sync_folder
from fgnumba.storage.safetensors import MAX_RANK, read_tensors
from fgnumba.training.checkpoints import FOLDER as CHECKPOINTS
from fgnumba.training.checkpoints import LOCK, METRICS, MODEL
from fgnumba.training.metrics import line_of, read_records
from fgnumba.training.records import Record
from fgnumba.validation import whole_number
from fgnumba.validation.paths import path_of, quoted, shortened

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph
    from fgnumba.training.trainer import Trainer

T = TypeVar("T")

CONFIG, FIGURE = "config.toml", "loss.png"
DATA = "data_sha256"
"""In the ``[run]`` table: the digest of the data that the run trained on."""
RESTORED = "restored_step"
"""In the ``[run]`` table: the step whose parameters the run left, where they are not those of its last."""


def check_destination(path: Path) -> None:
    """Raise RunError unless `path` is free: absent, or an empty folder."""
    path = path_of(path, "out")
    if path.is_dir():
        if any(path.iterdir()):
            what = "holds another run" if (path / CONFIG).exists() else "is not empty"
            raise RunError(f"out: {path} {what}; a new or empty folder is required")
        # The finished folder takes the place of this one, which neither of these allows.
        if path.samefile(os.curdir) or path.is_mount():
            raise RunError(f"out: {path} is the current folder or a mount point; name a folder in it")
    elif path.exists() or path.is_symlink():
        raise RunError(f"out: {path} is a file; a new or empty folder is required")
    check_writable(path, path.parents)


def check_writable(path: Path, folders: Iterable[Path]) -> None:
    """Raise RunError unless `path` can be made in the nearest of these folders that is there."""
    nearest = next((folder for folder in folders if folder.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise RunError(f"out: {nearest} is a file; {path} cannot be below it")
    if nearest is not None and not os.access(nearest, os.W_OK):
        raise RunError(f"out: {nearest} is not writable")


def next_free(base: Path, name: str) -> Path:
    """Return ``base/name-N`` with the first number that is free."""
    number = 1
    while (base / f"{name}-{number}").exists():
        number += 1
    return base / f"{name}-{number}"


def begin(path: Path, config: RunConfig, run: Mapping[str, Any], numbered: bool = False) -> Path:
    """Make the folder of a run that is about to train: with its config.toml, or not at all.

    Returns where it is.

    Parameters
    ----------
    config : with ``layers``, so that the run can be rebuilt from the folder alone.
    run : facts of the run for the ``[run]`` table of config.toml, input shape and classes among them.
    numbered : the name ends in a number, which is counted up where it is taken meanwhile.

    Raises
    ------
    RunError
        The folder cannot be written, or is taken; nothing is left behind.
    """
    path = path_of(path, "out")
    # A link to an empty folder stays one.
    path = path.resolve() if path.is_symlink() else path
    temporary = None
    created = missing_parents(path)
    try:
        make_folder(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{shortened(path.name, MAX_NAME)}-", dir=path.parent))
        replace(temporary / CONFIG, config.to_toml(run).encode())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        found = _rename(temporary, path, numbered)
        sync_folder(found.parent)
        return found
    except OSError as error:
        raise RunError(f"out: {path} cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            discard(temporary)
        remove_empty(created)


def remember(folder: Path, config: RunConfig, run: Mapping[str, Any]) -> None:
    """Write what a run that continues was told anew, where that can be done: it continues in any case."""
    with contextlib.suppress(OSError):
        replace(folder / CONFIG, config.to_toml(run).encode())


def finish(
    folder: Path,
    config: RunConfig,
    model: "Graph",
    records: Sequence[Record],
    run: Mapping[str, Any],
    logs: Sequence[AppendLog] = (),
    warn: Callable[[str], None] = lambda line: None,
) -> None:
    """Write what a run leaves when it has ended; its checkpoints go when all of it is on the disk.

    Parameters
    ----------
    logs : of the run, still open: a disk that was full may have room for their ends by now.
    warn : told in a line where the figure, which a run does not need, is left out.

    Raises
    ------
    RunError
        The folder cannot be written: the run is in another one, which the message names.
    """
    try:
        for log in logs:
            log.sync()
        _write_end(folder, config, model, records, run)
    except OSError as error:
        reason = f"out: {folder} cannot be written: {error.strerror or error}"
        for place in (Path(), Path(tempfile.gettempdir())):
            found = _write_elsewhere(place, folder.name, config, model, records, run, logs, warn)
            if found is not None:
                raise RunError(f"{reason}; the run that has ended is in {found.resolve()}") from None
        again = f"fgtrain train --resume {quoted(folder)}"
        raise RunError(f"{reason}; make room and continue: {again}") from None
    complete(folder, warn)


def complete(folder: Path, warn: Callable[[str], None]) -> None:
    """Remove what only the training of a run needed that has ended; draw its figure, where there is none.

    Both as far as that can be done: the run is whole without. The figure is last: who interrupts it leaves no rest.
    """
    discard(folder / CHECKPOINTS)
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
    if not (folder / FIGURE).exists():
        figures.leave(folder / FIGURE, lambda: figures.of_records(read_records(folder / METRICS)), warn)


def _write_end(
    folder: Path, config: RunConfig, model: "Graph", records: Sequence[Record], run: Mapping[str, Any]
) -> None:
    from safetensors.numpy import save

    replace(folder / METRICS, "".join(map(line_of, records)).encode())
    replace(folder / CONFIG, config.to_toml(run).encode())
    # The last of what makes a run: a folder with a model is that of one that has ended.
    replace(folder / MODEL, save(model.parameters()))


def _write_elsewhere(
    place: Path,
    name: str,
    config: RunConfig,
    model: "Graph",
    records: Sequence[Record],
    run: Mapping[str, Any],
    logs: Sequence[AppendLog],
    warn: Callable[[str], None],
) -> Path | None:
    """Write a run that has ended into a new folder in `place`; None where that cannot be done either."""
    try:
        folder = begin(next_free(place, name), config, run, numbered=True)
    except RunError:
        return None
    try:
        for log in logs:
            log.copy_to(folder / log.path.name)
        _write_end(folder, config, model, records, run)
    except OSError:
        discard(folder)
        return None
    complete(folder, warn)
    return folder


def missing_parents(path: Path) -> list[Path]:
    """Return the folders above `path` that are not there, the innermost first."""
    return [parent for parent in path.parents if not parent.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders in which nothing stands."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def discard(folder: Path) -> None:
    """Remove a folder, as far as that can be done."""
    shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path, path: Path, numbered: bool) -> Path:
    base = re.sub(r"-\d+$", "", path.name)
    while True:
        try:
            if path.is_dir():
                path.rmdir()
            return folder.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not numbered:
                raise
        path = next_free(path.parent, base)


@dataclass(frozen=True)
class Run:
    """A run read back.

    Parameters
    ----------
    config : its configuration.
    model : with its trained parameters.
    records : of its history.
    data_sha256 : digest of the data that it trained on; None where it was not written down.
    """

    config: RunConfig
    model: "Graph"
    records: list[Record]
    data_sha256: str | None = None


def read(path: Path, device: str = "auto") -> Run:
    """Return the run in the folder `path`.

    Raises
    ------
    RunError
        `path` is no run folder, or one of its files is missing or damaged.
    DeviceError
    """
    path = path_of(path, "run")
    if (path / CHECKPOINTS).is_dir() and not (path / MODEL).exists():
        raise RunError(f"{path} has not ended; continue: fgtrain train --resume {quoted(path)}")
    _check_files(path, (CONFIG, METRICS, MODEL))
    config, facts, shape, classes = _damage(path / CONFIG, lambda: _read_config(path / CONFIG))

    def trained(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        return _damage(path / MODEL, lambda: read_tensors(path / MODEL, shapes))

    model = _damage(
        path / CONFIG,
        lambda: model_from(config.layers or (), classes, CONFIG, shape, config.seed, device, trained),
    )
    records = _damage(path / METRICS, lambda: read_records(path / METRICS))
    return Run(config, model, records, facts.get(DATA))


def read_unfinished(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return the configuration of the run in the folder `path`, and the facts in its ``[run]`` table.

    Raises
    ------
    RunError
        `path` is no run folder, or its config.toml is damaged.
    """
    path = path_of(path, "run")
    _check_files(path, (CONFIG,))
    config, facts, *_ = _damage(path / CONFIG, lambda: _read_config(path / CONFIG))
    return config, facts


def left_step(path: Path, logged: int) -> int:
    """Return the step whose parameters the run in the folder `path` left, of so many that its log has.

    Raises
    ------
    RunError
        `path` is no run folder, or its config.toml is damaged.
    """
    _, facts = read_unfinished(path)
    step = _damage(path / CONFIG, lambda: whole_number(RESTORED, facts.get(RESTORED, logged), 0))
    # A log that was torn before it leads as far as it goes.
    return min(step, logged)


def read_start(path: Path) -> tuple[RunConfig, "Trainer"]:
    """Return the configuration of the run in the folder `path`, and its trainer as it was before the first step.

    The run need not have ended.

    Raises
    ------
    RunError
        `path` is no run folder, or its config.toml is damaged.
    DeviceError
        The run's device is not there.
    """
    from fgnumba.runs.assembly import trainer

    path = path_of(path, "run")
    _check_files(path, (CONFIG,))

    def start() -> "tuple[RunConfig, Trainer]":
        config, _, shape, classes = _read_config(path / CONFIG)
        layers = config.layers or ()
        model = model_from(layers, classes, CONFIG, shape, config.seed, config.device)
        return config, trainer(config, model)

    return _damage(path / CONFIG, start)


def read_parameters(path: Path, model: "Graph") -> dict[str, Any] | None:
    """Return the trained parameters in the run folder `path`, None where there are none yet.

    Raises
    ------
    RunError
        They are damaged, or not those of `model`.
    """
    path = path_of(path, "run")
    if not (path / MODEL).exists():
        return None
    return _damage(path / MODEL, lambda: read_tensors(path / MODEL, shapes_of(model.packed_parameters)))


def _check_files(path: Path, names: Iterable[str]) -> None:
    if not path.is_dir():
        raise RunError(
            f"{path}: {'not a folder' if path.exists() else 'no such folder'}; a run folder is required"
        )
    for name in names:
        if not (path / name).is_file():
            raise RunError(f"{path} is not a run folder: {name} is missing")


def _read_config(path: Path) -> tuple[RunConfig, dict[str, Any], tuple[int, ...], int]:
    """Return the configuration, the facts of the run, of which the shape of an example and the number of classes."""
    config = RunConfig.from_toml(path)
    facts = read_toml(path, "config").get("run", {})
    if not isinstance(facts, dict):
        raise ValueError(f"run is {shown(facts)}; a table is required")
    for name in ("input_shape", "classes"):
        if name not in facts:
            raise ValueError(f"[run] has no {name}")
    shape = facts["input_shape"]
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK:
        raise ValueError(
            f"input_shape is {shown(shape)}; a list of 1 to {MAX_RANK} whole numbers is required"
        )
    sizes = tuple(whole_number("input_shape", size) for size in shape)
    return config, facts, sizes, whole_number("classes", facts["classes"], 1, MAX_COLUMNS)


def _damage(path: Path, read: Callable[[], T]) -> T:
    """Return what `read` does, any of its complaints turned into one that names the file."""
    try:
        return read()
    except (ConfigError, ShapeError, DtypeError, OSError, ValueError, TypeError, KeyError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"{path} is damaged: {message.removeprefix(f'{path}: ')}") from None
