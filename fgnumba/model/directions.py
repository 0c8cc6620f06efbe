"""Directions v: random tangents of the parameters, with E[v vᵀ] = I.

Every element of a direction is a pure function of (seed, step, index, parameter, row, column). A direction is never
stored: the kernels draw its elements where they use them. The layout over Philox counters is described in
``fgnumba.kernels.rules.philox``. P is the number of parameters of the model, and g = (∇f · v) v the forward gradient.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.ops.descent import STORE
from fgnumba.kernels.rules import directions as kinds
from fgnumba.kernels.rules.philox import MAX_DIRECTIONS, MAX_SEED, MAX_STEP, ORTHOGONAL, STREAM, set_stream
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.validation import as_float, store, whole_number

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph


@dataclass(frozen=True)
class Direction:
    """A random direction v of the parameters. This is the base class of the kinds of directions.

    Parameters
    ----------
    seed : int
        The seed, 0 or above and below 2**64. A trainer's directions have the trainer's seed.
    step : int, optional
        The number of the step, 0 or above and below 2**32. A trainer counts its steps from 0. By default 0.
    index : int, optional
        The number of the direction among those of the step, 0 or above and below 2**20. By default 0.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    seed: int
    step: int = 0
    index: int = 0
    kind: ClassVar[int]
    base: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name, limit in (("seed", MAX_SEED), ("step", MAX_STEP), ("index", MAX_DIRECTIONS - 1)):
            store(self, **{name: whole_number(name, getattr(self, name), 0, limit)})

    @property
    def number(self) -> int:
        """The number that stands for the direction in the Philox counter: `index`, plus an offset for some kinds."""
        return self.base + self.index

    def materialize(self, model: "Graph") -> dict[str, npt.NDArray[np.float32]]:
        """Return v as arrays, with exactly the elements that the kernels use.

        Parameters
        ----------
        model : Graph
            The model whose parameters v is a tangent of.

        Returns
        -------
        dict of str to ndarray, float32
            Arrays with the names and shapes of ``model.parameters()``.
        """
        return self.scaled(model, 1.0)

    def scaled(self, model: "Graph", factor: float) -> dict[str, npt.NDArray[np.float32]]:
        """Return `factor` · v as arrays; with the directional derivative as the factor, that is the forward gradient.

        Parameters
        ----------
        model : Graph
            The model whose parameters v is a tangent of.
        factor : float
            Any real number; infinities and NaN are allowed.

        Returns
        -------
        dict of str to ndarray, float32
            Arrays with the names and shapes of ``model.parameters()``.

        Raises
        ------
        ConfigError
            If `factor` is no real number.
        """
        number = as_float(factor)
        if number is None:
            raise ConfigError(f"factor is {shown(factor)}; a real number is required")
        device = model.processor
        descent = device.kernels.descent
        stream, result = device.array(self.stream()), device.array(np.ones(1, RESULT))
        values = device.array(np.array([0.0, number]))
        arrays = {name: device.zeros(p.packed.shape) for name, p in model.packed_parameters.items()}
        device.program(
            descent.bind_all(
                device.isa,
                device.threads,
                thetas=list(arrays.values()),
                kind=self.kind,
                count=1,
                parameters=[parameter.index for parameter in model.packed_parameters.values()],
                stream=stream,
                values=values,
                result=result,
                rates=None,
                rule=STORE,
                first=self.number,
            )
        ).run()
        return {name: p.array(arrays[name]) for name, p in model.packed_parameters.items()}

    def stream(self) -> np.ndarray:
        """Return the seed and the step as the kernels read them, (1,) of dtype ``kernels.rules.philox.STREAM``."""
        stream = np.zeros(1, STREAM)
        set_stream(stream, self.seed, self.step)
        return stream


class RankOne(Direction):
    """A direction whose part for each weight is a matrix of signs of rank 1.

        V = u wᵀ for a weight (K, N), u (K,) and w (N,) of independent ±1;   independent ±1 for a bias

    The tangent of a product then costs no product of matrices: x V = (x · u) wᵀ. As for independent signs,
    E[v vᵀ] = I and ‖v‖² = P, so the forward gradient has the same variance: E‖g - ∇f‖² = (P - 1) ‖∇f‖².

    Parameters
    ----------
    seed : int
        The seed, 0 or above and below 2**64. A trainer's directions have the trainer's seed.
    step : int, optional
        The number of the step, 0 or above and below 2**32. A trainer counts its steps from 0. By default 0.
    index : int, optional
        The number of the direction among those of the step, 0 or above and below 2**20. By default 0.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(2)], input_shape=(3,), device="cpu")
    >>> v = fg.directions.RankOne(seed=1).materialize(model)
    >>> {name: array.shape for name, array in v.items()}
    {'0.weight': (3, 2), '0.bias': (2,)}
    """

    kind = kinds.RANK1


class Orthogonal(RankOne):
    """Rank-1 directions that are orthogonal to each other within a family.

    The directions with the indices 32 i to 32 i + 31 of a step are a family. Its member b is

        V_b = (u ⊙ h_b)(w ⊙ h_b)ᵀ

    with u and w shared by the family, and h_b the b-th Walsh function of 32 entries, repeated to the length of u or w.
    Each member alone is distributed as :class:`RankOne`. The elementwise product of two members sums to 0 over every
    array whose number of rows or columns is a multiple of 32. If all arrays are so, the family's matrix V = [v₁ … v_T]
    has VᵀV = P I, and the mean of the T forward gradients of a family has E‖g - ∇f‖² = (P / T - 1) ‖∇f‖². Other arrays
    (biases, 10 columns) add a remainder that is as small as they are.

    Parameters
    ----------
    seed : int
        The seed, 0 or above and below 2**64. A trainer's directions have the trainer's seed.
    step : int, optional
        The number of the step, 0 or above and below 2**32. A trainer counts its steps from 0. By default 0.
    index : int, optional
        The number of the direction among those of the step, 0 or above and below 2**20. By default 0.
    """

    base = ORTHOGONAL


class Rademacher(Direction):
    """A direction of independent signs, ±1 each with equal probability: E‖g - ∇f‖² = (P - 1) ‖∇f‖².

    Parameters
    ----------
    seed : int
        The seed, 0 or above and below 2**64. A trainer's directions have the trainer's seed.
    step : int, optional
        The number of the step, 0 or above and below 2**32. A trainer counts its steps from 0. By default 0.
    index : int, optional
        The number of the direction among those of the step, 0 or above and below 2**20. By default 0.
    """

    kind = kinds.RADEMACHER


class Gaussian(Direction):
    """A direction of independent standard normal numbers: E‖g - ∇f‖² = (P + 1) ‖∇f‖².

    Source: arXiv 2202.08587.

    Parameters
    ----------
    seed : int
        The seed, 0 or above and below 2**64. A trainer's directions have the trainer's seed.
    step : int, optional
        The number of the step, 0 or above and below 2**32. A trainer counts its steps from 0. By default 0.
    index : int, optional
        The number of the direction among those of the step, 0 or above and below 2**20. By default 0.
    """

    kind = kinds.GAUSSIAN


BY_NAME: dict[str, type[Direction]] = {
    "rank1": RankOne,
    "orthogonal": Orthogonal,
    "rademacher": Rademacher,
    "gaussian": Gaussian,
}
"""The kinds of directions, by the names that estimators and the command line use."""


def by_name(name: str) -> type[Direction]:
    """Return the kind of direction called `name`.

    Parameters
    ----------
    name : str
        ``rank1``, ``orthogonal``, ``rademacher`` or ``gaussian``.

    Raises
    ------
    ConfigError
        If no kind has that name.
    """
    if not isinstance(name, str) or name not in BY_NAME:
        raise ConfigError(f"direction: unknown direction {shown(name)}{did_you_mean(str(name), BY_NAME)}")
    return BY_NAME[name]
