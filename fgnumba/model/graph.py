"""Models: layers that are wired to a graph, with their parameters."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from fgnumba import device as devices
from fgnumba.errors import ConfigError, DtypeError, ShapeError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.rules.directions import EXPLICIT, NONE
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS, MAX_SEED, STREAM
from fgnumba.layers import Perturbation, Shape
from fgnumba.layers.base import sizes
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter, assign_all, checked, shapes_of
from fgnumba.model.nodes import Node, check_uses, wired, written_out
from fgnumba.model.plan import Plan
from fgnumba.model.recent import Recent
from fgnumba.model.sequence_model import SequenceModel
from fgnumba.model.sizes import check_example, check_parameters, checked_batch, shape_of
from fgnumba.model.symbols import check_symbols, symbols_read
from fgnumba.objects.attributes import own_attributes, take_attributes
from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation import flag, whole_number
from fgnumba.validation.arrays import REAL, as_array, as_tensor

FORWARD_BATCH, DEVICE_BATCH = 256, 4096
"""Examples that a pass without a loss takes at a time, on the CPU and on a GPU, so that its buffers stay small."""

Provider = Callable[[Mapping[str, Shape]], Mapping[str, npt.ArrayLike]]
"""A function that returns parameters, given their names and shapes."""


class Graph(SequenceModel):
    """A model whose layers are wired explicitly.

    A copy of a model (``copy``, ``pickle``) has its own parameters, with the same values.

    Parameters
    ----------
    nodes : sequence of Node
        The layers, in an order in which each reads only earlier ones.
    input_shape : tuple of int, or int
        The shape of one example: (K,), or (H, W, C) for images. A whole number K stands for (K,).
    output : str, optional
        The name of the node whose output is the model's. By default it is the last node.
    seed : int, optional
        The seed of the initial parameters, which are the same on every machine. By default 0.
    device : str or Device, optional
        ``auto`` (the default), ``cpu``, ``cuda``, or a device such as ``fgnumba.device.cpu(precision="bf16x2")`` or
        ``fgnumba.device.cuda(precision="tf32")``.
    initial : callable, optional
        A function that returns the initial parameters, given their names and shapes. By default they are drawn.

    Attributes
    ----------
    nodes : tuple of Node
        The layers with their inputs written out. In place of a composite, such as a :class:`TransformerBlock`, there
        are nodes of its parts.
    given : tuple of Node
        The same as they were given, with composites.
    positions : int
        The number of positions L of the output, if it is a sequence (L, N), else 1.
    outputs : int
        The number N of outputs at each position.
    symbols : int or None
        The number of symbols V, if the input are symbols 0, …, V - 1; None if it are numbers.
    classes : tuple of str, int or float, or None
        What each class is called in the data on which the model was trained; None: 0, 1, ….

    Raises
    ------
    ShapeError
        If a layer does not accept the shape of its input, or the model needs more memory than the machine has.
    ConfigError
        If a name is impossible, unknown or there twice, a node feeds no other, no layer computes, or the seed is wrong.
    DeviceError
        If the device is unknown or not there, or the processor does not have its precision.

    Examples
    --------
    A residual block:

    >>> import fgnumba as fg
    >>> model = fg.Graph(
    ...     [
    ...         fg.Node("stem", fg.Conv2d(16, 3, padding="same", activation="relu")),
    ...         fg.Node("body", fg.Conv2d(16, 3, padding="same")),
    ...         fg.Node("sum", fg.Add(activation="relu"), ("stem", "body")),
    ...         fg.Node("mean", fg.GlobalAveragePool2d()),
    ...         fg.Node("head", fg.Dense(10)),
    ...     ],
    ...     input_shape=(28, 28, 1),
    ... )
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        input_shape: Shape | int,
        output: str | None = None,
        seed: int = 0,
        device: str | Device = "auto",
        initial: Provider | None = None,
    ) -> None:
        before = frozenset(vars(self))
        self.processor = devices.resolve(device)
        self.device = self.processor.name
        self.input_shape = shape_of("input_shape", input_shape)
        check_example("input_shape", self.input_shape)
        self.seed = whole_number("seed", seed, 0, MAX_SEED)
        self.given = wired(nodes)
        self.nodes = written_out(self.given, self.input_shape, self._place)
        if all(node.layer.is_view(training=True) for node in self.nodes):
            raise ConfigError("layers: at least one that computes is required, for example Dense(10)")
        self.output = self.nodes[-1].name if output is None else output
        check_uses(self.given, self.output)
        self.symbols = symbols_read(self.nodes)
        self._find_shapes()
        self._of_layers: list[dict[str, Parameter]] = []
        self._parameters: dict[str, Parameter] = {}
        self._create_parameters(initial)
        self._plans: Recent[Any, Plan] = Recent()
        # A view for another length has the same parameters, and so the same version.
        self._version = [object()]
        self.classes: tuple[Any, ...] | None = None
        self._lock = threading.RLock()
        self._learner: Any = None
        self._own = frozenset((*vars(self), "_own")) - before
        _models.add(self)

    def _find_shapes(self) -> None:
        """Set the shapes of all values, which follow from that of the input."""
        self.shapes: dict[str, Shape] = {"input": self.input_shape}
        for index, node in enumerate(self.nodes):
            try:
                shape = node.layer.output_shape(*self.input_shapes(index))
            except ShapeError as error:
                raise ShapeError(f"{self._where(index)}: {error}") from None
            shape = shape_of(f"{self._where(index)}: the output's shape", shape)
            check_example(f"{self._where(index)}: the output", shape)
            self.shapes[node.name] = shape
        self.output_shape = self.shapes[self.output]
        self.positions = self.output_shape[0] if len(self.output_shape) == 2 else 1
        self.outputs = math.prod(self.output_shape) // self.positions

    def _where(self, index: int) -> str:
        """Return what messages call node `index`."""
        return self._place(self.nodes[index].name)

    def _place(self, name: str) -> str:
        """Return what messages call the node of that name."""
        return f"layer {name!r}"

    def input_shapes(self, index: int) -> list[Shape]:
        """Return the shapes of the inputs of node `index`."""
        index = whole_number("index", index, 0, len(self.nodes) - 1)
        return [self.shapes[name] for name in self.nodes[index].inputs]

    def _create_parameters(self, initial: Provider | None) -> None:
        needed = [
            {name: sizes(shape) for name, shape in node.layer.parameter_shapes(self.input_shapes(i)).items()}
            for i, node in enumerate(self.nodes)
        ]
        groups = [node.layer.column_groups(self.input_shapes(i)) for i, node in enumerate(self.nodes)]
        check_parameters((self._where(i), own, groups[i]) for i, own in enumerate(needed))
        given = None
        if initial is not None:
            named = zip(self.nodes, needed, strict=True)
            shapes = {f"{node.name}.{name}": own[name] for node, own in named for name in own}
            given = checked(shapes, initial(shapes), "parameters")
        for index, node in enumerate(self.nodes):
            if given is None:
                generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], np.uint64)))
                values = node.layer.initial_parameters(self.input_shapes(index), generator)
            else:
                values = {name: given[f"{node.name}.{name}"] for name in needed[index]}
            of_layer = {}
            for name, array in values.items():
                full, number = f"{node.name}.{name}", len(self._parameters)
                together = 1 if name in node.layer.ungrouped else groups[index]
                of_layer[name] = Parameter.create(full, number, array, together, self.processor)
                self._parameters[full] = of_layer[name]
            self._of_layers.append(of_layer)

    @property
    def parameter_count(self) -> int:
        """The number P of scalar parameters."""
        return sum(math.prod(parameter.shape) for parameter in self._parameters.values())

    @property
    def packed_parameters(self) -> Mapping[str, Parameter]:
        """The parameters in the kernels' layout, by name."""
        return self._parameters

    def layer_parameters(self, index: int) -> dict[str, Parameter]:
        """Return the parameters of node `index`, by the layer's own names (``weight``, ``bias``, …)."""
        return self._of_layers[whole_number("index", index, 0, len(self.nodes) - 1)]

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies of all parameters by name: ``{"<layer>.weight": (K, N) float32, ...}``."""
        with self._lock:
            return {name: parameter.array() for name, parameter in self._parameters.items()}

    def load_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        """Replace all parameters by `parameters`, a mapping like that of :meth:`parameters`. An error changes nothing.

        Raises
        ------
        ShapeError, DtypeError, ConfigError
            If a name or a shape does not fit, an array does not hold real numbers, or a number is not finite in
            float32.
        """
        arrays = checked(shapes_of(self._parameters), parameters, "parameters")
        with self._lock:
            self.put_back(arrays)

    def __call__(self, x: Any) -> Any:
        """Return the outputs (B, *output_shape) float32 of the examples `x` (B, *input_shape), for any B >= 1.

        If `x` is an array on the model's GPU (it offers ``__cuda_array_interface__`` or DLPack), so are the outputs.
        ShapeError or DtypeError is raised unless it has that shape and holds real numbers (on a GPU, float32).
        """
        inputs = self.checked_input(x)
        if not isinstance(inputs, np.ndarray):
            return self._on_device(inputs)
        outputs = np.empty((len(inputs) * self.positions, self.outputs), np.float32)
        with self._lock:
            for part in self.parts(len(inputs)):
                plan = self.plan(part.stop - part.start)
                plan.run(inputs[part])
                rows = self.processor.values(plan.output[0])
                outputs[self.output_rows(part)] = rows[:, : outputs.shape[1]]
        return outputs.reshape(len(inputs), *self.output_shape)

    def parts(self, examples: int) -> Iterator[slice]:
        """Yield slices of the examples, each of which one pass takes."""
        examples = whole_number("examples", examples)
        size = FORWARD_BATCH if self.processor.by_parts else DEVICE_BATCH
        for start in range(0, examples, size):
            yield slice(start, min(examples, start + size))

    def _resized(self, input_shape: Shape) -> "Graph":
        view = Graph.__new__(Graph)
        vars(view).update({name: getattr(self, name) for name in self._own})
        view.input_shape, view._plans = input_shape, Recent()
        view._find_shapes()
        _models.add(view)
        return view

    @property
    def version(self) -> object:
        """Another object each time the parameters are replaced, or moved by a trainer."""
        return self._version[0]

    @version.setter
    def version(self, version: object) -> None:
        self._version[0] = version

    def output_rows(self, part: slice) -> slice:
        """Return the rows that the output of a range of examples has in a plan's output."""
        return slice(part.start * self.positions, part.stop * self.positions)

    def _on_device(self, inputs: Any) -> Any:
        """Return the outputs of an array that lies on the device, as an array on the device."""
        outputs = self.processor.zeros((len(inputs) * self.positions, self.outputs))
        with self._lock:
            for part in self.parts(len(inputs)):
                plan = self.plan(part.stop - part.start)
                plan.run(inputs[part])
                self.processor.copy_rows(outputs[self.output_rows(part)], plan.output[0])
        # The caller may free the input once this returns, so the device must be done reading it.
        outputs.synchronize()
        return outputs.reshape(len(inputs), *self.output_shape)

    def checked_input(self, x: Any) -> Any:
        """Return `x` as a NumPy array or a device array, after checking that it is (B, *input_shape) real numbers."""
        adopted = None if type(x) is np.ndarray else self.processor.adopt(as_tensor(x))
        array = as_array("x", x) if adopted is None else adopted
        if array.shape[1:] != self.input_shape or array.ndim == 0 or len(array) == 0:
            required = ", ".join(("B", *map(str, self.input_shape)))
            raise ShapeError(f"x has shape {array.shape}; ({required}) with B >= 1 is required")
        if array.dtype.kind not in REAL:
            raise DtypeError(f"x has dtype {array.dtype}; real numbers are required")
        if self.symbols is not None and isinstance(array, np.ndarray):
            check_symbols("x", array, self.symbols)
        if adopted is not None and array.dtype != np.float32:
            raise DtypeError(f"x has dtype {array.dtype} on the GPU; float32 is required there")
        return array

    def plan(
        self,
        batch: int,
        kind: int = NONE,
        count: int = 0,
        loss: Loss | None = None,
        training: bool = False,
        moving_input: bool = False,
    ) -> Plan:
        """Return the plan of these arguments, a kept one if there is one; the caller holds :attr:`lock`.

        `batch` is B, `kind` (a constant of ``kernels.rules.directions``) and `count` say kind and number of directions,
        a given `loss` is computed after the last layer, and `training` says whether dropout drops units. With a
        `moving_input` the tangents are the input's, and `kind` is NONE.
        """
        training, moving_input = flag("training", training), flag("moving_input", moving_input)
        batch = checked_batch(batch, self.input_shape)
        kind, count = whole_number("kind", kind, 0, EXPLICIT), whole_number("count", count, 0, MAX_DIRECTIONS)
        key = (batch, kind, count, loss and loss.key, training, moving_input)

        def bind() -> Plan:
            explicit = None
            if kind == EXPLICIT:
                explicit = {
                    name: self.processor.zeros((count, *p.packed.shape))
                    for name, p in self._parameters.items()
                }
            perturbation = Perturbation(kind, count, self.processor.zeros((1,), STREAM), explicit=explicit)
            return Plan(self, batch, perturbation, loss, training, moving_input=moving_input)

        return self._plans.of(key, bind)

    @property
    def lock(self) -> "threading.RLock":
        """The lock that is held while a plan runs, because the plans of a model share its parameters."""
        return self._lock

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments from which a like graph is made."""
        same = {name: getattr(self, name) for name in ("input_shape", "output", "seed")}
        return {"nodes": self.given, **same, "device": self.processor}

    def put_back(self, parameters: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Replace all parameters by what :meth:`parameters` returned; the numbers are not checked."""
        with self._lock, Uninterrupted():
            self.version = object()
            assign_all(list(self._parameters.values()), [parameters[name] for name in self._parameters])

    def __reduce__(self) -> Any:
        # Plans hold addresses of memory, so a copy makes its own. The copy is complete before it gets the attributes
        # that a subclass added, since one of them may be a trainer of the model.
        more = {"classes": self.classes, **own_attributes(self, self._own)}
        return _copied, (type(self), self._arguments(), self.parameters()), more

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        take_attributes(self, attributes)

    def __repr__(self) -> str:
        nodes = ", ".join(f"{node.name}={node.layer}{list(node.inputs)}" for node in self.given)
        return f"Graph({nodes}, input_shape={self.input_shape}, device={self.processor.text})"


def _copied(
    kind: type[Graph], arguments: dict[str, Any], parameters: dict[str, npt.NDArray[np.float32]]
) -> Graph:
    """Return a model of class `kind`, whose own ``__init__`` may take other arguments, with these parameters."""
    model = kind.__new__(kind)
    zero = np.zeros(1, np.float32)
    Graph.__init__(
        model,
        **arguments,
        initial=lambda shapes: {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()},
    )
    model.put_back(parameters)
    return model


_models: WeakSet[Graph] = WeakSet()


def _renew_locks() -> None:
    """Give all models new locks in a forked child, where threads that held the old ones do not exist."""
    new = {id(model._lock): threading.RLock() for model in _models}
    for model in _models:
        model._lock = new[id(model._lock)]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
