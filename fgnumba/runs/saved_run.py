"""Runs that are saved: their folders read back, and checked before anything is computed from them.

``fgnumba.runs.run_folder`` writes them, and says what a folder holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.errors import RunError, shown
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.layers.parameters import shapes_of
from fgnumba.runs.configuration import CONFIG, RunConfig
from fgnumba.runs.presets import model_from
from fgnumba.runs.run_folder import DATA, LABELS, RESTORED
from fgnumba.runs.toml_file import read_toml
from fgnumba.storage.damage import undamaged
from fgnumba.storage.safetensors import MAX_RANK, read_tensors
from fgnumba.training.checkpoints import FOLDER as CHECKPOINTS
from fgnumba.training.checkpoints import METRICS, MODEL
from fgnumba.training.metrics import read_records
from fgnumba.training.records import Record
from fgnumba.validation import whole_number
from fgnumba.validation.paths import path_of, quoted

if TYPE_CHECKING:
    from fgnumba.kernels.devices.device import Device
    from fgnumba.model.graph import Graph
    from fgnumba.training.trainer import Trainer


@dataclass(frozen=True)
class Run:
    """A run that was read from its folder.

    Parameters
    ----------
    config : RunConfig
        All settings of the run.
    model : Graph
        The model with its trained parameters.
    records : list of Record
        The run's records, in the order of their steps.
    data_sha256 : str, optional
        SHA-256 of the data that it trained on. None (the default): the folder does not say.
    facts : mapping
        The ``[run]`` table of its config.toml. Default: empty.
    labels : tuple of str, int or float, optional
        What the classes are called in these data. None (the default): 0, 1, ….
    """

    config: RunConfig
    model: "Graph"
    records: list[Record]
    data_sha256: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str | int | float, ...] | None = None


def read(path: Path, device: "str | Device" = "auto") -> Run:
    """Return the run in a folder.

    Parameters
    ----------
    path : Path
        The folder of a run that has ended.
    device : str or Device
        Where its model shall run: ``cpu``, ``cuda`` or ``auto``. On the CPU, the products of a run that trained there
        keep their precision; they are in float32 if this processor does not have it. Default: ``"auto"``.

    Raises
    ------
    RunError
        The folder is not a run folder, the run has not ended, or a file is missing or damaged.
    DeviceError
        The device is not available.
    """
    path = path_of(path, "run")
    if (path / CHECKPOINTS).is_dir() and not (path / MODEL).exists():
        raise RunError(f"{path} has not ended; continue: fgtrain train --resume {quoted(path)}")
    _check_files(path, (CONFIG, METRICS, MODEL))
    config, facts, shape, classes = undamaged(path / CONFIG, lambda: _read_config(path / CONFIG))

    def trained(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        return undamaged(path / MODEL, lambda: read_tensors(path / MODEL, shapes))

    place = _device_of(config, device)
    model = undamaged(
        path / CONFIG,
        lambda: model_from(
            config.layers or (), classes, CONFIG, shape, config.seed, place, trained, saved=True
        ),
    )
    records = undamaged(path / METRICS, lambda: read_records(path / METRICS))
    labels = undamaged(path / CONFIG, lambda: _labels(facts.get(LABELS), model.outputs))
    return Run(config, model, records, facts.get(DATA), facts, labels)


def _device_of(config: RunConfig, device: "str | Device") -> "Device":
    """Return the device that a name stands for, with the precision of a run that trained on the same kind."""
    from fgnumba.device import cpu, resolve
    from fgnumba.errors import DeviceError

    place = resolve(device)
    if not isinstance(device, str) or place.name != "cpu" or config.device == "cuda":
        return place
    try:
        return cpu(config.precision, config.tangent_precision)
    except DeviceError:
        return cpu("float32")


def read_unfinished(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return the configuration of a run, and the facts in its ``[run]`` table.

    Parameters
    ----------
    path : Path
        The run folder. The run need not have ended.

    Raises
    ------
    RunError
        The folder is not a run folder, or its config.toml is damaged.
    """
    path = path_of(path, "run")
    _check_files(path, (CONFIG,))
    config, facts, *_ = undamaged(path / CONFIG, lambda: _read_config(path / CONFIG))
    return config, facts


def left_step(path: Path, logged: int) -> int:
    """Return the step whose parameters a run kept: the last one, or the best one with ``--restore-best``.

    Parameters
    ----------
    path : Path
        The run folder.
    logged : int
        Number of steps in the run's replay log.

    Raises
    ------
    RunError
        The folder is not a run folder, or its config.toml is damaged.
    """
    _, facts = read_unfinished(path)
    step = undamaged(path / CONFIG, lambda: whole_number(RESTORED, facts.get(RESTORED, logged), 0))
    # A log that ends before that step, because a crash tore it, can only be replayed to its end.
    return min(step, logged)


def read_start(path: Path) -> tuple[RunConfig, "Trainer"]:
    """Return the configuration of a run, and its trainer in the state before the first step.

    The trainer is for repeating updates, which have no products. Those that it has are in float32, so that any
    machine can repeat the updates of a run in another precision.

    Parameters
    ----------
    path : Path
        The run folder. The run need not have ended.

    Raises
    ------
    RunError
        The folder is not a run folder, or its config.toml is damaged.
    DeviceError
        The run's device is not available.
    """
    from fgnumba.device import resolve
    from fgnumba.runs.assembly import trainer

    path = path_of(path, "run")
    _check_files(path, (CONFIG,))

    def start() -> "tuple[RunConfig, Trainer]":
        config, _, shape, classes = _read_config(path / CONFIG)
        layers = config.layers or ()
        device = resolve(config.device, "float32")
        model = model_from(layers, classes, CONFIG, shape, config.seed, device, saved=True)
        return config, trainer(config, model)

    return undamaged(path / CONFIG, start)


def read_parameters(path: Path, model: "Graph") -> dict[str, Any] | None:
    """Return the trained parameters of a run by their names, or None if the run has not ended.

    Parameters
    ----------
    path : Path
        The run folder.
    model : Graph
        The run's model, whose names and shapes the parameters must have.

    Raises
    ------
    RunError
        The parameters are damaged, or not those of `model`.
    """
    path = path_of(path, "run")
    if not (path / MODEL).exists():
        return None
    return undamaged(path / MODEL, lambda: read_tensors(path / MODEL, shapes_of(model.packed_parameters)))


def _check_files(path: Path, names: Iterable[str]) -> None:
    if not path.is_dir():
        raise RunError(
            f"{path}: {'not a folder' if path.exists() else 'no such folder'}; a run folder is required"
        )
    for name in names:
        if not (path / name).is_file():
            raise RunError(f"{path} is not a run folder: {name} is missing")


def _read_config(path: Path) -> tuple[RunConfig, dict[str, Any], tuple[int, ...], int]:
    """Return the configuration, the facts in the ``[run]`` table, and two of these: input shape, number of classes."""
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


def _labels(given: Any, outputs: int) -> tuple[str | int | float, ...] | None:
    """Return the names of the classes in the ``[run]`` table."""
    if given is None:
        return None
    if (
        not isinstance(given, list)
        or len(given) != outputs
        or not all(type(n) in (str, int, float) for n in given)
    ):
        raise ValueError(f"{LABELS} is {shown(given)}; a list of {outputs} names is required")
    return tuple(given)
