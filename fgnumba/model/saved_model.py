"""Make models of tables, and read models that :meth:`fgnumba.Graph.save` wrote.

A file is not trusted. Its description is checked as a run's ``config.toml`` is, and the shapes that it leads to are
compared with the machine's memory and with the file before memory is taken.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, RunError, ShapeError, did_you_mean, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.rules.philox import MAX_SEED
from fgnumba.layers.base import Element
from fgnumba.layers.tables import layer_of
from fgnumba.model.described import FORMAT, KEY, MAX_DESCRIPTION, checked_classes
from fgnumba.model.graph import Graph, Provider
from fgnumba.model.nodes import Node
from fgnumba.model.sequential import Sequential
from fgnumba.storage.damage import undamaged
from fgnumba.storage.json_lines import parsed
from fgnumba.storage.safetensors import MAX_RANK, read_constant, read_header, read_tensors
from fgnumba.validation import whole_number

REQUIRED, OPTIONAL = {"format", "version", "input_shape", "seed", "layers"}, {"output", "classes"}
"""The keys of a description."""

MASK = "mask"
"""The key of a layer whose value is ``{"tensor": "<layer>.mask"}``, a tensor of the file that is no parameter."""


def graph_of(
    tables: Sequence[Mapping[str, Any]],
    layers: Sequence[Element],
    input_shape: tuple[int, ...],
    output: str | None = None,
    seed: int = 0,
    device: str | Device = "auto",
    initial: Provider | None = None,
) -> Graph:
    """Return the model of layers, wired as their tables say.

    It is a :class:`fgnumba.Graph` if any table has ``name`` or ``inputs``, else a :class:`fgnumba.Sequential`. In a
    graph, the name of a layer without one is its index, such as ``"3"``.

    Parameters
    ----------
    tables : sequence of mapping
        The tables, of which ``name`` and ``inputs`` are read.
    layers : sequence of Layer or Composite
        The layers that the tables describe.
    input_shape : tuple of int
        The shape of one example.
    output : str, optional
        The name of the node whose output is the model's. None (the default): the last one.
    seed : int
        Seed of the initial parameters. Default: 0.
    device : str or Device
        Where the model runs. Default: ``"auto"``.
    initial : callable, optional
        Returns the initial parameters, as :class:`fgnumba.Graph` takes it. None (the default) draws them.

    Raises
    ------
    ConfigError, ShapeError
        The layers' connections or shapes do not fit.
    """
    if output is None and not any("name" in table or "inputs" in table for table in tables):
        return Sequential(layers, input_shape, seed=seed, device=device, initial=initial)
    nodes = [
        Node(table.get("name", str(index)), layer, _inputs(table.get("inputs")))
        for index, (table, layer) in enumerate(zip(tables, layers, strict=True))
    ]
    return Graph(nodes, input_shape, output, seed=seed, device=device, initial=initial)


def read_model(path: Path, device: str | Device = "auto") -> Graph:
    """Return the model in a file that :meth:`fgnumba.Graph.save` wrote.

    Parameters
    ----------
    path : Path
        The file.
    device : str or Device
        Where the model shall run. Default: ``"auto"``.

    Raises
    ------
    RunError
        The file is damaged, is no safetensors file, or does not describe a model.
    DeviceError
        The device is not available.
    """
    metadata = undamaged(path, lambda: read_header(path)).metadata
    if KEY not in metadata:
        raise RunError(
            f"{path} holds tensors and no description of a model, such as model.save writes; make the model, and give "
            "it the tensors by model.load_parameters"
        )
    found = undamaged(path, lambda: _described(metadata[KEY]))

    def make() -> Graph:
        tables, masks = _with_masks(path, found["layers"])
        layers = [layer_of(table, f"layers[{index}]") for index, table in enumerate(tables)]
        return graph_of(
            tables,
            layers,
            found["input_shape"],
            found.get("output"),
            found["seed"],
            device,
            lambda shapes: read_tensors(path, shapes, masks),
        )

    model = undamaged(path, make)
    if "classes" in found:
        model.classes = found["classes"]
    return model


def _with_masks(path: Path, tables: Sequence[Any]) -> tuple[list[Any], set[str]]:
    """Return the tables, with masks in place of the tensors' names, and these names."""
    found, names = [], set()
    for index, table in enumerate(tables):
        mask = table.get(MASK) if isinstance(table, Mapping) else None
        if isinstance(mask, Mapping):
            name = f"{table.get('name', index)}.{MASK}"
            if mask != {"tensor": name} or name in names:
                raise ConfigError(
                    f"layers[{index}]: {MASK} is {shown(mask)}; a tensor of its own is required, {shown(name)}"
                )
            names.add(name)
            table = {**table, MASK: read_constant(path, name)}
        found.append(table)
    return found, names


def _described(text: str) -> dict[str, Any]:
    """Return a description, after checking all of it but the layers."""
    if len(text) > MAX_DESCRIPTION:
        raise ValueError(
            f"its description has {len(text):,} characters; at most {MAX_DESCRIPTION:,} are read"
        )
    found = parsed(text)
    if whole_number("format", found.get("format")) > FORMAT:
        raise ValueError(f"format is {found['format']}; this version of fgnumba reads up to {FORMAT}")
    for key in found:
        if key not in REQUIRED | OPTIONAL:
            raise ValueError(f"unknown key {shown(key)}{did_you_mean(key, REQUIRED | OPTIONAL)}")
    for key in sorted(REQUIRED):
        if key not in found:
            raise ValueError(f"{key} is missing")
    shape, layers, output = found["input_shape"], found["layers"], found.get("output", "")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK:
        raise ShapeError(
            f"input_shape is {shown(shape)}; a list of 1 to {MAX_RANK} whole numbers is required"
        )
    if not isinstance(layers, list) or not layers:
        raise ConfigError(f"layers is {shown(layers)}; a list of at least one table is required")
    if not isinstance(output, str):
        raise ConfigError(f"output is {shown(output)}; the name of a layer is required")
    found["input_shape"] = tuple(whole_number("input_shape", size) for size in shape)
    found["seed"] = whole_number("seed", found["seed"], 0, MAX_SEED)
    if "classes" in found:
        found["classes"] = checked_classes(found["classes"])
    return found


def _inputs(given: Any) -> tuple[str, ...] | str | None:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        return tuple(given)
    raise ConfigError(f"inputs is {shown(given)}; the name of a layer, or a list of names, is required")
