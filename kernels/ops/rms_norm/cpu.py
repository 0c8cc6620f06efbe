"""SKELETON: As layer_norm; weights.shift is None."""

from typing import Any

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.kernels.shared.recurrence.cpu import Vectors


def bind(
    isa: InstructionSet,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    weights: Affine,
    epsilon: float,
) -> Operation:
    """As layer_norm; weights.shift is None."""
    raise NotImplementedError
