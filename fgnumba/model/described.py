"""What a model says of itself: a table of its layers, and a file from which it can be made again."""

import json
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, RunError, shown
from fgnumba.layers import Shape
from fgnumba.layers.parameters import Parameter
from fgnumba.layers.tables import Table, constants_of, table_of
from fgnumba.model.nodes import GivenNode, WiredNode
from fgnumba.objects.table import as_html, as_text
from fgnumba.storage.durable import replace
from fgnumba.validation import plain, several
from fgnumba.validation.paths import AnyPath, path_of

KEY = "fgnumba"
"""The entry of a file's metadata that holds the description of the model."""
FORMAT = 1
"""The number of the description's format. A file with a greater number is refused."""
MAX_DESCRIPTION = 1 << 22
"""The most characters of a description."""

HEADS = ("layer", "type", "output", "parameters", "multiply-adds")


class Described:
    """The part of a model that describes it: the base of :class:`Graph`."""

    nodes: tuple[WiredNode, ...]
    given: tuple[GivenNode, ...]
    input_shape: Shape
    output: str
    seed: int
    shapes: dict[str, Shape]
    classes: Any = None

    def layer_parameters(self, index: int) -> dict[str, Parameter]:
        """Return the parameters of node `index`, by the layer's own names."""
        raise NotImplementedError

    def input_shapes(self, index: int) -> list[Shape]:
        """Return the shapes of the inputs of node `index`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies of all parameters by name."""
        raise NotImplementedError

    @property
    def is_chain(self) -> bool:
        """Whether the layers are named by their numbers, and each reads the one before, as in :class:`Sequential`."""
        names = [node.name for node in self.given]
        before = [("input",), *((name,) for name in names[:-1])]
        return (
            names == [str(index) for index in range(len(names))]
            and [node.inputs for node in self.given] == before
            and self.output == names[-1]
        )

    def summary(self) -> str:
        """Return a table of the layers: name, type, shape of the output, parameters, and products.

        Shapes and products are those of one example. A product is a multiply-add of a matrix product or a convolution
        in the forward pass without directions. The last line has the sums.

        Returns
        -------
        str
            The table, without a final line break.

        Examples
        --------
        >>> import fgnumba as fg
        >>> print(fg.Sequential([fg.Flatten(), fg.Dense(10)], input_shape=(8, 8, 1)).summary())
        layer  type     output  parameters  multiply-adds
        0      Flatten  64               0              0
        1      Dense    10             650            640
        total                          650            640
        """
        return as_text(HEADS, self._rows(), 2)

    def _rows(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        total = [0, 0]
        for index, node in enumerate(self.nodes):
            count = sum(int(np.prod(p.shape)) for p in self.layer_parameters(index).values())
            products = node.layer.multiply_adds(self.input_shapes(index))
            shape = "x".join(map(str, self.shapes[node.name]))
            rows.append((node.name, _kind(node), shape, f"{count:,}", f"{products:,}"))
            total = [total[0] + count, total[1] + products]
        return [*rows, ("total", "", "", f"{total[0]:,}", f"{total[1]:,}")]

    def _repr_html_(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return as_html(f"{type(self).__name__}, input {shape}", HEADS, self._rows(), 2)

    def save(self, path: AnyPath) -> None:
        """Write the model to one safetensors file: parameters by their names, layers and wiring in its metadata.

        :func:`fgnumba.load` makes the model again from the file. An existing file is replaced, whole or not at all.
        What is not saved is the device, and what a trainer keeps beside the parameters: see
        :class:`fgnumba.Checkpoints`.

        Parameters
        ----------
        path : str or path
            The file, by convention with the suffix ``.safetensors``.

        Raises
        ------
        ConfigError
            A layer is of a class that is not one of fgnumba's own, so that no description can name it.
        RunError
            The file cannot be written.
        """
        file = path_of(path, "path")
        content = content_of(self)
        try:
            replace(file, content)
        except OSError as error:
            raise RunError(f"{file} cannot be written: {error.strerror or error}") from None


def content_of(model: Described) -> bytes:
    """Return a model as the content of a file, which ``fgnumba.load`` reads.

    Parameters
    ----------
    model : Described
        The model.

    Raises
    ------
    ConfigError
        A layer is of a class that no table describes, or the description is too long.
    """
    from safetensors.numpy import save

    text = json.dumps(description(model), separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_DESCRIPTION:
        raise ConfigError(
            f"the model's description has {len(text):,} characters; at most {MAX_DESCRIPTION:,} are possible"
        )
    constants = {
        f"{node.name}.{name}": array
        for node in model.given
        for name, array in constants_of(node.layer).items()
    }
    return save({**model.parameters(), **constants}, {KEY: text})


def _kind(node: WiredNode) -> str:
    """Return the name of a layer's class, with the activation that is fused to it."""
    # The key of an activation of one's own ends with a digest of its rule.
    activation = str(node.layer.fused_activation).partition("@")[0]
    return node.layer.kind if activation == "identity" else f"{node.layer.kind} {activation}"


def description(model: Described) -> dict[str, Any]:
    """Return what a file says of a model: values of JSON, from which ``fgnumba.model.saved_model`` makes it again.

    Parameters
    ----------
    model : Described
        The model.

    Raises
    ------
    ConfigError
        A layer is of a class that no table describes.
    """
    # The package lists every module below it, so that an import statement would close a ring.
    version = import_module("fgnumba").__version__
    tables: list[Table] = []
    for node in model.given:
        table = table_of(node.layer, node.name)
        if table is None:
            raise ConfigError(
                f"layer {node.name!r}: a {node.layer.kind} is not one of fgnumba's layers, and a file cannot describe "
                "it; save model.parameters() with safetensors, and load them into a model that your program makes"
            )
        place = {} if model.is_chain else {"name": node.name, "inputs": list(node.inputs)}
        tables.append({**place, **table})
    found: dict[str, Any] = {"format": FORMAT, "version": version, "input_shape": list(model.input_shape)}
    if model.output != model.given[-1].name:
        found["output"] = model.output
    found |= {"seed": model.seed, "layers": tables}
    classes = getattr(model, "classes", None)
    return found if classes is None else {**found, "classes": list(checked_classes(classes))}


def checked_classes(given: Any) -> tuple[str | int | float, ...]:
    """Return the names of classes as Python's text and numbers.

    Parameters
    ----------
    given : sequence of str, int or float
        The names, of which a file may say anything.

    Raises
    ------
    ConfigError
        It is no sequence of names and finite numbers, or has none.
    """
    names = several(given)
    if not names:
        raise ConfigError(f"classes is {shown(given)}; a list of names or numbers is required")
    labels = tuple(map(plain, names))
    for index, label in enumerate(labels):
        if type(label) not in (str, int, float) or (type(label) is float and not math.isfinite(label)):
            raise ConfigError(f"classes[{index}] is {shown(label)}; a name or a finite number is required")
    return labels
