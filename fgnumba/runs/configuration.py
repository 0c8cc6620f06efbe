"""The configuration of a training run: defaults, a TOML file over them, options over both."""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.runs.presets import Table
from fgnumba.storage.files import read_whole
from fgnumba.validation import flag, optional, real_number, several, store, whole_number
from fgnumba.validation.paths import expanded, path_of, shortened

DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian")
OPTIMIZERS = ("sgd", "adam", "adamw", "frank-wolfe")
MAX_DIRECTIONS = 1 << 20
MAX_STEPS = 1 << 32
"""As many as one seed has directions for."""
MAX_TOML = 1 << 20
"""Bytes of the longest file of settings or layers."""
MAX_KEY_PARTS = 16
# tomllib takes time with the square of a key's parts.
_DEEP_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}"""
)
_PATHS, _URI = ("data", "data_dir", "model"), "file://"
DECADES = 4.0
"""By default the learning rate falls by e to this power over a run."""
HELD_OUT, PATIENCE = 0.05, 8
"""Share of the training data that judges, and records without progress that end a run, where these are not given.

A tenth costs 0.15 % of accuracy on the digits (seven seeds, judged by a fifth that was held out apart)."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a training run.

    Parameters
    ----------
    model : ``logreg``, ``mlp``, ``cnn``, ``resnet``, or the path of a TOML file with ``[[layers]]``.
    widths : hidden layers of ``mlp``.
    layers : the model as tables; they win over `model`.
    data, data_dir : as ``fgnumba.datasets.load`` takes them.
    estimator, direction, directions : one of ``fgnumba.estimators.RECIPES``, one of the directions, T. None: what suits
        the model (``defaults.defaults``); what the estimator has by itself.
    epochs, steps : one of the two. None for both: at most as many as suit estimator and model.
    validation : share of the training data that judges the run and does not train; 0: none. None: 0.05 where neither
        epochs nor steps are given, or `patience` is; else none.
    patience : records in a row without a better validation accuracy that end the run; 0: it takes all its steps. None:
        eight where neither epochs nor steps are given and there is a validation part; else 0.
    restore_best : whether a run with patience leaves the parameters of its best record, not those of its last step.
    optimizer : ``sgd``, ``adam``, ``adamw`` or ``frank-wolfe``. None: the estimator's.
    learning_rate, decay : None: the estimator's, found by search; e⁻⁴ over the run.
    momentum, nesterov : of ``sgd``. None: 0, and the heavy ball.
    weight_decay, clip_norm, radius : as the optimisers take them.
    stop_above : a run whose loss exceeds this many times its first has diverged. None: any finite loss will do.
    batch_size, seed, device : as the library takes them.

    Raises
    ------
    ConfigError
    """

    model: str = "mlp"
    widths: tuple[int, ...] | None = None
    layers: tuple[Table, ...] | None = None
    data: str = "digits"
    data_dir: str | None = None
    estimator: str | None = None
    direction: str | None = None
    directions: int | None = None
    epochs: int | None = None
    steps: int | None = None
    validation: float | None = None
    patience: int | None = None
    restore_best: bool = False
    batch_size: int = 64
    learning_rate: float | None = None
    decay: float | None = None
    optimizer: str | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    radius: float | None = None
    stop_above: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("model", "data", "device"):
            _text(name, getattr(self, name))
        if self.data_dir is not None:
            _text("data_dir", self.data_dir)
        if self.estimator is not None:
            _text("estimator", self.estimator)
        if self.direction is not None:
            _one_of("direction", self.direction, DIRECTIONS)
        if self.optimizer is not None:
            _one_of("optimizer", self.optimizer, OPTIMIZERS)
        if self.epochs is not None and self.steps is not None:
            raise ConfigError("epochs and steps are both given; give one of the two")
        self._store_numbers()

    def _store_numbers(self) -> None:
        def whole(name: str, low: int, high: int | None = None) -> None:
            store(self, **{name: optional(whole_number, name, getattr(self, name), low, high)})

        def real(name: str, above_zero: bool = False, below: float = math.inf) -> None:
            store(self, **{name: optional(real_number, name, getattr(self, name), above_zero, below)})

        store(
            self,
            batch_size=whole_number("batch_size", self.batch_size),
            seed=whole_number("seed", self.seed, 0, (1 << 64) - 1),
            nesterov=optional(flag, "nesterov", self.nesterov),
            restore_best=flag("restore_best", self.restore_best),
        )
        whole("directions", 1, MAX_DIRECTIONS)
        whole("epochs", 1, MAX_STEPS)
        whole("steps", 1, MAX_STEPS)
        whole("patience", 0, MAX_STEPS)
        real("validation", below=1)
        real("momentum", below=1)
        for name in ("decay", "weight_decay"):
            real(name)
        for name in ("learning_rate", "clip_norm", "radius", "stop_above"):
            real(name, above_zero=True)
        if self.widths is not None:
            widths = several(self.widths)
            if widths is None:
                raise ConfigError(f"widths is {shown(self.widths)}; several whole numbers are required")
            store(
                self,
                widths=tuple(whole_number(f"widths[{i}]", units) for i, units in enumerate(widths)),
            )

    def updated(self, settings: Mapping[str, Any]) -> "RunConfig":
        """Return a copy with `settings` over it; a new model or duration replaces the old one whole."""
        changes = dict(settings)
        if "epochs" in changes and "steps" not in changes:
            changes["steps"] = None
        if "steps" in changes and "epochs" not in changes:
            changes["epochs"] = None
        if ("model" in changes or "widths" in changes) and "layers" not in changes:
            changes["layers"] = None
        return replace(self, **changes)

    def judged(self) -> "RunConfig":
        """Return a copy in which it is written out what is held out, and how patient the run is.

        Raises
        ------
        ConfigError
            Patience without a validation part, or a best record to restore without patience.
        """
        open_ended = self.epochs is None and self.steps is None
        validation, patience = self.validation, self.patience
        if validation is None:
            validation = HELD_OUT if open_ended or patience else 0.0
        if patience is None:
            patience = PATIENCE if open_ended and validation else 0
        if patience and not validation:
            raise ConfigError(
                f"patience is {patience} and validation 0; a share to hold out, or patience 0, is required"
            )
        if self.restore_best and not patience:
            raise ConfigError(
                "restore_best is true and patience 0; records to wait for a better one are required"
            )
        return replace(self, validation=validation, patience=patience)

    @classmethod
    def from_toml(cls, path: Path) -> "RunConfig":
        """Return the defaults with the settings of a TOML file over them; ConfigError names the file."""
        settings = read_settings(path)
        try:
            return cls().updated(settings)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self, run: Mapping[str, Any] | None = None) -> str:
        """Return TOML that :meth:`from_toml` reads back, with facts of a run as its ``[run]`` table."""
        import tomli_w

        settings = self.settings()
        paths = {name: _held(settings[name]) for name in _PATHS if name in settings}
        return tomli_w.dumps({**settings, **paths, **({"run": dict(run)} if run else {})})

    def settings(self) -> dict[str, Any]:
        """Return what differs from None, as TOML values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file; a ``[run]`` table, which a run folder's file has, is left out.

    Raises
    ------
    ConfigError
        The file is missing or no TOML, or a key is unknown.
    """
    table = read_toml(path, "config")
    if "run" in table:
        del table["run"]
        # Earlier versions wrote both into the file of every run, also where the optimiser takes neither.
        for name in ("momentum", "nesterov") if table.get("optimizer", "sgd") != "sgd" else ():
            if table.get(name) in (0, False):
                del table[name]
    known = [field.name for field in fields(RunConfig)]
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {shown(key)}{did_you_mean(key, known)}")
    for key in _PATHS:
        if str(table.get(key, "")).startswith(_URI):
            table[key] = _path_in(path, key, table[key])
    for key in ("widths", "layers"):
        if key in table:
            if not isinstance(table[key], list):
                raise ConfigError(f"{path}: {key} is {shown(table[key])}; a list is required")
            table[key] = tuple(table[key])
    return table


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return a TOML file as a dictionary; ConfigError with one line where that fails."""
    try:
        path = path_of(path, what)
        # Editors of Windows begin UTF-8 with a mark.
        text = read_whole(path, MAX_TOML).decode("utf-8-sig")
        if _DEEP_KEY.search(text):
            raise ConfigError(f"{what} {path}: a key of more than {MAX_KEY_PARTS} parts; none has so many")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {path}: not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{what} {path}: brackets are nested too deeply") from None
    # Not TOML, or not a possible path.
    except ValueError as error:
        raise ConfigError(f"{what} {path}: {error}") from None


def named(config: RunConfig) -> str:
    """Return what a run's folder is called where nobody says: as much as leaves room for a number in a file's name."""
    return "-".join(shortened(Path(name).stem, 100) for name in (config.data, config.model))


def _path_in(file: Path, key: str, uri: str) -> str:
    """Return the path that a ``file://`` URI in a file of settings stands for."""
    host, slash, rest = uri.removeprefix(_URI).partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError(f"{file}: {key} is {shown(uri)}; a file of this machine, file:///..., is required")
    return os.fsdecode(unquote_to_bytes(f"/{rest}"))


def _held(path: str) -> str:
    """Return a path as TOML, which is UTF-8, can hold it: one of other bytes as a URI."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(expanded(path, "path"))).as_uri()
    return path


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} is {shown(value)}; text is required")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name}: unknown {name} {shown(value)}{did_you_mean(shown(value), choices)}")
