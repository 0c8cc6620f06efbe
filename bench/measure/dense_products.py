"""Dense operations on random numbers, to measure and to compare by themselves."""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Operation, Program
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.kernels.shared.product.product import Weights

VARIANTS = {
    "primal": (directions.NONE, 0, True),
    "rank1": (directions.RANK1, 1, True),
    "rank1-x4": (directions.RANK1, 4, True),
    "signs": (directions.RADEMACHER, 1, True),
    "gaussian": (directions.GAUSSIAN, 1, True),
    "explicit": (directions.EXPLICIT, 1, True),
    "rank1-input": (directions.RANK1, 1, False),
    "signs-input": (directions.RADEMACHER, 1, False),
    "gaussian-input": (directions.GAUSSIAN, 1, False),
    "explicit-input": (directions.EXPLICIT, 1, False),
}
"""Kind of the directions, their number, and whether the input has tangents, by name."""


def bound(
    variant: str, batch: int, inputs: int, outputs: int, threads: int, isa: InstructionSet
) -> Operation:
    """Return a dense operation on random numbers, the same in every call.

    Parameters
    ----------
    variant : str
        Name in `VARIANTS`.
    batch, inputs, outputs : int
        The layer's shape.
    threads : int
        Number of threads.
    isa : InstructionSet
        The instruction set, with its precisions.
    """
    return _bound(variant, batch, inputs, outputs, threads, isa)[0]


def output(
    variant: str, batch: int, inputs: int, outputs: int, threads: int, isa: InstructionSet
) -> npt.NDArray[np.float32]:
    """Return what the operation of :func:`bound` computes: (1 + T, B, N), primal and tangents.

    Parameters
    ----------
    variant : str
        Name in `VARIANTS`.
    batch, inputs, outputs : int
        The layer's shape.
    threads : int
        Number of threads.
    isa : InstructionSet
        The instruction set, with its precisions.
    """
    operation, y = _bound(variant, batch, inputs, outputs, threads, isa)
    Program([operation], threads).run()
    return y[:, :, :outputs]


def _bound(
    variant: str, batch: int, inputs: int, outputs: int, threads: int, isa: InstructionSet
) -> tuple[Operation, npt.NDArray[np.float32]]:
    kind, count, has_tangent = VARIANTS[variant]
    rng = np.random.default_rng(0)
    x = aligned(((1 + count) if has_tangent else 1, batch, leading(inputs)))
    x[...] = rng.standard_normal(x.shape)
    y = aligned((1 + count, batch, leading(outputs)))
    weight = pack(rng.standard_normal((inputs, outputs)))
    explicit = kind == directions.EXPLICIT
    operation = dense.bind(
        isa,
        threads,
        batch=batch,
        x=Images.of_batch(x, (inputs,), has_tangent and count > 0),
        y=Images.of_batch(y, (outputs,), count > 0),
        outputs=outputs,
        weights=Weights(
            weight=weight,
            bias=aligned((weight.shape[0] * PANEL,)),
            kind=kind,
            count=count,
            parameter=0,
            bias_parameter=1,
            stream=np.zeros(1, STREAM),
            v=np.stack([pack(rng.standard_normal((inputs, outputs)))] * count) if explicit else None,
            v_bias=aligned((count, weight.shape[0] * PANEL)) if explicit else None,
        ),
        activation_name="relu",
    )
    return operation, y


def useful_multiply_adds(variant: str, batch: int, inputs: int, outputs: int) -> int:
    """Return the number of multiply-adds of the mathematical operation, without those for padding and drawing.

    Parameters
    ----------
    variant : str
        Name in `VARIANTS`.
    batch, inputs, outputs : int
        The layer's shape.
    """
    kind, count, has_tangent = VARIANTS[variant]
    own = kind not in (directions.NONE, directions.RANK1)
    return batch * inputs * outputs * (1 + count * (has_tangent + own))
