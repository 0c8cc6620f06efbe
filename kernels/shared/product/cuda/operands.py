"""Packed weights, and the directions along which they move, as the kernels of layers with weights take them."""

from typing import NamedTuple

from fgnumba.kernels.cuda.primitives import Address, Size
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.shared.product.product import Weights


class PackedWeights(NamedTuple):
    """A packed weight matrix and its bias.

    Parameters
    ----------
    weight : Address
        Address of W, packed: panels of 32 columns (``kernels.layout.packing``).
    bias : Address
        Address of b, a vector of 32 numbers a panel.
    rows : Size
        Rows of W, K.
    panels : Size
        Panels of W; where columns are in groups, those of one group.
    """

    weight: Address
    bias: Address
    rows: Size
    panels: Size


class Directions(NamedTuple):
    """Directions V of the weights and v of the bias: either given, or drawn from a counter.

    Parameters
    ----------
    stream : Address
        Address of the ``philox.STREAM`` from which directions are drawn.
    v : Address
        Address of the first V, packed like W, where directions are given.
    v_bias : Address
        Address of the first v, where directions are given.
    kind : Size
        Kind of direction, one of the numbers of ``kernels.rules.directions``.
    parameter : Size
        Index of W in the counter.
    bias_parameter : Size
        Index of b in the counter; -1 where the layer has no bias.
    """

    stream: Address
    v: Address
    v_bias: Address
    kind: Size
    parameter: Size
    bias_parameter: Size


def packed_weights(weights: Weights, groups: int) -> PackedWeights:
    """Return the weights of a layer as kernels take them.

    Parameters
    ----------
    weights : Weights
        The layer's weights.
    groups : int
        Number of groups that the panels belong to.

    Returns
    -------
    PackedWeights
        Addresses and sizes.
    """
    return PackedWeights(
        weight=address(weights.weight),
        bias=address(weights.bias),
        rows=weights.inputs,
        panels=weights.panels // groups,
    )


def directions(weights: Weights, kind: int, slot: int) -> Directions:
    """Return the directions of a layer's weights as kernels take them.

    Parameters
    ----------
    weights : Weights
        The layer's weights.
    kind : int
        Kind of direction that the kernel sees.
    slot : int
        Number of the direction that `v` and `v_bias` are to begin with, where directions are given.

    Returns
    -------
    Directions
        Addresses, and places in the counter.
    """
    v_block, v_bias_block = weights.panels * weights.inputs * 32, weights.panels * 32
    return Directions(
        stream=address(weights.stream),
        v=address(weights.v) + 4 * slot * v_block if weights.v is not None else 0,
        v_bias=address(weights.v_bias) + 4 * slot * v_bias_block if weights.v_bias is not None else 0,
        kind=kind,
        parameter=weights.parameter,
        bias_parameter=weights.bias_parameter,
    )
