"""The layer that is a function of one example and of parameters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError

from fgnumba.errors import ConfigError, DeviceError, ShapeError, shown
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images, image_shape, operands, part_fields
from fgnumba.kernels.machine.arguments import filled
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import address, physical_memory, readable
from fgnumba.kernels.machine.program import Operation as CpuOperation
from fgnumba.kernels.machine.work import parts_for
from fgnumba.layers import function_gradient, function_parameters, own_function
from fgnumba.layers import function_kernels as kernels
from fgnumba.layers.base import Initial, Layer, Perturbation, Shape, Site, sizes
from fgnumba.layers.function_initial import (
    MAX_DIMENSIONS,
    Given,
    checked_parameters,
    initial_value,
    same_generator,
    shape_of,
)
from fgnumba.layers.parameters import Parameter
from fgnumba.objects.code import code_of, name_of
from fgnumba.objects.fingerprint import fingerprint
from fgnumba.validation import store
from fgnumba.validation.arrays import REAL


@dataclass(frozen=True, eq=False)
class Function(Layer):
    """A function y = f(x, p, …) of one example x and of parameters, computed by Numba.

        y_i  = f(x_i, p)
        dy_i = ∂f/∂x dx_i + ∂f/∂p dp

    :func:`fgnumba.differentiable` derives the function that computes value and tangent. f is called for one example and
    one direction at a time, on all threads, with float64 copies of x and the parameters; y and dy are kept in float32.

    Each direction of the parameters is stored while a pass runs, 8 P bytes. Activity perturbation takes the parameters'
    gradients from P tangents of f for each example, which are exact for the error signals that it has.

    Parameters
    ----------
    function : callable or str
        A Python function, one that ``numba.njit`` has decorated, or the name ``package.module:name`` of one. Its first
        argument is x, an array of the input's shape, without the batch; the others are the parameters, in the order of
        `parameters`. It returns a number, or an array of at most 4 dimensions whose shape does not depend on values. It
        may write to x, and not to a parameter. Where it raises an exception, y is NaN.
    parameters : mapping of str to ndarray, sequence of int, float or callable, optional
        The initial value of each parameter: an array; the shape of one, of zeros where it has one dimension, and else
        drawn from N(0, 1 / K), K being the product of the sizes before the last; a number, for an array (1,); or a
        function of a ``numpy.random.Generator`` that returns an array. By default there are none.

    Raises
    ------
    ConfigError
        An argument is not of this kind, or Numba cannot compile the function.
    ShapeError
        The input or the output has too many dimensions, or no numbers.
    DeviceError
        The model is not on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> def swish(x, beta):
    ...     return x / (1 + np.exp(-beta[0] * x))
    >>> layers = [fg.Dense(8), fg.layers.Function(swish, {"beta": 1.0}), fg.Dense(3)]
    >>> fg.Sequential(layers, 5, device="cpu").parameters()["1.beta"]
    array([1.], dtype=float32)
    """

    mixes_positions: ClassVar[bool] = True

    function: own_function.Function | str
    parameters: Mapping[str, Given] | None = None

    def __post_init__(self) -> None:
        what = "Function: function"
        given = self.function
        if isinstance(given, str):
            given = code_of(what, given)
        found = checked_parameters(self.parameters)
        store(
            self,
            function=own_function.checked_function(what, given, 1 + len(found)),
            parameters=found,
            _shapes={},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Function):
            return NotImplemented
        return self.function == other.function and fingerprint(self.parameters) == fingerprint(
            other.parameters
        )

    def __hash__(self) -> int:
        return hash((self.function, *self._given))

    def __repr__(self) -> str:
        name = name_of(self._own)
        return f"Function({name or own_function.described(self._own)}, {list(self._given)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Function":
        # It is immutable, and a copy of a Numba function would be compiled again.
        return self

    @property
    def _own(self) -> own_function.Function:
        assert callable(self.function)
        return self.function

    @property
    def _given(self) -> Mapping[str, Any]:
        return self.parameters or {}

    def table(self) -> dict[str, Any]:
        """Return the layer as plain values, with the shapes of parameters; ConfigError where f cannot be imported."""
        name = name_of(self._own)
        if name is None:
            raise ConfigError(
                f"Function: {own_function.described(self._own)} cannot be imported by a name, and a file cannot "
                "describe it; define it at the top of a module"
            )
        shapes = {name: list(shape) for name, shape in self.parameter_shapes([]).items()}
        return {"function": name, **({"parameters": shapes} if shapes else {})}

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters by name."""
        return {name: shape_of(given) for name, given in self._given.items()}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters by name."""
        return {name: initial_value(given, generator) for name, given in self._given.items()}

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of entries of the parameters that are matrices, each of which f surely multiplies."""
        return sum(math.prod(shape) for shape in self.parameter_shapes(inputs).values() if len(shape) > 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one example's output, (1,) where the function returns a number."""
        return self._returned_shape(sizes(inputs[0])) or (1,)

    def _returned_shape(self, shape: Shape) -> Shape:
        """Return the shape of what the function returns, from a call with zeros."""
        known: dict[Shape, Shape] = self._shapes  # type: ignore[attr-defined]
        if shape not in known:
            if not 1 <= len(shape) <= MAX_DIMENSIONS:
                raise ShapeError(
                    f"Function: the input's shape is {shape}; 1 to {MAX_DIMENSIONS} dimensions are possible"
                )
            known[shape] = self._called_with_zeros(shape)
        return known[shape]

    def _called_with_zeros(self, shape: Shape) -> Shape:
        name = own_function.described(self._own)
        # They are drawn in float32, and the function gets them in float64.
        needed = 12 * sum(map(math.prod, self.parameter_shapes([shape]).values()))
        if needed > physical_memory():
            raise ShapeError(
                f"Function: {name} has parameters of {readable(needed)}; "
                f"this machine has {readable(physical_memory())}"
            )
        parameters = self.initial_parameters([shape], same_generator())
        y = self._called(shape, [array.astype(np.float64) for array in parameters.values()])
        if isinstance(y, (bool, int, float)):
            return ()
        if not isinstance(y, np.ndarray) or y.dtype.kind not in REAL:
            raise ConfigError(
                f"Function: {name} returned {shown(y)}; an array of real numbers, or one, is required"
            )
        if not y.size or y.ndim > MAX_DIMENSIONS:
            raise ShapeError(
                f"Function: {name} returned an array of shape {y.shape}; one or more numbers in at most "
                f"{MAX_DIMENSIONS} dimensions are required"
            )
        return sizes(y.shape)

    def _called(self, shape: Shape, parameters: list[npt.NDArray[np.float64]]) -> Any:
        compiled, name = own_function.primal(self._own), own_function.described(self._own)
        for array in parameters:
            # All examples share the parameters, so that Numba is to refuse a function that writes to one.
            array.flags.writeable = False
        try:
            try:
                return compiled(np.zeros(shape), *parameters)
            except NumbaError as error:
                if "readonly" in str(error) or "read-only" in str(error):
                    reason = "it writes to a parameter, which all examples share; a copy is required"
                    raise ConfigError(f"Function: {name} cannot be compiled: {reason}") from None
                # A function of Numba's may take no array that is read-only.
                return compiled(np.zeros(shape), *map(np.array, parameters))
        except NumbaError as error:
            reason = own_function.in_one_line(error)
            raise ConfigError(f"Function: {name} cannot be compiled: {reason}") from None
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"Function: {name} raised {type(error).__name__} for zeros of shape {shape}: {error}"
            ) from None

    def signature(self, shape: Shape) -> kernels.Signature:
        """Return the dimensions of the arrays with which the function is called."""
        parameters = tuple(map(len, self.parameter_shapes([shape]).values()))
        return kernels.Signature(len(shape), len(self._returned_shape(shape)), parameters)

    def shapes(self, shape: Shape) -> npt.NDArray[np.int64]:
        """Return the sizes of all arrays as the kernels read them."""
        y, parameters = self._returned_shape(shape), self.parameter_shapes([shape]).values()
        arrays = (image_shape(shape), image_shape(y or (1,)), shape, y, *parameters)
        return np.array([size for one in arrays for size in one], np.int64)

    def bind(self, site: Site) -> list[Operation]:
        """Return the operations that compute the layer at `site`: parameters and directions first, then examples."""
        if not site.device.by_parts:
            raise DeviceError(
                f"Function: {own_function.described(self._own)} runs on the CPU alone; a model with device='cpu' "
                "is required"
            )
        shape = site.shapes[0] if site.shapes else site.inputs[0].shape
        parameters = [site.parameters[name] for name in self._given]
        values, filling = function_parameters.bind(site.isa, site.perturbation, parameters)
        x, y = site.inputs[0], site.output
        moves_x = x.has_tangent and site.perturbation.count > 0
        moves_parameters = bool(parameters) and len(values) > 1
        count = site.perturbation.count if moves_x or moves_parameters else 0
        entry = self._entry(shape, moves_x, moves_parameters, count)
        table = self.shapes(shape)
        fields, memory = operands(x=x, y=y)
        fields |= part_fields(site.batch, site.images)
        fields |= {
            "count": count,
            "shapes": address(table),
            "parameters": address(values),
            "block": 8 * values.shape[1],
        }
        memory["keeps"] = (memory["keeps"], table, values)
        scratch = 16 * (math.prod(x.shape) + math.prod(y.shape))
        arguments = filled(kernels.FORWARD, fields)
        operation = CpuOperation("function", entry, arguments, scratch_bytes=scratch, **memory)
        return [*filling, operation]

    def _entry(self, shape: Shape, moves_x: bool, moves_parameters: bool, count: int) -> int:
        signature = self.signature(shape)
        if not count:
            return kernels.value_kernel("function", own_function.primal_in_kernels(self._own), signature)
        tangent = own_function.tangent(self._own)
        with own_function.compiling("Function", self._own):
            return kernels.dual_kernel("function-dual", tangent, signature, moves_x, moves_parameters)

    def bind_gradient(
        self,
        isa: InstructionSet,
        threads: int,
        *,
        still: Perturbation,
        batch: int,
        shape: Shape,
        x: Images,
        delta: Images,
        parameters: Mapping[str, Parameter],
        targets: Mapping[str, npt.NDArray[np.float32]],
        onto: bool,
    ) -> list[Operation]:
        """Return the operations that write the parameters' gradients g_j = Σ_i δ_i · ∂y_i/∂p_j.

        Parameters
        ----------
        isa : InstructionSet
            The instruction set to bind for.
        threads : int
            Number of threads that share the parameters' entries.
        still : Perturbation
            No directions.
        batch : int
            Number of examples B.
        shape : tuple of int
            Shape of one example of the input.
        x, delta : Images
            Inputs and error signals of the whole batch.
        parameters : mapping of str to Parameter
            The layer's parameters by name.
        targets : mapping of str to array
            Written: their gradients, as the kernels lay parameters out.
        onto : bool
            Whether gradients are added to these arrays.
        """
        ordered = [parameters[name] for name in self._given]
        values, filling = function_parameters.bind(isa, still, ordered)
        places = np.concatenate(
            [
                function_parameters.places(one, targets[name])
                for name, one in zip(self._given, ordered, strict=True)
            ]
        )
        table, size = self.shapes(shape), len(places)
        fields, memory = operands(x=x, delta=delta)
        fields |= {
            "batch": batch,
            "shapes": address(table),
            "parameters": address(values),
            "size": size,
            "places": address(places),
            "onto": onto,
        }
        memory["keeps"] = (memory["keeps"], table, values, places, dict(targets))
        tangent = own_function.tangent(self._own)
        with own_function.compiling("Function", self._own):
            entry = function_gradient.gradient_kernel("function-gradient", tangent, self.signature(shape))
        outputs = math.prod(delta.shape)
        gradient = CpuOperation(
            "function-gradient",
            entry,
            filled(function_gradient.GRADIENT, fields),
            parts_for(batch * size * max(size, outputs), size, threads),
            scratch_bytes=function_gradient.scratch_bytes(math.prod(x.shape), outputs, size),
            **memory,
        )
        return [*filling, gradient]
