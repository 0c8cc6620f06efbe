"""Linear recurrent unit on the CPU: a scan over the positions of sequences, primal and tangents in one pass.

    h'  = λ h + γ u,  λ = exp(-exp(ν) + iθ),  γ = √(1 - |λ|²)            u: the product of the input with the weight
    dh' = λ dh + γ du + dλ h + dγ u
    dλ  = λ (-exp(ν) dν + i dθ),  dγ = |λ|² exp(ν) / γ dν

Complex numbers lie as their real parts, then their imaginary parts. Without θ all of it is real.

Source: A. Orvieto et al., arXiv 2303.06349.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.recurrence import decay
from fgnumba.kernels.rules.trigonometric import sin_and_cos
from fgnumba.kernels.shared.recurrence import cpu as recurrence
from fgnumba.kernels.shared.recurrence.cpu import Rows, Vectors, copy, row, tangent_of
from fgnumba.validation.launcher import launcher

RE, IM, GAMMA, STATE, STATE_IM, BEFORE, BEFORE_IM, U, U_IM, RATE, SLOPE, PRIMAL_ROWS = range(12)
"""Rows of a panel's block: λ, γ, the state h, the h before, u, dlog|λ|/dν and dγ/dν; and how many there are."""

DRE, DIM, DGAMMA, DH, DH_IM, TANGENT_ROWS = range(6)
"""Rows of a tangent."""

COMPLEX, REAL = (Rows(PRIMAL_ROWS, TANGENT_ROWS, STATE, DH, states) for states in (2, 1))

WORK = 8
"""How many multiply-adds take as long as a unit of one position: memory is what takes time."""


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    product: npt.NDArray[np.float32],
    y: Images,
    state: npt.NDArray[np.float32] | None,
    vectors: Vectors,
) -> Operation:
    """Bind the scan to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    units : int
        Number of units H; Hp is that rounded up to whole panels.
    product : array, (1 + T, B L, 2 Hp) float32
        u = x W of each position, real and then imaginary parts, and the tangents; (1 + T, B L, Hp) if real.
    y : Images
        The states h' of B examples (L, 1, 2 H), real and then imaginary parts without a gap; (L, 1, H) if real.
    state : array, (1 + T, B, 2 Hp) or (1, B, 2 Hp) float32, or None; Hp in place of 2 Hp if real
        The state before the first position, which the last one replaces, perhaps with tangents. None: it is zero.
    vectors : Vectors
        ν and θ, (Hp,) each, and their directions; ν alone: the numbers are real.

    Notes
    -----
    Cost of a complex unit and position: 6 products, and 12 a tangent; of a real one 2 and 4. Reads and writes 2 float32
    (1 if real) of the primal and of each tangent. The floor is memory, 16 bytes a complex number.
    """
    is_complex = len(vectors.values) == 2
    return recurrence.bind(
        "linear-recurrent-unit",
        _complex() if is_complex else _real(),
        isa,
        threads,
        batch=batch,
        units=units,
        product=product,
        y=y,
        state=state,
        vectors=vectors,
        rows=COMPLEX if is_complex else REAL,
        work=WORK,
    )


@cache
def _complex() -> int:
    return recurrence.scan(
        "linear-recurrent-unit-complex", COMPLEX, _prepare, _prepare_tangent, _primal, _tangent
    )


@cache
def _real() -> int:
    return recurrence.scan(
        "linear-recurrent-unit-real", REAL, _prepare, _prepare_tangent, _primal_real, _tangent_real
    )


@register_jitable
def _prepare(a: Any, panel: int, block: int) -> None:
    at = panel * PANEL * 4
    nu = carray(pointer(a.vector + at, np.float32), PANEL)
    own = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    for j in range(PANEL):
        size, gamma, rate, slope = decay(nu[j])
        own[RE, j], own[IM, j], own[GAMMA, j] = size, np.float32(0), gamma
        own[RATE, j], own[SLOPE, j] = rate, slope
    if a.vectors > 1:
        theta = carray(pointer(a.vector2 + at, np.float32), PANEL)
        for j in range(PANEL):
            sine, cosine = sin_and_cos(theta[j])
            own[IM, j] = own[RE, j] * sine
            own[RE, j] *= cosine


@register_jitable
def _prepare_tangent(a: Any, t: int, panel: int, block: int, own: int) -> None:
    at = panel * PANEL * 4
    dnu = carray(pointer(tangent_of(a, 0, t) + at, np.float32), PANEL)
    rows = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    moved = carray(pointer(own, np.float32), (TANGENT_ROWS, PANEL))
    for j in range(PANEL):
        change = rows[RATE, j] * dnu[j]
        moved[DRE, j], moved[DIM, j] = rows[RE, j] * change, rows[IM, j] * change
        moved[DGAMMA, j] = rows[SLOPE, j] * dnu[j]
    if a.vectors > 1:
        dtheta = carray(pointer(tangent_of(a, 1, t) + at, np.float32), PANEL)
        for j in range(PANEL):
            moved[DRE, j] -= rows[IM, j] * dtheta[j]
            moved[DIM, j] += rows[RE, j] * dtheta[j]


@register_jitable
def _primal(a: Any, block: int, product: int, y: int, lanes: int) -> None:
    u = carray(pointer(product, np.float32), PANEL)
    u_im = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    own = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    for j in range(PANEL):
        h, h_im, re, im, gamma = own[STATE, j], own[STATE_IM, j], own[RE, j], own[IM, j], own[GAMMA, j]
        own[BEFORE, j], own[BEFORE_IM, j] = h, h_im
        own[U, j], own[U_IM, j] = u[j], u_im[j]
        own[STATE, j] = gamma * u[j] + (re * h - im * h_im)
        own[STATE_IM, j] = gamma * u_im[j] + (re * h_im + im * h)
    copy(y, row(block, STATE), lanes)
    copy(y + a.units * 4, row(block, STATE_IM), lanes)


@register_jitable
def _tangent(a: Any, block: int, own: int, product: int, y: int, lanes: int) -> None:
    du = carray(pointer(product, np.float32), PANEL)
    du_im = carray(pointer(product + a.panels * PANEL * 4, np.float32), PANEL)
    rows = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    moved = carray(pointer(own, np.float32), (TANGENT_ROWS, PANEL))
    for j in range(PANEL):
        h, h_im, re, im = rows[BEFORE, j], rows[BEFORE_IM, j], rows[RE, j], rows[IM, j]
        dh, dh_im, dre, dim = moved[DH, j], moved[DH_IM, j], moved[DRE, j], moved[DIM, j]
        gamma, dgamma = rows[GAMMA, j], moved[DGAMMA, j]
        fed = (gamma * du[j] + dgamma * rows[U, j]) + (dre * h - dim * h_im)
        fed_im = (gamma * du_im[j] + dgamma * rows[U_IM, j]) + (dre * h_im + dim * h)
        moved[DH, j] = fed + (re * dh - im * dh_im)
        moved[DH_IM, j] = fed_im + (re * dh_im + im * dh)
    copy(y, row(own, DH), lanes)
    copy(y + a.units * 4, row(own, DH_IM), lanes)


@register_jitable
def _primal_real(a: Any, block: int, product: int, y: int, lanes: int) -> None:
    u = carray(pointer(product, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    own = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    for j in range(PANEL):
        h = own[STATE, j]
        h_next = own[GAMMA, j] * u[j] + own[RE, j] * h
        own[BEFORE, j], own[U, j] = h, u[j]
        own[STATE, j] = h_next
        after[j] = h_next


@register_jitable
def _tangent_real(a: Any, block: int, own: int, product: int, y: int, lanes: int) -> None:
    du = carray(pointer(product, np.float32), PANEL)
    after = carray(pointer(y, np.float32), PANEL)
    rows = carray(pointer(block, np.float32), (PRIMAL_ROWS, PANEL))
    moved = carray(pointer(own, np.float32), (TANGENT_ROWS, PANEL))
    for j in range(PANEL):
        fed = (rows[GAMMA, j] * du[j] + moved[DGAMMA, j] * rows[U, j]) + moved[DRE, j] * rows[BEFORE, j]
        dh_next = fed + rows[RE, j] * moved[DH, j]
        moved[DH, j] = dh_next
        after[j] = dh_next
