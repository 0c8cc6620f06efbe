"""Weights & Biases, and modules with the same functions."""

import inspect
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.storage.durable import make_folder, replace
from fgnumba.training.kept_states import checked
from fgnumba.training.loggers.base import Logger, require
from fgnumba.validation.paths import path_of

_MODES = ("online", "offline", "disabled")
_KEY, _MODE, _REPORTS = "WANDB_API_KEY", "WANDB_MODE", "WANDB_ERROR_REPORTING"


class WeightsAndBiases(Logger):
    """Logs a run to Weights & Biases, or to a module with the same functions, such as Trackio.

    Nothing is sent unless there is a key: without ``WANDB_API_KEY`` (or ``WANDB_MODE``) in the environment the mode is
    ``"offline"``, and ``wandb sync FOLDER/wandb/offline-run-*`` uploads the run later. Trackio keeps runs on this
    machine; ``TRACKIO_DIR`` names the folder.

    The run's name is kept in checkpoints, so that a run that is resumed goes on under the same name; the last step that
    was logged is kept in the folder, so that no step is logged twice. Offline, each part of a run has a folder of its
    own with the same number, which W&B joins.

    It needs wandb: ``pip install 'fgnumba[wandb]'``.

    Parameters
    ----------
    project : str
        Name of the project. Default: ``"fgnumba"``.
    folder : str or path
        The folder in which ``wandb/`` is made, created if it is missing. Default: the current folder.
    mode : str, optional
        ``"online"``, ``"offline"`` or ``"disabled"``. None (the default): ``"online"`` with a key, else ``"offline"``;
        or what ``WANDB_MODE`` says.
    module : str
        Name of the module: ``"wandb"`` (the default), ``"trackio"``, or another one with ``init`` and, of what it
        returns, ``log`` and ``finish``.
    warn : callable, optional
        Called with a line of text if the module fails; the run goes on without it. None (the default): issues a
        ``RuntimeWarning``.

    Attributes
    ----------
    run_name : str or None
        Name and number of the run, or None before it begins.

    Raises
    ------
    ConfigError
        A value is impossible, or the module is not installed.
    """

    def __init__(
        self,
        project: str = "fgnumba",
        folder: str | os.PathLike[str] = ".",
        mode: str | None = None,
        module: str = "wandb",
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(warn)
        for name, value in (("project", project), ("module", module)):
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{name} is {shown(value)}; a name is required")
        if mode is not None and (not isinstance(mode, str) or mode not in _MODES):
            raise ConfigError(f"mode is {shown(mode)}; {', '.join(_MODES)} or None is required")
        if module == "wandb":
            require(module, "wandb", "WeightsAndBiases")
        else:
            _installed(module)
        self.project, self.module, self.mode = project, module, mode
        self.folder = path_of(folder, "folder")
        self.run_name: str | None = None
        self._restored = False
        self._run: Any = None
        self._last = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_run": None, "_works": False}

    @property
    def statement(self) -> str:
        """The settings as one line of text, with which a checkpoint keeps the state."""
        return f"project {self.project}, module {self.module}"

    @property
    def state(self) -> dict[str, Any]:
        """The name of the run, in a form that JSON can hold."""
        return {"run_name": self.run_name}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        self.run_name = checked("the run's name", seen, {"run_name": (str, type(None))})["run_name"]
        self._restored = True

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Begin a run, or go on with the one in the checkpoint."""
        again = bool(done and self._restored and self.run_name)
        self._restored = False
        if not again:
            self.run_name = f"fgnumba-{secrets.token_hex(4)}"
        make_folder(self.folder)
        self._last = self._noted() if again else 0
        online = bool(os.environ.get(_KEY)) or self.module != "wandb"
        given = {
            "project": self.project,
            "name": self.run_name,
            "id": self.run_name,
            "config": dict(settings),
            "dir": str(self.folder),
            "resume": "allow" if again else "never",
            # Measurements of the machine are no figures of the run.
            **dict.fromkeys(("auto_log_cpu", "auto_log_gpu"), False),
        }
        if self.mode is not None or _MODE not in os.environ:
            given["mode"] = self.mode or ("online" if online else "offline")
        with _unreported():
            module = import_module(self.module)
            if self.module == "wandb":
                given["settings"] = module.Settings(silent=True, console="off")
            self._run = module.init(**_taken(module.init, given))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures, unless those of this step were logged before the run was resumed."""
        if step <= self._last and not any(name.startswith("test_") for name in values):
            return
        self._run.log(dict(values), step=step)
        replace(self._note, f"{step}\n".encode())

    def finish(self, ended_by: str) -> None:
        """End the run; its exit status is 1 if it failed or diverged."""
        if self._run is not None:
            run, self._run = self._run, None
            status = 1 if ended_by in ("error", "divergence") else 0
            run.finish(**_taken(run.finish, {"exit_code": status}))

    def release(self) -> None:
        """Forget the run, which the module ends when the process does."""
        self._run = None

    @property
    def _note(self) -> Path:
        """The file with the last step that was logged."""
        return self.folder / f".{self.run_name}.step"

    def _noted(self) -> int:
        try:
            return int(self._note.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0


def _taken(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments that a function takes: modules with W&B's functions lack some of W&B's arguments."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return given
    return {name: value for name, value in given.items() if name in {one.name for one in parameters}}


def _installed(module: str) -> None:
    try:
        found = find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ConfigError(f"WeightsAndBiases needs {module}: pip install {module}")


@contextmanager
def _unreported() -> Iterator[None]:
    """Keep wandb from reporting its own errors, unless the user wants that."""
    before = os.environ.get(_REPORTS)
    os.environ.setdefault(_REPORTS, "false")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_REPORTS, None)
