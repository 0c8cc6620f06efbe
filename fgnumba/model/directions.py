"""Directions v, the tangents given to the parameters, with E[v vᵀ] = I.

Each is a pure function of (seed, step, index, parameter, row, column) and never stored: the kernels draw it
where they use it. The layout over Philox counters is in ``fgnumba.kernels.rules.philox``.
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
    """A random direction.

    Parameters
    ----------
    seed : of 64 bits; a trainer's directions have the trainer's seed.
    step : below 2**32; a trainer's steps count from 0.
    index : which of the directions of a step, below 2**20.

    Raises
    ------
    ConfigError
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
        """The direction's number in the counter."""
        return self.base + self.index

    def materialize(self, model: "Graph") -> dict[str, npt.NDArray[np.float32]]:
        """Return v as arrays shaped like ``model.parameters()``: exactly what the kernels would use."""
        return self.scaled(model, 1.0)

    def scaled(self, model: "Graph", factor: float) -> dict[str, npt.NDArray[np.float32]]:
        """Return factor · v as arrays shaped like ``model.parameters()``; any real number, NaN among them."""
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
        """Return seed and step as the kernels read them."""
        stream = np.zeros(1, STREAM)
        set_stream(stream, self.seed, self.step)
        return stream


class RankOne(Direction):
    """Rank-1 signs: V = u wᵀ for a weight, u (K,) and w (N,) of ±1; ±1 for a bias.

    x V = (x · u) wᵀ costs no product; E[v vᵀ] = I and ‖v‖² = P as for independent signs, and so has the
    forward gradient the variance of theirs: E‖g - ∇f‖² = (P - 1) ‖∇f‖².
    """

    kind = kinds.RANK1


class Orthogonal(RankOne):
    """Rank-1 signs that are orthogonal to each other: directions 32 i to 32 i + 31 of a step are a family.

    V_b = (u ⊙ h_b)(w ⊙ h_b)ᵀ with u, w the family's and h_b the b-th Walsh function, of 32 entries and repeated. Each
    alone is as :class:`RankOne`; the products of two of a family sum up to 0 over every array whose rows or columns are
    a multiple of 32, so that within a family VᵀV = P I and E‖g - ∇f‖² = (P / T - 1) ‖∇f‖². Other arrays (biases, 10
    columns) leave a rest as small as they are.
    """

    base = ORTHOGONAL


class Rademacher(Direction):
    """Independent signs, ±1 each: E‖g - ∇f‖² = (P - 1) ‖∇f‖²."""

    kind = kinds.RADEMACHER


class Gaussian(Direction):
    """Independent standard normals: E‖g - ∇f‖² = (P + 1) ‖∇f‖². Source: arXiv 2202.08587."""

    kind = kinds.GAUSSIAN


BY_NAME: dict[str, type[Direction]] = {
    "rank1": RankOne,
    "orthogonal": Orthogonal,
    "rademacher": Rademacher,
    "gaussian": Gaussian,
}
"""Directions by the names that estimators and the command line use."""


def by_name(name: str) -> type[Direction]:
    """Return the direction called `name`; ConfigError where there is none."""
    if not isinstance(name, str) or name not in BY_NAME:
        raise ConfigError(f"direction: unknown direction {shown(name)}{did_you_mean(str(name), BY_NAME)}")
    return BY_NAME[name]
