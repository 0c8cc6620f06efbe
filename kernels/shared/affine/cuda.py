"""Directions of the scale and the shift of each channel on a GPU, for normalisations; see ``cpu``."""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.drawn.vectors_cuda import drawn_vectors


def filled(affine: Affine, driver: Driver, channels: int, has_tangent: bool) -> Affine:
    """Return a scale and a shift that are there: ones and zeros that do not move, where there are neither.

    Parameters
    ----------
    affine : Affine
        Scale and shift, or neither.
    driver : Driver
        The GPU on which ones and zeros are made.
    channels : int
        Number of channels C.
    has_tangent : bool
        Whether the input has a tangent. Without it, ones and zeros have no directions.

    Returns
    -------
    Affine
        `affine` itself where it has a scale.
    """
    if affine.scale is not None:
        return affine
    size, count = round_up(channels, PANEL), affine.count if has_tangent else 0
    ones, zeros = DeviceArray.zeros(driver, (size,)), DeviceArray.zeros(driver, (1 + count, size))
    ones.upload(np.ones(size, np.float32))
    still: Any = zeros
    scale: Any = ones
    return Affine(scale, still[0], EXPLICIT, count, v_scale=still, v_shift=still)


def tangents(affine: Affine) -> tuple[Any, Any, tuple[Launch, ...]]:
    """Return the directions of a layer's scale and shift, and the launches that draw them.

    Parameters
    ----------
    affine : Affine
        Scale and shift, and the directions along which they move.

    Returns
    -------
    tuple
        The directions of the scale and those of the shift, (T, C rounded up) each, or None where there are none; then
        the launches.
    """
    if affine.kind == EXPLICIT or affine.count == 0:
        return affine.v_scale, affine.v_shift, ()
    scale: Any = affine.scale
    drawn, launches = drawn_vectors(
        scale.driver,
        scale.size,
        (affine.scale_parameter, affine.shift_parameter),
        kind=affine.kind,
        count=affine.count,
        first=affine.first,
        stream=affine.stream,
    )
    return drawn[0], drawn[1], launches
