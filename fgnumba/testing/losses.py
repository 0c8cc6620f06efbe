"""The check of a loss."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fgnumba import device as devices
from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.threads import most_threads
from fgnumba.kernels.rules.philox import MAX_SEED
from fgnumba.layers.losses import Loss
from fgnumba.model.outcome import Outcome, targets_of
from fgnumba.testing.arguments import function, instance, returned
from fgnumba.testing.comparison import compare, largest, require, same_bits
from fgnumba.testing.given import Array, OfThreads
from fgnumba.validation import optional, real_number, several, whole_number

Targets = Callable[[np.random.Generator, int, int], npt.ArrayLike]
"""Function of a generator, the number of examples and the number of outputs; returns targets that are possible."""
Reference = Callable[[Array, Array], float]
"""Function of outputs (B, N) in float64 and of targets; returns the loss."""

BATCHES = (1, 2, 7, 61)
COUNTS = (0, 1, 5)
"""Numbers of directions."""
STEP = 1e-6
"""Step of central differences in float64."""
ROUNDING = 1e-9
"""What they round, as a share of an example's loss or of 1: 1e-16 over the step, and some ten of that."""


def check_loss(
    loss: Loss,
    targets: Targets | None = None,
    reference: Reference | None = None,
    *,
    outputs: Sequence[int] = (1, 2, 7, 33),
    tolerance: float = 1e-5,
    scale: float = 1.0,
    device: str | Device = "cpu",
    seed: int = 0,
) -> None:
    """Check that a loss computes its value and its derivatives right.

    The loss is held to the following, for batches of 1, 2, 7 and 61 examples and for 0, 1 and 5 directions.

    - What its kernels write for the value agrees with `reference`, and ``value`` does too.
    - The directional derivatives, and the residuals ∂f_i/∂z_i, agree with central differences of `reference` in
      float64.
    - It is a mean over the batch: the loss of a batch is the mean of the losses of its examples.
    - It reads no padding, and results do not depend on the number of threads, bit for bit.
    - A pass whose outputs are not finite does not end finite.
    - Targets of another shape are refused, and a copy of the loss has the same ``key``.

    Parameters
    ----------
    loss : Loss
        Loss to check.
    targets : callable, optional
        ``targets(generator, batch, outputs)`` returns targets of so many examples. By default they are whole numbers
        below the number of outputs where the loss reads whole numbers, else normal numbers.
    reference : callable, optional
        ``reference(z, y)`` returns the loss of outputs z (B, N), float64, and targets y. By default it is the loss's
        own ``value``, which must then compute in float64 throughout.
    outputs : sequence of int
        Numbers of outputs N with which the loss is checked.
    tolerance : float
        Greatest error of a value, as a share of it or of 1; and of a derivative, as a share of what its terms add up
        to without their signs.
    scale : float
        Standard deviation of the outputs, which are normal numbers.
    device : str or Device
        Device whose kernels are checked.
    seed : int
        Seed of outputs, targets and directions.

    Raises
    ------
    AssertionError
        The loss breaks one of the rules; the message says which, where, and by how much.
    ConfigError
        An argument is not of its kind, or a number is not possible.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.testing.check_loss(fg.MeanSquaredError(), reference=lambda z, y: ((z - y) ** 2).mean())
    """
    instance("loss", loss, Loss)
    optional(function, "targets", targets)
    optional(function, "reference", reference)
    given = several(outputs)
    if not given:
        raise ConfigError(f"outputs is {shown(outputs)}; several whole numbers are required")
    widths = [whole_number("outputs", width) for width in given]
    check = _LossCheck(
        loss, targets, reference or loss.value, tolerance, scale, devices.resolve(device), seed
    )
    for width in widths:
        for batch in BATCHES:
            check.size(batch, width)
    check.refusals(BATCHES[2], widths[-1])
    require(copy.deepcopy(loss).key == loss.key, f"{check.kind}: a copy of the loss has another key")


class _LossCheck:
    def __init__(
        self,
        loss: Loss,
        targets: Targets | None,
        reference: Reference,
        tolerance: float,
        scale: float,
        device: Device,
        seed: int,
    ) -> None:
        self.loss, self.targets, self.reference = loss, targets, reference
        self.tolerance = real_number("tolerance", tolerance)
        self.scale = real_number("scale", scale, above_zero=True)
        self.device, self.seed = device, whole_number("seed", seed, 0, MAX_SEED)
        self.kind = type(loss).__name__

    def _targets(self, batch: int, width: int) -> Array:
        rng = np.random.default_rng((self.seed, 1, batch, width))
        shape, dtype = self.loss.target_layout(batch, width)
        if self.targets is not None:
            return np.asarray(self.targets(rng, batch, width))
        if np.dtype(dtype).kind in "iu":
            return rng.integers(0, width, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)

    def _dual(self, batch: int, width: int, count: int) -> Array:
        """Return outputs and their tangents, float32, with padding of NaN beside them: nobody may read it."""
        rng = np.random.default_rng((self.seed, 2, batch, width))
        z = self.device.values(self.device.zeros((1 + count, batch, width + 5))).copy()
        z[...] = np.nan
        z[:, :, :width] = rng.standard_normal((1 + count, batch, width))
        z[0] *= np.float32(self.scale)
        return z

    def run(self, z: Array, width: int, y: Array, threads: int | None = None) -> tuple[Array, bool]:
        """Return the value and the derivatives that the kernels write, and whether the pass ended finite."""
        device = self.device if threads is None else OfThreads(threads, self.device)
        outcome = Outcome(device, len(z) - 1)
        staged = targets_of(device, self.loss, z.shape[1], width)
        staged.load(self.loss.laid_out(y, width))
        operations = self.loss.bind(
            device, device.array(z), width, staged.array, outcome.result, outcome.values
        )
        device.program(operations).run()
        values = np.empty(len(z))
        return values, outcome.read(values)

    def residual(self, z: Array, width: int, y: Array) -> Array:
        """Return the residuals that the kernels write, (B, N)."""
        staged = targets_of(self.device, self.loss, z.shape[1], width)
        staged.load(self.loss.laid_out(y, width))
        e = self.device.array(np.full((z.shape[1], width), np.nan, np.float32))
        primal = self.device.array(np.ascontiguousarray(z[0]))
        self.device.program([self.loss.bind_residual(self.device, primal, staged.array, e)]).run()
        return np.array(self.device.values(e))

    def size(self, batch: int, width: int) -> None:
        where = f"{self.kind}, {batch} examples of {width} outputs"
        y = self._targets(batch, width)
        self.loss.check_targets(y, batch, width)
        self.loss.check_target_values(y, width)
        z = self._dual(batch, width, COUNTS[-1])
        wide = z[:, :, :width].astype(np.float64)
        value = self.value(wide[0], y)
        allowed = self.tolerance * (1 + abs(value))
        compare(f"{where}: value()", self.loss.value(z[0, :, :width], y), value, allowed)
        gradient = self._differences(wide[0], y)
        size = self.tolerance * largest(gradient) + ROUNDING * (1 + abs(value) * batch)
        compare(f"{where}: residual", self.residual(z, width, y), gradient, size)
        derivatives = (gradient * wide[1:]).sum(axis=2).mean(axis=1)
        terms = np.abs(gradient * wide[1:]).sum(axis=2).mean(axis=1)
        for count in COUNTS:
            values, finite = self.run(z[: 1 + count], width, y)
            require(finite, f"{where}, {count} directions: the pass did not end finite")
            compare(f"{where}, {count} directions: value", values[0], value, allowed)
            compare(
                f"{where}: derivative along direction",
                values[1:],
                derivatives[:count],
                self.tolerance * (terms[:count] + np.abs(derivatives[:count]))
                + ROUNDING * (1 + abs(value) * batch) * width,
            )
        alone = [self.run(z[:, i : i + 1], width, y[i : i + 1])[0] for i in range(batch)]
        compare(
            f"{where}: value and derivatives, beside the mean of its examples' own,",
            np.mean(alone, axis=0),
            values,
            self.tolerance * (np.abs(values) + np.concatenate([[1.0], terms])),
        )
        if self.device.by_parts:
            for threads in range(1, min(3, most_threads()) + 1):
                same_bits(f"{where}, on {threads} threads: result", self.run(z, width, y, threads)[0], values)

    def value(self, z: Array, y: Array) -> float:
        """Return the reference's loss, having checked that it is one number."""
        result = self.reference(z, y)
        if type(result) is float:
            return result
        number = returned(f"{self.kind}: reference", result)
        require(number.size == 1, f"{self.kind}: reference has shape {number.shape}; one number is expected")
        return float(number.reshape(()))

    def _differences(self, z: Array, y: Array) -> Array:
        """Return ∂f_i/∂z_i, (B, N), from central differences: B times those of the mean."""
        gradient = np.empty(z.shape)
        for index in np.ndindex(z.shape):
            sides = []
            for step in (STEP, -STEP):
                moved = z[index[0] : index[0] + 1].copy()
                moved[0, index[1]] += step
                sides.append(self.value(moved, y[index[0] : index[0] + 1]))
            gradient[index] = (sides[0] - sides[1]) / (2 * STEP)
        return gradient

    def refusals(self, batch: int, width: int) -> None:
        y = self._targets(batch, width)
        for bad in (np.nan, np.inf):
            for block in (0, 1):
                z = self._dual(batch, width, 1)
                z[block, batch // 2, 0] = bad
                values, finite = self.run(z, width, y)
                what = "an output" if block == 0 else "a tangent"
                require(
                    not finite,
                    f"{self.kind}: a pass with {what} of {bad} ended finite, with {values.tolist()}",
                )
        for wrong in (y[:-1], np.concatenate([y, y])):
            try:
                self.loss.check_targets(wrong, batch, width)
            except (ShapeError, DtypeError):
                continue
            raise AssertionError(
                f"{self.kind}: check_targets took targets of shape {wrong.shape} for {batch} examples; "
                "a ShapeError is expected"
            )
