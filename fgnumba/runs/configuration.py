"""The configuration of a training run: default settings, overridden by a TOML file, and that by options."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.objects.code import require_trust
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.named_code import code_in
from fgnumba.runs.places import URI, beside, check_places, held, path_in
from fgnumba.runs.presets import Table
from fgnumba.runs.text_settings import KINDS, MAX_CONTEXT, suited
from fgnumba.runs.toml_file import read_toml
from fgnumba.training.defaults import HELD_OUT, PATIENCE, defaults
from fgnumba.validation import flag, optional, real_number, several, store, whole_number
from fgnumba.validation.paths import shortened

CONFIG = "config.toml"
"""Name of the file of settings in a run folder."""
RECIPES = "recipes"
"""Key of the ``[run]`` table: the version of the estimators' recipes that the run's names stand for."""
RECIPES_VERSION = 2
RENAMED = {"local-feedback": "local-noise-feedback"}
"""The names of today for estimators that runs without a version, from before it was written, call otherwise."""
DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian")
OPTIMIZERS = ("sgd", "adam", "adamw", "frank-wolfe", "auto")
SCHEDULES = ("exponential", "cosine", "cosine-to-zero")
PRECISIONS = ("auto", "float32", "tf32", "bf16x3", "bf16x2", "bf16")
"""The precisions of products that some device has."""
MAX_DIRECTIONS = 1 << 20
MAX_STEPS = 1 << 32
"""Largest number of steps: one seed has directions for this many."""
_PATHS = ("data", "data_dir", "model")
DECADES = 4.0
"""By default the learning rate falls over a run by the factor e to this power, about 55."""


@dataclass(frozen=True)
class RunConfig:
    """All settings that decide a training run.

    Every parameter is also an option of ``fgtrain train`` (`batch_size` is ``--batch-size``) and a key of a TOML file,
    but for `layers`, which a TOML file alone can give.

    Parameters
    ----------
    model : str
        ``logreg``, ``mlp``, ``cnn``, ``resnet``, ``vgg``, ``char-lstm``, ``char-transformer``, or the path of a TOML
        file with ``[[layers]]``. Default: ``"mlp"``.
    widths : tuple of int, optional
        Number of units in each hidden layer of ``mlp``, each layer of ``char-lstm`` or each block of
        ``char-transformer``, or of filters in each convolution of ``vgg``. None (the default): 1024, 1024; 64 on a
        table; 512 for a text, or four blocks of 128; 64, 128, 256 for ``vgg``.
    layers : tuple of dict, optional
        The model as one table for each layer; it takes precedence over `model`. None (the default): `model` decides.
    data : str
        Name or path of the data set, as ``fgnumba.datasets.load`` takes it. Default: ``"digits"``.
    data_dir : str, optional
        Folder of the IDX files of ``mnist`` or ``fashion-mnist``. None (the default): they are downloaded once.
    target : str or tuple of str, optional
        The column or columns of a table that are to be predicted. None (the default): the data are no table.
    drop : str or tuple of str, optional
        The column or columns of a table that a model shall not read, such as a row's number. None (the default): none.
    symbols : str, optional
        What the symbols of a text are, ``characters`` or ``bytes``. None (the default): characters, or the data are no
        text.
    context : int, optional
        Number of symbols that a step takes from each stream of a text, or the length of its windows. None (the
        default): 64, or the data are no text.
    loss : str, optional
        Name of the loss, such as ``cross-entropy`` or ``mse``. None (the default): the one that the targets call for.
    estimator : str, optional
        Name of the gradient estimator, a key of ``fgnumba.estimators.RECIPES``. None (the default): the one that suits
        the model (``fgnumba.training.defaults``).
    direction : str, optional
        Distribution of the directions of weight perturbation: ``rank1``, ``orthogonal``, ``rademacher`` or
        ``gaussian``. None (the default): the estimator's.
    directions : int, optional
        Number of directions T, or of noise draws, in each step. None (the default): the estimator's.
    epochs : int, optional
        Number of passes over the training data. Give `epochs` or `steps`, not both. None (the default) for both: a
        limit on the steps that suits the estimator and the model.
    steps : int, optional
        Number of training steps.
    validation : float, optional
        Fraction of the training data that is held out to judge the run and not trained on; 0: nothing is held out.
        None (the default): 0.05 if neither `epochs` nor `steps` is given, or if `patience` is given; else 0.
    patience : int, optional
        Number of records in a row without a better validation accuracy after which the run ends; 0: it takes all its
        steps. None (the default): 8 if neither `epochs` nor `steps` is given and data are held out; else 0.
    restore_best : bool, optional
        Whether a run with patience keeps the parameters of its best record and not those of its last step. None (the
        default): a run on a table does, others do not.
    augment : str, optional
        How the images of each batch are changed at random, such as ``flip,crop:4``, or ``none``; see
        :func:`fgnumba.runs.augmentations.augmentation_of`. None (the default): what suits model and data.
    batch_size : int
        Number of examples in each step. Default: 64; ``fgtrain`` takes 32 for ``vgg``.
    learning_rate : float, optional
        Learning rate of the first step. None (the default): the estimator's, which was found by search.
    decay : float, optional
        Decay k: step i, counted from 0, uses the learning rate ``learning_rate`` exp(-k i). None (the default):
        4 / steps, so that the learning rate falls by e⁻⁴ over the run.
    schedule : str, optional
        How the learning rate falls: ``exponential``, as above; or along half a cosine in 4 / `decay` steps, ``cosine``
        to a tenth and ``cosine-to-zero`` to 0. None (the default): ``cosine`` for a text, ``cosine-to-zero`` for
        ``vgg``, else ``exponential``.
    warmup : int, optional
        Number of steps W over which the learning rate rises: step i has (i + 1) / W of it, up to all of it. None (the
        default): 0, and for a text that is read in windows 100, or a tenth of the steps if these are fewer.
    optimizer : str, optional
        ``sgd``, ``adam``, ``adamw`` or ``frank-wolfe``; or ``auto``, the estimator's with a learning rate that is
        measured in the run (:class:`fgnumba.schedules.MeasuredRate`), beside which none is given. None (the default):
        the estimator's.
    momentum : float, optional
        Momentum of ``sgd``, from 0 to below 1. None (the default): that of the
        estimator's recipe, else 0; the other optimisers take none.
    nesterov : bool, optional
        Whether the momentum of ``sgd`` is Nesterov's. None (the default): the classical (heavy-ball) momentum.
    weight_decay : float, optional
        Coefficient of weight decay. None (the default): the optimizer's, 0.01 for ``adamw``, else 0.
    clip_norm : float, optional
        Largest Euclidean norm of a gradient; a longer one is scaled down to it. None (the default): no limit.
    radius : float, optional
        Radius of the ball in which ``frank-wolfe`` keeps the parameters; it requires one. None is the default.
    stop_above : float, optional
        The run has diverged if its loss exceeds this many times the loss of its first step. None (the default): only
        a loss that is not finite counts as divergence.
    seed : int
        Seed of everything random. Default: 0.
    device : str
        ``cpu``, ``cuda``, or ``auto``, which takes a GPU if there is one. Default: ``"auto"``.
    precision : str
        Precision of matrix products, one that the device has: on the CPU ``float32``, ``bf16x3``, ``bf16x2``, ``bf16``,
        or ``auto``, the fastest that is as exact as float32; on a GPU ``float32`` (which ``auto`` stands for there),
        ``tf32`` or ``bf16``. Default: ``"auto"``.
    tangent_precision : str, optional
        Precision of the products of tangents. None (the default): `precision`.

    Raises
    ------
    ConfigError
        A value is impossible, or `epochs` and `steps` are both given.
    """

    model: str = "mlp"
    widths: tuple[int, ...] | None = None
    layers: tuple[Table, ...] | None = None
    data: str = "digits"
    data_dir: str | None = None
    target: str | tuple[str, ...] | None = None
    drop: str | tuple[str, ...] | None = None
    symbols: str | None = None
    context: int | None = None
    loss: str | None = None
    estimator: str | None = None
    direction: str | None = None
    directions: int | None = None
    epochs: int | None = None
    steps: int | None = None
    validation: float | None = None
    patience: int | None = None
    restore_best: bool | None = None
    augment: str | None = None
    batch_size: int = 64
    learning_rate: float | None = None
    decay: float | None = None
    schedule: str | None = None
    warmup: int | None = None
    optimizer: str | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    radius: float | None = None
    stop_above: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    tangent_precision: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "data", "device"):
            _text(name, getattr(self, name))
        if self.data_dir is not None:
            _text("data_dir", self.data_dir)
        for name in (one for one in ("estimator", "loss") if getattr(self, one) is not None):
            _text(name, getattr(self, name))
        for name in (one for one in ("target", "drop") if getattr(self, one) is not None):
            store(self, **{name: _columns(name, getattr(self, name))})
        if self.drop is not None and self.target is None:
            raise ConfigError(
                f"drop is {shown(self.drop)}, and there is no target; the data are no table without one"
            )
        if self.direction is not None:
            _one_of("direction", self.direction, DIRECTIONS)
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("symbols", KINDS)):
            if getattr(self, name) is not None:
                _one_of(name, getattr(self, name), choices)
        for name in ("precision", "tangent_precision"):
            if name == "precision" or self.tangent_precision is not None:
                _one_of(name, getattr(self, name), PRECISIONS)
        augmentation_of(self.augment)
        if self.target is not None and (self.symbols is not None or self.context is not None):
            raise ConfigError(
                f"target is {shown(self.target)} beside symbols or context; a table has a target, and a text has none"
            )
        if self.optimizer == "auto" and self.learning_rate is not None:
            raise ConfigError(
                f"learning_rate is {shown(self.learning_rate)} beside the optimizer 'auto', which measures it; "
                "give one of the two"
            )
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
            restore_best=optional(flag, "restore_best", self.restore_best),
        )
        whole("directions", 1, MAX_DIRECTIONS)
        whole("epochs", 1, MAX_STEPS)
        whole("steps", 1, MAX_STEPS)
        whole("patience", 0, MAX_STEPS)
        whole("warmup", 0, MAX_STEPS)
        whole("context", 1, MAX_CONTEXT)
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
        """Return a copy in which some settings are replaced.

        A new `model` or `widths` also removes `layers`, new `epochs` remove `steps` or the reverse, and a new
        `precision` removes `tangent_precision`, because the old value describes the same thing.

        Parameters
        ----------
        settings : mapping
            New values by the names of the parameters.
        """
        changes = dict(settings)
        if "epochs" in changes and "steps" not in changes:
            changes["steps"] = None
        if "steps" in changes and "epochs" not in changes:
            changes["epochs"] = None
        if "precision" in changes and "tangent_precision" not in changes:
            changes["tangent_precision"] = None
        if ("model" in changes or "widths" in changes) and "layers" not in changes:
            changes["layers"] = None
        return replace(self, **changes)

    def judged(self) -> "RunConfig":
        """Return a copy in which `validation` and `patience` are numbers and not None.

        Raises
        ------
        ConfigError
            There is patience but nothing is held out, or a best record is to be restored without patience.
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
        """Return a configuration with the settings in a TOML file, and the default settings for the rest.

        Parameters
        ----------
        path : Path
            The file. A ``[run]`` table in it is ignored, so that a run folder's config.toml can be used again.

        Raises
        ------
        ConfigError
            The file is missing or is not TOML, a key is unknown, or a value is impossible. The message names the file.
        """
        settings = read_settings(path)
        try:
            return cls().updated(settings)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self, run: Mapping[str, Any] | None = None) -> str:
        """Return the settings as TOML text, which :meth:`from_toml` reads back.

        Parameters
        ----------
        run : mapping, optional
            Facts of a run, such as its input shape, for the ``[run]`` table. None (the default): there is no such
            table.
        """
        import tomli_w

        settings = self.settings()
        paths = {name: held(settings[name]) for name in _PATHS if name in settings}
        return tomli_w.dumps({**settings, **paths, **({"run": dict(run)} if run else {})})

    def settings(self) -> dict[str, Any]:
        """Return the settings that are not None, as TOML values: a list for each tuple."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }


def configured(file: Path | None, given: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a file, or the default one, overridden by options.

    Parameters
    ----------
    file, given : Path, optional; mapping
        The TOML file, in which a path that leads nowhere and is not overridden is refused; and the options.

    Raises
    ------
    CodeError
        The file is a run folder's, and names code that is not trusted.
    """
    if file is None:
        return RunConfig(**_suited(given))
    named = {**read_settings(file), **given}
    ours = {key: value for key, value in _suited(named).items() if key not in named}
    config = RunConfig.from_toml(file).updated({**ours, **given})
    # With layers, the model's file is not read: that of a run folder's config.toml may be gone.
    keys = [key for key in _PATHS if key not in given and not (key == "model" and config.layers)]
    check_places(file, {key: getattr(config, key) for key in keys})
    if "run" in read_toml(file, "config"):
        # A run folder's file may come from anybody, and so may the file of layers that it names.
        for key, name in code_in(config, given):
            require_trust(f"{file}: {key}", name)
    return config


def _suited(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those added that suit a text, and the batch size that suits the model, unless given."""
    settings = suited(given)
    model = settings.get("model")
    size = defaults(model).batch_size if isinstance(model, str) else None
    if size is not None:
        settings.setdefault("batch_size", size)
    return settings


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file by the names of :class:`RunConfig`'s parameters.

    Parameters
    ----------
    path : Path
        The file. A ``[run]`` table, which a run folder's config.toml has, is left out. Paths may lead from beside it.

    Raises
    ------
    ConfigError
        The file is missing or is not TOML, or a key is unknown.
    """
    table = read_toml(path, "config")
    if "run" in table:
        from fgnumba import estimators

        facts = table.pop("run")
        name = table.get("estimator")
        if not (isinstance(facts, dict) and RECIPES in facts) and isinstance(name, str):
            table["estimator"] = RENAMED.get(name, name)
        # Earlier versions wrote zeros into the file of a run whose optimiser has no such number, and another optimiser
        # may be given beside the file. To adamw alone, a weight decay of 0 is not the default.
        decay = ("weight_decay",) if table.get("optimizer") == "frank-wolfe" else ()
        # An estimator whose own default is a momentum is younger than those versions.
        searched = estimators.RECIPES.get(str(table.get("estimator")))
        momentum = ("momentum",) if searched is None or searched.momentum is None else ()
        for name in (*momentum, "nesterov", *decay):
            if table.get(name) in (0, False):
                del table[name]
        # Earlier versions multiplied in float32 and wrote no precision; their runs go on as they began.
        table.setdefault("precision", "float32")
    known = [field.name for field in fields(RunConfig)]
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {shown(key)}{did_you_mean(key, known)}")
    for key in _PATHS:
        if str(table.get(key, "")).startswith(URI):
            table[key] = path_in(path, key, table[key])
        elif isinstance(table.get(key), str):
            table[key] = beside(path, key, table[key])
    for key in ("widths", "layers"):
        if key in table:
            if not isinstance(table[key], list):
                raise ConfigError(f"{path}: {key} is {shown(table[key])}; a list is required")
            table[key] = tuple(table[key])
    return table


def named(config: RunConfig) -> str:
    """Return the default name of a run's folder, such as ``digits-mlp``, before a number is appended.

    Parameters
    ----------
    config : RunConfig
        The configuration, whose data set and model give the name. Both are cut to 100 bytes, so that the name with a
        number is short enough for a file name.
    """
    return "-".join(shortened(Path(name).stem, 100) for name in (config.data, config.model))


def _columns(name: str, target: Any) -> str | tuple[str, ...]:
    names = several(target) if not isinstance(target, str) else (target,)
    if not names or not all(isinstance(one, str) and one for one in names) or len(set(names)) < len(names):
        raise ConfigError(f"{name} is {shown(target)}; the name of a column, or several, is required")
    return names[0] if len(names) == 1 else tuple(names)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} is {shown(value)}; text is required")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name}: unknown {name} {shown(value)}{did_you_mean(shown(value), choices)}")
