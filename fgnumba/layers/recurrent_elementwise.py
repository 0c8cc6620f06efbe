"""Recurrent layers whose units see no other unit's state: exact traces of their parameters stay small.

The Jacobian of a state with respect to the one before is diagonal, so that real-time recurrent learning carries as many
numbers as the layer has parameters (:class:`fgnumba.RealTimeRecurrentLearning`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fgnumba.errors import ConfigError, shown
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.base import Initial, Shape, Site
from fgnumba.layers.recurrent import RecurrentLayer
from fgnumba.validation import flag, real_number, several, store


@dataclass(frozen=True)
class ElementwiseLSTM(RecurrentLayer):
    """An LSTM whose recurrent weights are one number for each unit and gate.

        z = tanh(x Wz + wz ⊙ c + bz),  f = σ(x Wf + wf ⊙ c + bf)
        c' = f ⊙ c + (1 - f) ⊙ z

    The output at each position is c' (H,), which is also the state; before the first position it is 0. The parameters
    are weight (K, 2 H) = [Wz | Wf], recurrent (2 H,) = [wz | wf] and bias (2 H,) = [bz | bf]. They start as follows:
    Wz from N(0, 1 / K), or N(0, 1) of symbols; Wf from the same, halved; recurrent from N(0, 0.3²); bz at 0; and bf at
    H numbers from -1 to 4, evenly apart, so that units forget at different rates.
    Source: K. Irie et al., arXiv 2305.19044.

    Parameters
    ----------
    units : int
        The number H of units, at least 1.
    symbols : int or None, optional
        The number V of symbols, if the input are symbols (L,) from 0 to V - 1: row s of the weight (V, 2 H) stands for
        x W. By default None: the input is a sequence of numbers (L, K).

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is not a sequence.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.ElementwiseLSTM(512, symbols=65).parameter_shapes([(64,)])
    {'weight': (65, 1024), 'recurrent': (1024,), 'bias': (1024,)}
    """

    units: int
    symbols: int | None = None

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters: ``weight`` (K, 2 H), ``recurrent`` (2 H,) and ``bias`` (2 H,)."""
        both = 2 * self.units
        return {"weight": (self.rows(inputs), both), "recurrent": (both,), "bias": (both,)}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters, as the class says."""
        weight, units = self.weight(inputs, generator), self.units
        weight[:, units:] *= np.float32(0.5)
        recurrent = generator.standard_normal(2 * units, np.float32) * np.float32(0.3)
        bias = np.zeros(2 * units, np.float32)
        bias[units:] = np.linspace(-1, 4, units)
        return {"weight": weight, "recurrent": recurrent, "bias": bias}

    def _scan(self, site: Site, product: Any) -> list[Operation]:
        return [
            site.device.kernels.elementwise_lstm.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                units=self.units,
                product=product,
                y=site.output,
                state=site.state,
                vectors=self._vectors(site, "recurrent"),
            )
        ]


@dataclass(frozen=True)
class MinGRU(RecurrentLayer):
    """A gated recurrent unit whose gates see the input alone.

        z = σ(x Wz + bz),  h' = (1 - z) ⊙ h + z ⊙ (x Wh + bh)

    The output at each position is h' (H,), which is also the state; before the first position it is 0. The parameters
    are weight (K, 2 H) = [Wh | Wz], from N(0, 1 / K), or N(0, 1) of symbols, and bias (2 H,) = [bh | bz]: bh starts at
    0, and bz at H numbers from 1 to -4, evenly apart, so that units forget at different rates.
    Source: L. Feng et al., arXiv 2410.01201.

    Parameters
    ----------
    units : int
        The number H of units, at least 1.
    symbols : int or None, optional
        The number V of symbols, if the input are symbols (L,) from 0 to V - 1: row s of the weight (V, 2 H) stands for
        x W. By default None: the input is a sequence of numbers (L, K).

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is not a sequence.
    """

    units: int
    symbols: int | None = None

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters: ``weight`` (K, 2 H) and ``bias`` (2 H,)."""
        return {"weight": (self.rows(inputs), 2 * self.units), "bias": (2 * self.units,)}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters, as the class says."""
        bias = np.zeros(2 * self.units, np.float32)
        bias[self.units :] = np.linspace(1, -4, self.units)
        return {"weight": self.weight(inputs, generator), "bias": bias}

    def _scan(self, site: Site, product: Any) -> list[Operation]:
        return [
            site.device.kernels.min_gru.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                units=self.units,
                count=site.perturbation.count,
                product=product,
                y=site.output,
                state=site.state,
            )
        ]


@dataclass(frozen=True)
class LinearRecurrentUnit(RecurrentLayer):
    """A linear recurrence in each unit, of complex numbers or of real ones.

        h' = λ ⊙ h + γ ⊙ (x W),  λ = exp(-exp(ν) + iθ),  γ = √(1 - |λ|²)

    The output at each position is h', which is also the state; before the first position it is 0. Complex numbers lie
    as their real parts, then their imaginary parts: the output is (L, 2 H), and the weight (K, 2 H) = [Re W | Im W].
    Real numbers have no θ: λ = exp(-exp(ν)), the output is (L, H) and the weight (K, H). The parameters are weight, nu
    (H,) and, of complex numbers, theta (H,). There is no bias, since a constant input is one.

    At the start λ is uniform in the ring given by `radius` and `phase`. W is drawn from N(0, 1 / K), or N(0, 1) of
    symbols; of complex numbers each part has half of that variance.
    Source: A. Orvieto et al., arXiv 2303.06349.

    Parameters
    ----------
    units : int
        The number H of units, at least 1.
    complex : bool, optional
        Whether the numbers are complex. By default True.
    symbols : int or None, optional
        The number V of symbols, if the input are symbols (L,) from 0 to V - 1: row s of the weight stands for x W. By
        default None: the input is a sequence of numbers (L, K).
    radius : (float, float), optional
        The least and the greatest |λ| at the start, above 0 and below 1. A unit remembers for about 1 / (1 - |λ|)
        positions. By default (0.9, 0.999).
    phase : float, optional
        The greatest θ at the start, at least 0 and below 7, so that it can be 2π. A unit turns by θ at each position: a
        large one tells positions apart that are near each other. By default π / 10.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is not a sequence.
    """

    units: int
    complex: bool = True
    symbols: int | None = None
    radius: tuple[float, float] = (0.9, 0.999)
    phase: float = math.pi / 10

    ungrouped: ClassVar[tuple[str, ...]] = ("nu", "theta")

    def __post_init__(self) -> None:
        super().__post_init__()
        store(
            self,
            complex=flag("LinearRecurrentUnit: complex", self.complex),
            radius=_ring(self.radius),
            phase=real_number("LinearRecurrentUnit: phase", self.phase, below=7),
        )

    @property
    def gates(self) -> int:
        """The number of parts of a number: 2 of a complex one."""
        return 2 if self.complex else 1

    @property
    def width(self) -> int:
        """The number of outputs at each position: H, or 2 H of complex numbers."""
        return self.gates * self.units

    def state_width(self, inputs: Sequence[Shape]) -> int:
        """Return the number of float32 of a state in memory, each of whose parts is filled up to whole panels."""
        return self.gates * self.padded

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes: ``weight`` (K, 2 H) or (K, H), ``nu`` (H,) and, of complex numbers, ``theta`` (H,)."""
        weight = (self.rows(inputs), self.width)
        return {"weight": weight, "nu": (self.units,), **({"theta": (self.units,)} if self.complex else {})}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters, as the class says."""
        weight = self.weight(inputs, generator, 1 / self.gates)
        square = generator.uniform(self.radius[0] ** 2, self.radius[1] ** 2, self.units)
        made = {"weight": weight, "nu": np.log(-0.5 * np.log(square)).astype(np.float32)}
        if self.complex:
            made["theta"] = generator.uniform(0, self.phase, self.units).astype(np.float32)
        return made

    def _scan(self, site: Site, product: Any) -> list[Operation]:
        names = ("nu", "theta") if self.complex else ("nu",)
        return [
            site.device.kernels.linear_recurrent_unit.bind(
                site.isa,
                site.threads,
                batch=site.batch,
                units=self.units,
                product=product,
                y=site.output,
                state=site.state,
                vectors=self._vectors(site, *names),
            )
        ]


def _ring(value: Any) -> tuple[float, float]:
    """Return the least and the greatest |λ| as floats, after checking them."""
    both = several(value)
    name = "LinearRecurrentUnit: radius"
    if both is None or len(both) != 2:
        raise ConfigError(f"{name} is {shown(value)}; two numbers are required, as (0.9, 0.999)")
    low, high = (real_number(name, number, above_zero=True, below=1) for number in both)
    if low > high:
        raise ConfigError(f"{name} is {shown(value)}; the lesser number first is required")
    return low, high
