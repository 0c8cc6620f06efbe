"""The check of a layer."""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba import device as devices
from fgnumba.errors import ShapeError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.threads import most_threads
from fgnumba.kernels.machine.work import THREAD_WORK
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.rules.philox import MAX_SEED
from fgnumba.layers import Layer, Shape
from fgnumba.model.directions import BY_NAME
from fgnumba.testing.arguments import function, instance, numbers, returned
from fgnumba.testing.comparison import compare, largest, require, same_bits
from fgnumba.testing.differences import OWN_TOLERANCE, along, along_own
from fgnumba.testing.given import LAYER, Array, OfThreads, Pass, Point, Subject, Tangent
from fgnumba.validation import flag, optional, real_number, several, whole_number

Reference = Callable[..., npt.ArrayLike]
"""Function of the inputs (B, ...), float64 arrays, and of the parameters as keyword arguments; returns the outputs."""

DIRECTIONS = 3
"""Directions of a pass: two, and their sum."""
BATCHES = (1, 2, 7, 13)
"""Batch sizes: one example, and primes, so that no size is a multiple of a vector's or a tile's."""
MOST_NUMBERS = 1 << 22
"""Numbers in a large batch, inputs and tangents together."""


def check_layer(
    layer: Layer,
    input_shape: Shape | int | Sequence[Shape],
    reference: Reference | None = None,
    *,
    parameters: Mapping[str, npt.ArrayLike] | None = None,
    tolerance: float = 1e-5,
    scale: float = 1.0,
    training: bool = False,
    device: str | Device = "cpu",
    seed: int = 0,
) -> None:
    """Check that a layer computes its values and tangents right, alone and in every way in which a model runs it.

    The layer is held to the following.

    - It states its shapes: ``output_shape`` and ``parameter_shapes`` agree with what is computed and with
      ``initial_parameters``, which are float32, finite, and the same for the same generator.
    - Its values agree with `reference`, for batches of 1, 2, 7 and 13 examples.
    - Its tangents agree with the derivative of `reference`, taken by central differences in float64; without one, with
      differences of the layer's own values. So they do where an input's tangent is a symbolic zero, and where the
      parameters stand still.
    - Its tangents are linear in the direction.
    - Directions that the layer draws by itself are those that ``Direction.materialize`` returns.
    - Values are the same with and without tangents, and where an activation is fused into the layer.
    - An example's results do not depend on the batch that it is in, on how the batch is cut into parts, or on the
      number of threads: bit for bit.
    - Results do not depend on what ran before, bit for bit; the layer leaves its inputs as they are; copies of the
      model compute the same.

    Parameters
    ----------
    layer : Layer
        Layer to check.
    input_shape : tuple of int, int, or list of tuple
        Shape of one example; a list of shapes for a layer of several inputs.
    reference : callable, optional
        ``reference(*inputs, **parameters)`` returns the outputs (B, ...) in float64, given inputs (B, ...) in float64
        and the parameters by name. It should share no code with the layer.
    parameters : mapping of str to array_like, optional
        Parameters at which the layer is checked. By default its initial ones plus normal numbers with a standard
        deviation of 0.1.
    tolerance : float
        Greatest error, as a share of the largest value or tangent of an output. Without a reference it is at least
        3e-3 for tangents, which is what differences of float32 values can tell.
    scale : float
        Standard deviation of the inputs, which are normal numbers.
    training : bool
        Whether the layer is bound as for training, where dropout drops. A layer may then treat an example by its
        number in the batch, so that examples are not compared between batches.
    device : str or Device
        Device whose kernels are checked.
    seed : int
        Seed of inputs, parameters and directions.

    Raises
    ------
    AssertionError
        The layer breaks one of the rules; the message says which, where, and by how much.
    ShapeError, ConfigError
        An argument is not of its kind, or a shape or a number is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.testing.check_layer(fg.Dense(3), 5, lambda x, weight, bias: x @ weight + bias)
    """
    instance("layer", layer, Layer)
    optional(function, "reference", reference)
    check = _LayerCheck(layer, input_shape, reference, parameters, tolerance, scale, training, device, seed)
    check.shapes()
    for batch in BATCHES:
        check.values(batch)
    check.tangents()
    check.drawn_directions()
    check.fused_activation()
    check.examples_apart()
    check.threads()
    check.repetition()


class _LayerCheck:
    def __init__(
        self,
        layer: Layer,
        input_shape: Shape | int | Sequence[Shape],
        reference: Reference | None,
        parameters: Mapping[str, npt.ArrayLike] | None,
        tolerance: float,
        scale: float,
        training: bool,
        device: str | Device,
        seed: int,
    ) -> None:
        self.layer, self.reference = layer, reference
        self.tolerance = real_number("tolerance", tolerance)
        self.scale = real_number("scale", scale, above_zero=True)
        self.kind = layer.kind
        self.inputs = _shapes(input_shape)
        self.training, self.seed = flag("training", training), whole_number("seed", seed, 0, MAX_SEED)
        self.subject = Subject(layer, self.inputs, devices.resolve(device), self.training)
        self.parameters = self._parameters(parameters)
        self.small = BATCHES[2]

    def _parameters(self, given: Mapping[str, npt.ArrayLike] | None) -> dict[str, Array]:
        if given is not None:
            return {name: values.astype(np.float32) for name, values in numbers("parameters", given).items()}
        rng = np.random.default_rng(self.seed)
        initial = self.layer.initial_parameters(self.inputs, np.random.default_rng(self.seed))
        return {
            name: (values + 0.1 * rng.standard_normal(values.shape)).astype(np.float32)
            for name, values in initial.items()
        }

    def point(self, batch: int, seed: int = 1) -> Point:
        rng = np.random.default_rng((self.seed, seed))
        return Point(tuple(self._numbers(rng, batch, shape) for shape in self.inputs), self.parameters)

    def _numbers(self, rng: np.random.Generator, batch: int, shape: Shape) -> Array:
        symbols = self.layer.symbols_read()
        if symbols is not None:
            return rng.integers(0, symbols, (batch, *shape)).astype(np.float32)
        numbers = rng.standard_normal((batch, *shape), np.float32)
        return np.float32(self.scale) * numbers

    def directions(self, batch: int) -> list[Tangent]:
        """Return two directions of multiples of 1/64, and their sum, which is exact."""
        rng = np.random.default_rng((self.seed, 2))

        def rounded(shape: tuple[int, ...]) -> Array:
            return np.round(rng.standard_normal(shape, np.float32) * np.float32(64)) / np.float32(64)

        shapes = [(batch, *shape) for shape in self.inputs]
        inputs = [tuple(rounded(shape) for shape in shapes) for _ in range(2)]
        moves = [{name: rounded(values.shape) for name, values in self.parameters.items()} for _ in range(2)]
        inputs.append(tuple(map(np.add, *inputs)))
        moves.append({name: moves[0][name] + moves[1][name] for name in self.parameters})
        found = [Tangent(dx, move) for dx, move in zip(inputs, moves, strict=True)]
        return [one.of_inputs((False,)) for one in found] if self.subject.takes_symbols else found

    def expected(self, point: Point) -> Array:
        assert self.reference is not None
        return returned(f"{self.kind}: reference", self.reference(*point.inputs, **point.parameters))

    def shapes(self) -> None:
        shape = self.layer.output_shape(*self.inputs)
        require(
            isinstance(shape, tuple) and all(type(size) is int and size >= 1 for size in shape),
            f"{self.kind}: output_shape returned {shape!r}; a tuple of whole numbers of at least 1 is expected",
        )
        stated = dict(self.layer.parameter_shapes(self.inputs))
        drawn = [self.layer.initial_parameters(self.inputs, np.random.default_rng(5)) for _ in range(2)]
        found = {name: values.shape for name, values in drawn[0].items()}
        require(
            stated == found and list(stated) == list(found),
            f"{self.kind}: parameter_shapes returned {stated}, and initial_parameters has shapes {found}",
        )
        for name, values in drawn[0].items():
            require(
                values.dtype == np.float32 and bool(np.isfinite(values).all()),
                f"{self.kind}: initial parameter {name!r} is {values.dtype}; finite float32 is expected",
            )
            same_bits(
                f"{self.kind}: initial parameter {name!r}, drawn again from the same seed,",
                drawn[1][name],
                values,
            )
        require(
            {name: values.shape for name, values in self.parameters.items()} == stated,
            f"{self.kind}: the parameters to check at do not have the shapes {stated}",
        )
        require(
            copy.deepcopy(self.layer).output_shape(*self.inputs) == shape,
            f"{self.kind}: a copy of the layer has another output shape",
        )

    def values(self, batch: int) -> None:
        point = self.point(batch)
        result = self.subject.run(point)
        where = f"{self.kind}, {batch} examples"
        stated = self.layer.output_shape(*self.inputs)
        require(
            result.shape == (1, batch, *stated),
            f"{where}: the output's shape is {result.shape[2:]}, {stated} is stated",
        )
        if self.reference is not None:
            expected = self.expected(point.wide())
            require(
                expected.shape == (batch, *stated),
                f"{where}: the reference has shape {expected.shape}; {(batch, *stated)} is expected",
            )
            compare(f"{where}: value", result[0], expected, self.tolerance * largest(expected))

    def tangents(self) -> None:
        """Check tangents for every choice of inputs that have one, with parameters that move and that stand still."""
        point, directions = self.point(self.small), self.directions(self.small)
        primal = self.subject.run(point)[0]
        choices = [(False,)] if self.subject.takes_symbols else _choices(len(self.inputs))
        for which, moves in product(choices, (True, False)):
            if not any(which) and not (moves and self.parameters):
                continue
            if moves and not self.parameters:
                continue
            used = [one.of_inputs(which) for one in directions]
            used = used if moves else [one.standing for one in used]
            where = f"{self.kind}, {_described(which, moves)}"
            result = self.subject.run(point, used)
            require(
                len(result) == 1 + DIRECTIONS,
                f"{where}: the output has {len(result) - 1} tangents; {DIRECTIONS} are expected",
            )
            compare(f"{where}: value beside tangents", result[0], primal, self.tolerance * largest(primal))
            for t in range(2):
                self._against_differences(f"{where}: tangent {t}", result[1 + t], point, used[t])
            size = largest(result[1:])
            total = result[1].astype(np.float64) + result[2]
            compare(
                f"{where}: tangent along the sum of two directions", result[3], total, self.tolerance * size
            )

    def _against_differences(self, where: str, result: Array, point: Point, tangent: Tangent) -> None:
        if self.reference is not None:
            expected, undecided = along(self.expected, point, tangent)
            allowed = self.tolerance * largest(expected)
        else:
            expected, undecided = along_own(lambda at: self.subject.run(at)[0], point, tangent)
            share = max(self.tolerance, OWN_TOLERANCE)
            allowed = share * (largest(expected) + largest(self.subject.run(point)))
        compare(where, result, expected, allowed, undecided)

    def drawn_directions(self) -> None:
        if not self.parameters:
            return
        point, directions = self.point(self.small), self.directions(self.small)[:2]
        for name, family in BY_NAME.items():
            one = family(seed=self.seed, step=3, index=2)
            drawn, model = [], self.subject.graph(point, directions)
            source = self.subject.source(point)
            for t, tangent in enumerate(directions):
                v = family(one.seed, one.step, one.index + t).materialize(model)
                own = {name: v[f"{LAYER}.{name}"] for name in self.parameters}
                drawn.append(Tangent(tangent.inputs, own))
            found = Pass(model, source, directions, family.kind, one, self.training).run()
            explicit = Pass(model, source, drawn, EXPLICIT, one, self.training).run()
            where = f"{self.kind}, {name} directions drawn by the layer"
            compare(f"{where}: values", found[0], explicit[0], self.tolerance * largest(explicit[0]))
            for t in range(2):
                expected = explicit[1 + t]
                compare(f"{where}: tangent {t}", found[1 + t], expected, self.tolerance * largest(expected))

    def fused_activation(self) -> None:
        if self.layer.with_activation("tanh") is None:
            return
        point, directions = self.point(self.small), self.directions(self.small)
        plain = self.subject.run(point, directions).astype(np.float64)
        fused = self.subject.run(point, directions, activation="tanh")
        value = np.tanh(plain[0])
        where = f"{self.kind} with tanh fused into it"
        compare(f"{where}: value", fused[0], value, self.tolerance * largest(plain[0]))
        for t in range(DIRECTIONS):
            expected = (1 - value**2) * plain[1 + t]
            compare(f"{where}: tangent {t}", fused[1 + t], expected, self.tolerance * largest(plain[1 + t]))

    def examples_apart(self) -> None:
        """Compare a batch with its examples one by one, and with its halves."""
        if self.training:
            return
        batch = BATCHES[-1]
        point, directions = self.point(batch), self.directions(batch)
        whole = self.subject.run(point, directions)
        for size in (1, 5):
            for first in range(0, batch, size):
                chosen = slice(first, min(batch, first + size))
                part = self.subject.run(point.examples(chosen), [one.examples(chosen) for one in directions])
                same_bits(
                    f"{self.kind}: examples {first} to {chosen.stop - 1} alone, beside a batch of {batch}: result",
                    part,
                    whole[:, chosen],
                )

    def threads(self) -> None:
        """Compare one thread with several on a batch that is large enough to be shared, and both with its pieces."""
        if not self.subject.device.by_parts:
            return
        batch = self._large()
        point, directions = self.point(batch, seed=3), self.directions(batch)
        runs = {
            threads: self.subject.run(point, directions, device=OfThreads(threads, self.subject.device))
            for threads in range(1, min(3, most_threads()) + 1)
        }
        for threads, found in runs.items():
            same_bits(
                f"{self.kind}, {batch} examples on {threads} threads beside one: result", found, runs[1]
            )
        if not self.training:
            last = slice(batch - self.small, batch)
            part = self.subject.run(point.examples(last), [one.examples(last) for one in directions])
            same_bits(
                f"{self.kind}: the last of {batch} examples, beside them alone: result",
                runs[1][:, last],
                part,
            )

    def _large(self) -> int:
        """Return a batch size at which three threads share the work, or as much as memory is meant to hold."""
        sizes = [int(np.prod(shape)) for shape in (*self.inputs, self.layer.output_shape(*self.inputs))]
        work = self.layer.multiply_adds(self.inputs) + sum(sizes)
        wanted = 3 * THREAD_WORK // (work * (1 + DIRECTIONS)) + 1
        return max(2 * BATCHES[-1] + 1, min(wanted, MOST_NUMBERS // (sum(sizes) * (1 + DIRECTIONS))))

    def repetition(self) -> None:
        """Run twice, into memory that holds NaN the second time; run a copy; look at the inputs afterwards."""
        point, directions = self.point(self.small), self.directions(self.small)
        model, source = self.subject.graph(point, directions), self.subject.source(point)
        once = Pass(model, source, directions, training=self.training)
        first = once.run()
        once.spoil()
        same_bits(f"{self.kind}, run again: result", once.run(), first)
        copied = Pass(copy.deepcopy(model), source, directions, training=self.training)
        same_bits(f"{self.kind}, a copy of the model: result", copied.run(), first)
        if self.subject.takes_symbols:
            same_bits(
                f"{self.kind}: the symbols once the layer has run", source, self.point(self.small).inputs[0]
            )
            return
        beside = self.subject.run(point, directions, beside_input=True)
        width = int(np.prod(self.layer.output_shape(*self.inputs)))
        left = beside[:, :, width:]
        for i, x in enumerate(point.inputs):
            size = int(np.prod(self.inputs[i]))
            blocks = np.stack([x, *(dx for one in directions if (dx := one.inputs[i]) is not None)])
            given = blocks.reshape(1 + DIRECTIONS, self.small, size).astype(np.float32)
            same_bits(f"{self.kind}: input {i} once the layer has run", left[:, :, :size], given)
            left = left[:, :, size:]


def _shapes(given: Any) -> tuple[Shape, ...]:
    """Return the shape of each input, having checked that they are whole numbers."""
    sizes = several(given)
    if sizes is None:
        return ((whole_number("input_shape", given),),)
    if not sizes:
        raise ShapeError(f"input_shape is {shown(given)}; whole numbers of at least 1 are required")
    if any(several(one) is not None for one in sizes):
        return tuple(_shapes(one)[0] for one in sizes)
    return (tuple(whole_number("input_shape", one) for one in sizes),)


def _choices(inputs: int) -> list[tuple[bool, ...]]:
    """Return which inputs have a tangent: every choice of up to two inputs, else all, none, and each alone."""
    if inputs <= 2:
        return list(product((True, False), repeat=inputs))
    alone = [tuple(i == j for j in range(inputs)) for i in range(inputs)]
    return [(True,) * inputs, (False,) * inputs, *alone]


def _described(which: tuple[bool, ...], moves: bool) -> str:
    inputs = ", ".join(f"input {i}" for i, one in enumerate(which) if one) or "no input"
    return f"with a tangent of {inputs} and parameters that {'move' if moves else 'stand still'}"
