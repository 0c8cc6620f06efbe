"""A layer under test, between inputs whose values and tangents the checker chooses and the model's output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import CPU, Cpu, Device
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.layers import Activation, Concatenate, Flatten, Layer, Perturbation, Shape, Site
from fgnumba.layers.base import Initial
from fgnumba.model.directions import Direction
from fgnumba.model.graph import Graph
from fgnumba.model.nodes import Node
from fgnumba.model.plan import Plan

LAYER = "layer"
"""Name of the node that is the layer under test."""

Array = npt.NDArray[Any]


class OfThreads(Cpu):
    """The processor, with a number of threads of its own.

    Parameters
    ----------
    threads : int
        Threads that share the work, at most as many as the process may use.
    like : Device, optional
        The processor whose precisions of products it has. By default those of a model that names none.
    """

    def __init__(self, threads: int, like: Device = CPU) -> None:
        super().__init__(*like.precisions)
        self._threads = thread_count(threads)

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        return self._threads


@dataclass(frozen=True)
class Point:
    """Where a layer is evaluated.

    Parameters
    ----------
    inputs : sequence of ndarray
        Values (B, ...) float32, an array for each input.
    parameters : mapping of str to ndarray
        Values by the layer's own names.
    """

    inputs: tuple[Array, ...]
    parameters: Mapping[str, Array]

    def moved(self, tangent: "Tangent", by: float) -> "Point":
        """Return the point θ + by · v, in the dtype of this one.

        Parameters
        ----------
        tangent : Tangent
            The direction v; a symbolic zero moves nothing.
        by : float
            How far.
        """
        inputs = tuple(
            x if dx is None else (x + x.dtype.type(by) * dx.astype(x.dtype))
            for x, dx in zip(self.inputs, tangent.inputs, strict=True)
        )
        given = tangent.parameters
        parameters = {
            name: values + values.dtype.type(by) * given[name].astype(values.dtype)
            if name in given
            else values
            for name, values in self.parameters.items()
        }
        return Point(inputs, parameters)

    def wide(self) -> "Point":
        """Return the same point in float64."""
        return Point(
            tuple(x.astype(np.float64) for x in self.inputs),
            {name: values.astype(np.float64) for name, values in self.parameters.items()},
        )

    def examples(self, chosen: slice) -> "Point":
        """Return the same point with some of its examples.

        Parameters
        ----------
        chosen : slice
            Which examples.
        """
        return Point(tuple(np.ascontiguousarray(x[chosen]) for x in self.inputs), self.parameters)

    @property
    def batch(self) -> int:
        """Number of examples."""
        return len(self.inputs[0])


@dataclass(frozen=True)
class Tangent:
    """A direction in which a layer's inputs and parameters move.

    Parameters
    ----------
    inputs : sequence of ndarray or None
        Tangents (B, ...) of the inputs; None is a symbolic zero.
    parameters : mapping of str to ndarray
        Tangents of the parameters by the layer's own names; one that is missing stands still.
    """

    inputs: tuple[Array | None, ...]
    parameters: Mapping[str, Array]

    def examples(self, chosen: slice) -> "Tangent":
        """Return the same direction for some of the examples.

        Parameters
        ----------
        chosen : slice
            Which examples.
        """
        inputs = tuple(None if dx is None else np.ascontiguousarray(dx[chosen]) for dx in self.inputs)
        return Tangent(inputs, self.parameters)

    def of_inputs(self, which: Sequence[bool]) -> "Tangent":
        """Return the direction with symbolic zeros in place of some inputs' tangents.

        Parameters
        ----------
        which : sequence of bool
            Whether each input keeps its tangent.
        """
        inputs = tuple(dx if keeps else None for dx, keeps in zip(self.inputs, which, strict=True))
        return replace(self, inputs=inputs)

    @property
    def standing(self) -> "Tangent":
        """The direction along which the parameters stand still."""
        return replace(self, parameters={})


@dataclass(frozen=True, eq=False)
class Given(Layer):
    """A layer whose output is a dual array that the checker made: it reads none of its input.

    Parameters
    ----------
    dual : ndarray
        Values and tangents, (1 + T, B, K) float32, or (1, B, K) for a symbolic zero.
    shape : tuple of int
        Shape of one example, of K elements.
    """

    dual: Array
    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one example."""
        return self.shape

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return one parameter where there are tangents: without any, a tangent would be a symbolic zero."""
        return {"given": (1,)} if len(self.dual) > 1 else {}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return a zero, which nothing reads."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.parameter_shapes(inputs).items()}

    def bind(self, site: Site) -> list[Operation]:
        """Return a copy of the array to where the next layer reads it."""
        memory = site.device.array(self.dual)
        images = Images.of_batch(memory, self.shape, len(self.dual) > 1, site.images)
        return Activation("identity").bind(replace(site, inputs=(images,)))


class Subject:
    """A layer under test.

    Parameters
    ----------
    layer : Layer
        The layer.
    shapes : sequence of tuple of int
        Shape of one example, for each input.
    device : Device
        Device whose kernels are checked.
    training : bool
        Whether the layer is bound as for training.
    """

    def __init__(self, layer: Layer, shapes: Sequence[Shape], device: Device, training: bool) -> None:
        self.layer, self.shapes, self.device, self.training = layer, tuple(shapes), device, training

    def graph(
        self,
        point: Point,
        tangents: Sequence[Tangent] = (),
        activation: str | None = None,
        beside_input: bool = False,
        device: Device | None = None,
    ) -> Graph:
        """Return a model of the layer alone, at a point.

        Parameters
        ----------
        point : Point
            Values of inputs and parameters.
        tangents : sequence of Tangent
            Tangents of the inputs, T of them.
        activation : str, optional
            Activation that follows the layer.
        beside_input : bool
            Whether the model's output is the layer's, followed by the layer's inputs as they are once it has run.
        device : Device, optional
            Another device than the subject's.

        Returns
        -------
        Graph
            The model. Its own input is one number, which nothing reads, or the symbols that the layer takes.
        """
        nodes, shape = self._inputs(point, tangents)
        names = tuple(node.name for node in nodes) or ("input",)
        nodes.append(Node(LAYER, self.layer, names))
        if activation is not None:
            nodes.append(Node("activation", Activation(activation), (LAYER,)))
        if beside_input:
            flat = [Node(f"flat-{name}", Flatten(), (name,)) for name in (LAYER, *names)]
            nodes += [*flat, Node("all", Concatenate(), tuple(node.name for node in flat))]
        model = Graph(nodes, shape, device=device or self.device)
        own = {f"{LAYER}.{name}": values for name, values in point.parameters.items()}
        model.load_parameters({**model.parameters(), **own})
        return model

    @property
    def takes_symbols(self) -> bool:
        """Whether the layer takes symbols, which only the input of a model can be."""
        return self.layer.symbols_read() is not None

    def _inputs(self, point: Point, tangents: Sequence[Tangent]) -> tuple[list[Node], Shape]:
        """Return nodes that give the layer its inputs, and the shape of the model's own input."""
        if self.takes_symbols:
            return [], self.shapes[0]
        nodes = []
        for i, (shape, x) in enumerate(zip(self.shapes, point.inputs, strict=True)):
            blocks = [x, *(dx for dx in (tangent.inputs[i] for tangent in tangents) if dx is not None)]
            dual = np.ascontiguousarray(
                np.stack(blocks).reshape(len(blocks), point.batch, -1), dtype=np.float32
            )
            nodes.append(Node(f"given{i}", Given(dual, shape), ("input",)))
        return nodes, (1,)

    def source(self, point: Point) -> Array:
        """Return the input of the model of :meth:`graph`."""
        return point.inputs[0] if self.takes_symbols else np.zeros((point.batch, 1), np.float32)

    def run(
        self,
        point: Point,
        tangents: Sequence[Tangent] = (),
        kind: int = EXPLICIT,
        direction: Direction | None = None,
        **options: Any,
    ) -> Array:
        """Return the layer's dual output (1 + T, B, ...) at a point.

        Parameters
        ----------
        point : Point
            Values of inputs and parameters.
        tangents : sequence of Tangent
            Directions, T of them.
        kind : int
            How the parameters move, a constant of ``fgnumba.kernels.rules.directions``.
        direction : Direction, optional
            First of the directions that are drawn; where there is none, seed and step are 0.
        **options
            As :meth:`graph` takes them.
        """
        model = self.graph(point, tangents, **options)
        return Pass(model, self.source(point), tangents, kind, direction, self.training).run()


class Pass:
    """A pass of a model that :meth:`Subject.graph` made.

    Parameters
    ----------
    model : Graph
        The model.
    source : ndarray
        Input of the model, as :meth:`Subject.source` returns it.
    tangents : sequence of Tangent
        Directions, T of them.
    kind : int
        How the parameters move, a constant of ``fgnumba.kernels.rules.directions``.
    direction : Direction, optional
        First of the directions that are drawn; where there is none, seed and step are 0.
    training : bool
        Whether the model is bound as for training.
    """

    def __init__(
        self,
        model: Graph,
        source: Array,
        tangents: Sequence[Tangent] = (),
        kind: int = EXPLICIT,
        direction: Direction | None = None,
        training: bool = False,
    ) -> None:
        device, count = model.processor, len(tangents)
        explicit = None
        if kind == EXPLICIT:
            explicit = {
                name: device.zeros((count, *one.packed.shape))
                for name, one in model.packed_parameters.items()
            }
            for t, tangent in enumerate(tangents):
                for name, values in tangent.parameters.items():
                    full = f"{LAYER}.{name}"
                    model.packed_parameters[full].assign(values.astype(np.float32), explicit[full][t])
        stream = np.zeros(1, STREAM)
        set_stream(stream, *((direction.seed, direction.step) if direction else (0, 0)))
        first = direction.number if direction else 0
        perturbation = Perturbation(kind, count, device.array(stream), first, explicit)
        self._model, self._source = model, source
        self._plan = Plan(model, len(source), perturbation, None, training)

    def run(self) -> Array:
        """Return the dual output (1 + T, B, ...)."""
        self._plan.run(self._source)
        values = self._model.processor.values(self._plan.output)[:, :, : self._model.outputs]
        return np.array(values).reshape(len(values), len(self._source), *self._model.output_shape)

    def spoil(self) -> None:
        """Write NaN to where the output will be."""
        output = self._plan.output
        self._model.processor.assign(output, np.full(output.shape, np.nan, np.float32))
