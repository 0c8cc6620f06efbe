"""Run folders: what a training run writes. ``fgnumba.runs.saved_run`` reads it back.

    config.toml          all settings of the run, and facts such as the input shape in a ``[run]`` table
    table.json           what was done to each column, if the data are a table
    text.json            the alphabet, if the data are a text
    metrics.jsonl        a record (losses, accuracies) on each line
    model.safetensors    the trained parameters
    state.safetensors    the checkpoint of the last step, with which the run can be trained further
    losses.f64           the training loss of each step
    loss.png             a figure of the losses and the records
    checkpoints/         only while the run trains, or after an interruption

``model.safetensors`` is written last, so that a folder with this file is that of a run that has ended. A run without it
can be resumed. Only the state is put into place and the figure drawn later, and both may be missing.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.errors import RunError
from fgnumba.runs import figures
from fgnumba.runs.configuration import CONFIG, RunConfig
from fgnumba.runs.loggers import copy_logs
from fgnumba.storage.durable import MAX_NAME, AppendLog, make_folder, replace, sync_folder
from fgnumba.training.checkpoints import FOLDER as CHECKPOINTS
from fgnumba.training.checkpoints import LOCK, METRICS, MODEL, Checkpoints
from fgnumba.training.metrics import line_of
from fgnumba.training.records import Record
from fgnumba.validation.paths import path_of, quoted, shortened

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph

RULES, ALPHABET = "table.json", "text.json"
STATE, FIGURE = "state.safetensors", "loss.png"
DATA = "data_sha256"
"""Key in the ``[run]`` table: the SHA-256 of the data that the run trained on."""
LABELS = "labels"
"""Key in the ``[run]`` table: what each class is called in the data, if not 0, 1, …."""
DIVISOR = "divisor"
"""Key in the ``[run]`` table: what the bytes of an ``.npz`` file were divided by, if its features are bytes."""
RESTORED = "restored_step"
"""Key in the ``[run]`` table: the step whose parameters the run kept, if that is not its last step."""
DIVERGED = "diverged_at_step"
"""Key in the ``[run]`` table: the step at which the run diverged and ended."""


def check_destination(path: Path) -> None:
    """Raise RunError unless a run folder can be created at a path.

    Parameters
    ----------
    path : Path
        A path at which nothing exists, or an empty folder.
    """
    path = path_of(path, "out")
    if path.is_dir():
        if any(path.iterdir()):
            problem = "holds another run" if (path / CONFIG).exists() else "is not empty"
            raise RunError(f"out: {path} {problem}; a new or empty folder is required")
        # The new folder is renamed to this path, which the system allows for neither of these.
        if path.samefile(os.curdir) or path.is_mount():
            raise RunError(f"out: {path} is the current folder or a mount point; name a folder in it")
    elif path.exists() or path.is_symlink():
        raise RunError(f"out: {path} is a file; a new or empty folder is required")
    check_writable(path, path.parents)


def check_writable(path: Path, folders: Iterable[Path]) -> None:
    """Raise RunError unless a folder can be created.

    Parameters
    ----------
    path : Path
        The folder to create.
    folders : iterable of Path
        The folders above it, innermost first. The first one that exists must be a writable folder.
    """
    nearest = next((folder for folder in folders if folder.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise RunError(f"out: {nearest} is a file; {path} cannot be below it")
    if nearest is not None and not os.access(nearest, os.W_OK):
        raise RunError(f"out: {nearest} is not writable")


def next_free(base: Path, name: str) -> Path:
    """Return ``base/name-N`` with the smallest number N from 1 at which nothing exists.

    Parameters
    ----------
    base : Path
        Folder of the run folders, such as ``runs``.
    name : str
        Name without the number, such as ``digits-mlp``.
    """
    number = 1
    while (base / f"{name}-{number}").exists():
        number += 1
    return base / f"{name}-{number}"


def begin(path: Path, config: RunConfig, run: Mapping[str, Any], numbered: bool = False) -> Path:
    """Create the folder of a run that is about to train, complete with its config.toml, or not at all.

    Parameters
    ----------
    path : Path
        The folder, at which nothing or an empty folder exists.
    config : RunConfig
        The configuration with ``layers``, so that the run can be rebuilt from the folder alone.
    run : mapping
        Facts of the run for the ``[run]`` table of config.toml; ``input_shape`` and ``classes`` are required.
    numbered : bool
        Whether the name ends in a number that may be increased, because another process has created a folder of that
        name in the meantime. Default: False.

    Returns
    -------
    Path
        The folder that was created.

    Raises
    ------
    RunError
        The folder cannot be written, or another run has taken it. Nothing is left behind.
    """
    path = path_of(path, "out")
    # A link to an empty folder stays a link.
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
        folder = _rename(temporary, path, numbered)
        sync_folder(folder.parent)
        return folder
    except OSError as error:
        raise RunError(f"out: {path} cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            discard(temporary)
        remove_empty(created)


def remember(folder: Path, config: RunConfig, run: Mapping[str, Any]) -> None:
    """Write the settings and facts with which a run is resumed; a failure is ignored, since the run can go on.

    Parameters
    ----------
    folder : Path
        The run folder.
    config : RunConfig
        The configuration, with a new path of the data set if the user gave one.
    run : mapping
        The facts, with a new interval or number of checkpoints if the user gave one.
    """
    with contextlib.suppress(OSError):
        replace(folder / CONFIG, config.to_toml(run).encode())


def write_beside(path: Path, text: str) -> None:
    """Write a file that belongs to a run, whole or not at all, such as the rules of its table.

    Parameters
    ----------
    path : Path
        The file in the run folder.
    text : str
        Its content.

    Raises
    ------
    RunError
        The file cannot be written.
    """
    try:
        replace(path, text.encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None


def finish(
    folder: Path,
    config: RunConfig,
    model: "Graph",
    records: Sequence[Record],
    run: Mapping[str, Any],
    logs: Sequence[AppendLog] = (),
    warn: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the files of a run that has ended, and remove its checkpoints once all files are on the disk.

    Parameters
    ----------
    folder : Path
        The run folder.
    config : RunConfig
        All settings of the run.
    model : Graph
        The model with its trained parameters.
    records : sequence of Record
        The run's records.
    run : mapping
        Facts of the run for the ``[run]`` table of config.toml.
    logs : sequence of AppendLog
        The run's logs, still open: their last lines may not have been written while the disk was full. Default: none.
    warn : callable
        Called with a line of text where the figure, which a run does not need, is left out. Default: ignores it.

    Raises
    ------
    RunError
        The folder cannot be written. The message names another folder, into which the run was written instead, or says
        how to continue.
    """
    try:
        for log in logs:
            log.sync()
        _write_end(folder, config, model, records, run)
    except OSError as error:
        reason = f"out: {folder} cannot be written: {error.strerror or error}"
        for place in (Path(), Path(tempfile.gettempdir())):
            other = _write_elsewhere(place, folder, config, model, records, run, logs, warn)
            if other is not None:
                raise RunError(f"{reason}; the run that has ended is in {other.resolve()}") from None
        again = f"fgtrain train --resume {quoted(folder)}"
        raise RunError(f"{reason}; make room and continue: {again}") from None
    complete(folder, warn, further=DIVERGED not in run)


def complete(folder: Path, warn: Callable[[str], None], further: bool = True) -> None:
    """Keep the newest checkpoint of a run that has ended as its state, and remove the others and the lock.

    The figure is drawn if it is missing. Failures are ignored, because the run is complete without any of it. The
    figure comes last, so that an interrupt while it is drawn leaves no checkpoints behind.

    Parameters
    ----------
    folder : Path
        The run folder.
    warn : callable
        Called with a line of text where the figure is left out.
    further : bool
        Whether the run can be trained further, which one that diverged cannot. Default: True.
    """
    if further:
        _keep_state(folder)
    discard(folder / CHECKPOINTS)
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
    if not (folder / FIGURE).exists():
        figures.leave(folder / FIGURE, lambda: figures.of_run(folder), warn)


def _keep_state(folder: Path) -> None:
    """Rename the newest checkpoint, which takes no room on the disk; a state that is there already is kept."""
    with contextlib.suppress(OSError):
        found = Checkpoints(folder).found()
        if found and not (folder / STATE).exists():
            found[0].rename(folder / STATE)
            sync_folder(folder)


def _write_end(
    folder: Path, config: RunConfig, model: "Graph", records: Sequence[Record], run: Mapping[str, Any]
) -> None:
    from safetensors.numpy import save

    replace(folder / METRICS, "".join(map(line_of, records)).encode())
    replace(folder / CONFIG, config.to_toml(run).encode())
    # The model is written last: a folder with a model is that of a run that has ended.
    replace(folder / MODEL, save(model.parameters()))


def _write_elsewhere(
    place: Path,
    source: Path,
    config: RunConfig,
    model: "Graph",
    records: Sequence[Record],
    run: Mapping[str, Any],
    logs: Sequence[AppendLog],
    warn: Callable[[str], None],
) -> Path | None:
    """Write a run that has ended into a new folder in `place`, and return it, or None where that fails as well."""
    try:
        folder = begin(next_free(place, source.name), config, run, numbered=True)
    except RunError:
        return None
    try:
        for name in (RULES, ALPHABET):
            if (source / name).exists():
                replace(folder / name, (source / name).read_bytes())
        for log in logs:
            log.copy_to(folder / log.path.name)
        _write_end(folder, config, model, records, run)
    except OSError:
        discard(folder)
        return None
    copy_logs(run.get("logger", ()), source, folder, warn)
    complete(folder, warn)
    return folder


def missing_parents(path: Path) -> list[Path]:
    """Return the folders above a path that do not exist, innermost first.

    Parameters
    ----------
    path : Path
        Any path.
    """
    return [parent for parent in path.parents if not parent.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of some folders that are empty.

    Parameters
    ----------
    folders : sequence of Path
        The folders, innermost first.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def discard(folder: Path) -> None:
    """Remove a folder and everything in it, and ignore failures.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    """
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
