"""Feedback matrices that follow a linear layer: those of the layers that it alone reads, and that it alone tells.

A local head reads an image as means over windows of a pixels, whose cells are then those of B (A N, C), and so many
times too large is the error signal e Bᵀ of a pixel if B equals the head's weight: it is divided by a.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.activity.forward_tasks import head_name, window
from fgnumba.estimators.activity.layout import Layout, Place
from fgnumba.estimators.activity.settings import Feedback, LocalLosses
from fgnumba.kernels.layout.images import image_shape
from fgnumba.layers import Dense
from fgnumba.model.graph import Graph
from fgnumba.model.wiring import Step


class Follower(NamedTuple):
    """What a feedback matrix follows.

    Parameters
    ----------
    leader : str
        The name of the weight.
    cells : ndarray, int64
        The number of the cell of each pixel.
    pixels : int
        The number a of pixels in a cell.
    """

    leader: str
    cells: npt.NDArray[np.int64]
    pixels: int


def matrix_name(step: Step, group: int) -> str:
    """Return the name of the feedback matrix of a group of a layer's channels."""
    return f"feedback.{step.names[0]}.{group}"


def follower(
    model: Graph,
    layout: Layout,
    place: Place,
    group: int,
    feedback: Feedback | None,
    local: LocalLosses | None,
) -> Follower | None:
    """Return what the feedback of a group of a layer's channels follows, or None if it learns from noise alone."""
    if feedback is None or not feedback.follow:
        return None
    if local is not None and place.carrier in layout.ends:
        return None if not is_told_by_head(place.carrier, feedback, local) else _of_head(place, group, local)
    output = layout.output
    if output is None or type(output.layer) is not Dense or output.layer.fused_activation != "identity":
        return None
    value = place.carrier.output
    if output.inputs[0] is not value or value.readers != [output] or image_shape(value.shape)[:2] != (1, 1):
        return None
    weight = model.layer_parameters(output.index)["weight"]
    return Follower(weight.name, np.zeros(1, np.int64), 1)


def is_told_by_head(end: Step, feedback: Feedback | None, local: LocalLosses | None) -> bool:
    """Return whether a block's end follows its head, whose windows then cover all pixels: it needs no noise."""
    if feedback is None or not feedback.follow or local is None:
        return False
    height, width, _ = image_shape(end.output.shape)
    down, across = window(height, width, local.cells)
    return height % down == 0 and width % across == 0


def _of_head(place: Place, group: int, local: LocalLosses) -> Follower:
    height, width, _ = image_shape(place.carrier.output.shape)
    down, across = window(height, width, local.cells)
    rows, columns = np.arange(height) // down, np.arange(width) // across
    cells = np.add.outer(rows * (width // across), columns).ravel().astype(np.int64)
    return Follower(f"{head_name(place.carrier, group)}.weight", np.ascontiguousarray(cells), down * across)
