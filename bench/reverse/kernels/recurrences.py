"""One step of each recurrence, backwards: only sums and products, of vectors or of any numbers.

g is the cotangent of the state after the step, what comes after included. Each step returns the cotangent that goes on
to the state before, those of the gates' sums (what is added up before an activation is applied), and the terms of the
parameters' gradients.

Sources: K. Irie et al., arXiv 2305.19044; L. Feng et al., arXiv 2410.01201; A. Orvieto et al., arXiv 2303.06349.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Cotangents = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]


@dataclass(frozen=True)
class Recurrence:
    """An elementwise recurrence, backwards.

    Parameters
    ----------
    states, gates, cotangents, parameters, sums : int
        Number of vectors of the state, of gates, of cotangents of the gates' sums, of parameters that a step reads, and
        of sums over positions.
    step : callable
        ``step(g, before, gates, parameters)`` returns the cotangents of the state before and of the gates' sums, and
        the terms of the sums. Arguments and results are sequences of numbers.
    full : bool
        Whether it is the cell of a recurrence with a full recurrent matrix, whose product is computed apart. Its gates
        are followed by one more vector: tanh c' of an LSTM, and h Rn + cn of a GRU.
    """

    states: int
    gates: int
    cotangents: int
    parameters: int
    sums: int
    step: Callable[..., Cotangents]
    full: bool = False

    @property
    def outputs(self) -> int:
        """Number of vectors of the state that are outputs of the layer."""
        return 1 if self.full else self.states


def elementwise_lstm(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through c' = f c + (1 - f) z, with z = tanh(· + wz c) and f = σ(· + wf c)."""
    (g,), (c,), (z, f), (wz, wf) = g, before, gates, parameters
    slope_z = (1.0 - f) * (1.0 - z * z)
    slope_f = (c - z) * (f * (1.0 - f))
    # The derivative of the new state by the old one needs no g, so that a step waits for one multiply-add.
    jacobian = f + slope_z * wz + slope_f * wf
    dz, df = g * slope_z, g * slope_f
    return (g * jacobian,), (dz, df), (dz * c, df * c, dz, df)


def min_gru(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through h' = (1 - z) h + z h̃, with z = σ(·)."""
    (g,), (h,), (candidate, z) = g, before, gates
    stays = 1.0 - z
    d_candidate, dz = g * z, g * ((candidate - h) * (z * stays))
    return (g * stays,), (d_candidate, dz), (d_candidate, dz)


def real_linear(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through h' = λ h + γ u. The terms are those of the gradients by λ and γ."""
    (g,), (h,), (u,), (decay, gamma) = g, before, gates, parameters
    return (g * decay,), (g * gamma,), (g * h, g * u)


def complex_linear(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through h' = λ h + γ u in complex numbers. The terms are Re and Im of Σ ḡ h, and the gradient by γ."""
    (g, gi), (h, hi), (u, ui), (decay, turn, gamma) = g, before, gates, parameters
    back = g * decay + gi * turn, gi * decay - g * turn
    return back, (g * gamma, gi * gamma), (g * h + gi * hi, g * hi - gi * h, g * u + gi * ui)


def lstm(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through c' = f c + i n and h' = o tanh c'. The share of h goes through the product with all units."""
    (dh, dc), (_, c), (i, f, n, o, squashed) = g, before, gates
    d_cell = dc + dh * o * (1.0 - squashed * squashed)
    of_i = d_cell * n * (i * (1.0 - i))
    of_f = d_cell * c * (f * (1.0 - f))
    of_n = d_cell * i * (1.0 - n * n)
    of_o = dh * squashed * (o * (1.0 - o))
    return (dh * 0.0, d_cell * f), (of_i, of_f, of_n, of_o), ()


def gru(g: Any, before: Any, gates: Any, parameters: Any) -> Cotangents:
    """Go back through h' = (1 - z) n + z h, with n = tanh(· + r q). The cotangents are those of q, r, z and n."""
    (g,), (h,), (r, z, n, q) = g, before, gates
    of_n = g * (1.0 - z) * (1.0 - n * n)
    of_z = g * (h - n) * (z * (1.0 - z))
    of_r = of_n * q * (r * (1.0 - r))
    return (g * z,), (of_n * r, of_r, of_z, of_n), ()


RECURRENCES = {
    "elementwise-lstm": Recurrence(1, 2, 2, 2, 4, elementwise_lstm),
    "min-gru": Recurrence(1, 2, 2, 0, 2, min_gru),
    "real-linear": Recurrence(1, 1, 1, 2, 2, real_linear),
    "complex-linear": Recurrence(2, 2, 2, 3, 3, complex_linear),
    "lstm": Recurrence(2, 4, 4, 0, 0, lstm, full=True),
    "gru": Recurrence(1, 3, 4, 0, 0, gru, full=True),
}
