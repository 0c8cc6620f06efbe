"""Directions of the scale and the shift of each channel on a GPU, for normalisations; see ``cpu``."""

from typing import Any

from fgnumba.kernels.cuda.program import Launch
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.drawn.vectors_cuda import drawn_vectors


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
