"""Losses of differential equations: what a network's value and derivatives in its input leave of an equation."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from fgnumba.errors import ConfigError, DifferentiationError, shown
from fgnumba.functions.differentiable import Differentiable, differentiable
from fgnumba.functions.drivers import one_lane
from fgnumba.functions.typed import typed_function
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS, MAX_SEED
from fgnumba.layers.parameters import checked, shapes_of
from fgnumba.model.directions import Direction
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import Tangents
from fgnumba.model.laplacian import ModelLaplacian
from fgnumba.validation import real_number, whole_number

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float32]]

TINY = float(np.finfo(np.float64).tiny)
"""Keeps a Gram matrix of zeros from being singular: where no direction changes a residual, the step is zero."""


class PhysicsLoss:
    """The mean squared residual of a differential equation, for training a network u to solve it.

        f(θ) = mean_b r(x_b, u(x_b), ∂u(x_b), Δu(x_b))²

    Its derivatives along directions of the parameters θ are exact, from forward mode alone: the pass that computes
    value, first derivatives and Laplacian in the input is differentiated once more along each direction.

    Parameters
    ----------
    model : Graph
        The network u, a chain of dense layers on the CPU.
    residual : callable
        The residual r at one point, a function that Numba can compile. It takes, in float64,

        - `x`: the point, (D,);
        - `u`: the output, a number, or (N,) for N > 1 outputs;
        - `du`: its first derivatives along the directions, (k,), or (k, N);
        - `lap`: its Laplacian, a number, or (N,),

        and returns a number. Points of a boundary may be among the points: ``r`` tells them by `x`.
    directions, weights : array, optional
        The directions in the input and the weights of the second derivatives along them, as for
        :func:`fgnumba.laplacian`. By default all coordinates, with weights of 1. For the heat equation in (t, x) they
        are the coordinates with weights (0, 1).

    Raises
    ------
    ConfigError
        If the model is no chain of dense layers, or `residual` is no function.
    DifferentiationError
        If Numba cannot compile the residual, its value is no number, or something in it has no derivative.

    Examples
    --------
    Poisson's equation u'' = -π² sin(π x) on (0, 1) with u(0) = u(1) = 0, whose solution is sin(π x):

    >>> import math
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> def residual(x, u, du, lap):
    ...     if x[0] == 0.0 or x[0] == 1.0:
    ...         return 10.0 * u
    ...     return lap + math.pi**2 * math.sin(math.pi * x[0])
    >>> model = fg.Sequential([fg.Dense(16, "tanh"), fg.Dense(1)], input_shape=1, device="cpu")
    >>> loss = fg.PhysicsLoss(model, residual)
    >>> x = np.linspace(0, 1, 33)[:, None]
    >>> for step in range(40):
    ...     value = loss.gauss_newton_step(x, directions=32, step=step)
    >>> bool(np.abs(model(x)[:, 0] - np.sin(math.pi * x[:, 0])).max() < 1e-3)
    True

    The loss and its derivative along one direction, for descent by forward gradients:

    >>> value, derivative = loss.jvp(x, fg.directions.RankOne(seed=1))
    """

    def __init__(
        self, model: Graph, residual: Callable[..., Any], directions: Any = None, weights: Any = None
    ) -> None:
        if not isinstance(model, Graph):
            raise ConfigError(f"model is {shown(model)}; a Sequential or a Graph of dense layers is required")
        self._laplacian = ModelLaplacian(model, directions, weights)
        self.model = model
        self.residual = differentiable(residual)
        _check(self.residual, model.outputs)
        self._values = _over_points(self.residual.primal)
        self._tangents = _over_tangents(self.residual.tangent)

    def __call__(self, x: Any) -> float:
        """Return the loss f(θ) at the points `x` (B, *input_shape), infinite or NaN if the computation overflows."""
        return _mean_square(self.residuals(x))

    def residuals(self, x: Any) -> Floats:
        """Return the residuals (B,) float64 at the points `x` (B, *input_shape)."""
        inputs = self._points(x)
        rows = [np.asarray(array, np.float64) for array in self._laplacian.derivatives(x)]
        found = np.empty(len(inputs))
        self._values(found, inputs, *_flat(rows, self.model.outputs))
        return found

    def residual_jvp(self, x: Any, tangents: Sequence[Tangents]) -> tuple[Floats, Floats]:
        """Return the residuals, and their derivatives along several directions of the parameters, from one pass.

        Parameters
        ----------
        x : array, (B, *input_shape) of real numbers
            The points.
        tangents : sequence of T directions
            Each one of ``fgnumba.directions``, or arrays with the names and shapes of ``model.parameters()``.

        Returns
        -------
        residuals : ndarray, (B,) float64
            The residuals r_b.
        derivatives : ndarray, (T, B) float64
            The derivatives ∂r_b/∂θ · v_t.

        Raises
        ------
        ShapeError, DtypeError, ConfigError
            If an array does not fit, or `tangents` is no sequence of directions.
        """
        inputs = self._points(x)
        if not isinstance(tangents, list | tuple) or not tangents:
            raise ConfigError(f"tangents is {shown(tangents)}; a sequence of directions is required")
        return self._residual_jvp(inputs, [self._arrays(tangent) for tangent in tangents])

    def _residual_jvp(self, inputs: Floats, moves: Sequence[Arrays]) -> tuple[Floats, Floats]:
        batch, outputs = len(inputs), self.model.outputs
        residuals, derivatives = np.empty(batch), np.empty((len(moves), batch))
        with self.model.lock:
            for part in self.model.parts(batch):
                bound = self._laplacian.bound(part.stop - part.start, len(moves))
                for number, arrays in enumerate(moves):
                    bound.move(number, arrays)
                rows = bound.run(inputs[part]).astype(np.float64)
                value, *moving = (_flat([one[:, 0], one[:, 1:-1], one[:, -1]], outputs) for one in rows)
                for number, tangent in enumerate(moving):
                    found = residuals[part], derivatives[number, part]
                    self._tangents(*found, inputs[part], *value, *tangent)
        return residuals, derivatives

    def jvp(self, x: Any, tangents: Tangents) -> tuple[float, float]:
        """Return the loss and its directional derivative ∇f(θ) · v along `tangents`; see :meth:`residual_jvp`."""
        residuals, (derivatives,) = self.residual_jvp(x, [tangents])
        with np.errstate(over="ignore", invalid="ignore"):
            return _mean_square(residuals), float(2 * np.mean(residuals * derivatives))

    def forward_gradient(self, x: Any, tangents: Tangents) -> tuple[float, Arrays]:
        """Return the loss and its forward gradient (∇f(θ) · v) v, as :func:`fgnumba.forward_gradient` does."""
        value, derivative = self.jvp(x, tangents)
        return value, {name: np.float32(derivative) * array for name, array in self._arrays(tangents).items()}

    def gauss_newton_step(
        self, x: Any, directions: int = 32, *, seed: int = 0, step: int = 0, damping: float = 1e-4
    ) -> float:
        """Move the parameters by Gauss and Newton's step in a random subspace, and return the loss before the step.

            θ ← θ + s Σ_t c_t v_t,   c = argmin_c ‖r + Jᵀ c‖² + damping · tr(J Jᵀ) / T · ‖c‖²,   J (T, B) = ∂r/∂θ · v_t

        The directions v_t are Gaussian. The length s is the first of 1, 1/2, 1/4, … that makes the loss smaller; if
        none to 2⁻²⁰ does, the parameters stay.

        Parameters
        ----------
        x : array, (B, *input_shape) of real numbers
            The points.
        directions : int, optional
            The number T of directions, from 1 to 2**20. By default 32.
        seed, step : int, optional
            What the directions are drawn from, 0 or above and below 2**64: the same numbers give the same directions,
            so that each step needs another. By default 0.
        damping : float, optional
            The damping, above 0: less is faster near a solution, more is safer. By default 1e-4.

        Returns
        -------
        float
            The loss f(θ) before the step. If it is not finite, or a derivative is not, the parameters stay.

        Raises
        ------
        ConfigError
            If a number is out of its range.
        ShapeError, DtypeError
            If `x` does not fit.
        DeviceError
            If the directions need more memory than there is.
        """
        count = whole_number("directions", directions, 1, MAX_DIRECTIONS)
        keys = whole_number("seed", seed, 0, MAX_SEED), whole_number("step", step, 0, MAX_SEED)
        strength = real_number("damping", damping, above_zero=True)
        generator = np.random.Generator(np.random.Philox(key=np.array(keys, np.uint64)))
        with self.model.lock:
            theta = self.model.parameters()
            drawn = {name: aligned((count, *array.shape)) for name, array in theta.items()}
            for array in drawn.values():
                generator.standard_normal(dtype=np.float32, out=array)
            moves = [{name: array[t] for name, array in drawn.items()} for t in range(count)]
            residuals, jacobian = self._residual_jvp(self._points(x), moves)
            value = _mean_square(residuals)
            if not (np.isfinite(value) and np.isfinite(jacobian).all()):
                return value
            gram = jacobian @ jacobian.T
            gram[np.diag_indices(count)] += strength * max(np.trace(gram) / count, TINY)
            lengths = np.linalg.solve(gram, -jacobian @ residuals)
            move = {name: np.tensordot(lengths, array, 1) for name, array in drawn.items()}
            better = False
            try:
                for power in range(21):
                    moved = {name: _float32(array + 0.5**power * move[name]) for name, array in theta.items()}
                    if all(np.isfinite(array).all() for array in moved.values()):
                        self.model.put_back(moved)
                        better = self(x) < value
                    if better:
                        break
            finally:
                # An interrupt, too, leaves the parameters before the step or after it.
                if not better:
                    self.model.put_back(theta)
            return value

    def _points(self, x: Any) -> Floats:
        inputs = self.model.checked_input(x)
        return np.ascontiguousarray(inputs.reshape(len(inputs), -1), np.float64)

    def _arrays(self, tangents: Tangents) -> Arrays:
        if isinstance(tangents, Direction):
            return tangents.materialize(self.model)
        return checked(shapes_of(self.model.packed_parameters), tangents, "tangents")

    def __reduce__(self) -> Any:
        arguments = self._laplacian.directions, self._laplacian.weights
        return type(self), (self.model, self.residual.primal, *arguments)


def _float32(array: Floats) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _mean_square(residuals: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(residuals * residuals))


def _flat(rows: list[Any], outputs: int) -> list[Any]:
    """Return arrays (B, ..., N), without the last axis if there is a single output."""
    value, first, last = (np.ascontiguousarray(array).reshape(len(array), -1) for array in rows)
    if outputs == 1:
        return [value[:, 0].copy(), first, last[:, 0].copy()]
    return [value, first.reshape(len(first), -1, outputs), last]


def _check(residual: Differentiable, outputs: int) -> None:
    """Raise DifferentiationError, in one line, unless Numba can compile the residual and its tangent."""
    row = types.Array(types.float64, 1, "C")
    value, first = (types.float64, row) if outputs == 1 else (row, types.Array(types.float64, 2, "C"))
    arguments = (row, value, first, value)
    name, taken = residual.primal.py_func.__name__, len(inspect.signature(residual.primal.py_func).parameters)
    if taken != len(arguments):
        raise DifferentiationError(
            f"the residual {name} takes {taken} arguments; four (x, u, du, lap) are required"
        )
    kind = typed_function(residual.primal, arguments).return_type
    if not isinstance(kind, types.Integer | types.Float | types.Boolean):
        raise DifferentiationError(f"the residual {name} returns {kind}; a real number is required")
    try:
        residual.tangent.compile((*arguments, types.none, *arguments[1:]))
    except DifferentiationError as error:
        # Numba puts a line before the message, which says how far it came.
        raise DifferentiationError(str(error).splitlines()[-1]) from None


def _over_points(residual: Any) -> Any:
    @njit
    def residuals(found: Any, x: Any, u: Any, du: Any, lap: Any) -> None:
        for b in range(len(found)):
            found[b] = residual(x[b], u[b], du[b], lap[b])

    return residuals


def _over_tangents(tangent: Any) -> Any:
    @njit
    def derivatives(
        found: Any, moved: Any, x: Any, u: Any, du: Any, lap: Any, u_t: Any, du_t: Any, lap_t: Any
    ) -> None:
        for b in range(len(found)):
            found[b], moves = tangent(x[b], u[b], du[b], lap[b], None, u_t[b], du_t[b], lap_t[b])
            # A whole number has no tangent.
            moved[b] = one_lane(moves, 0)

    return derivatives
