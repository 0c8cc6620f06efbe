"""Random directions of a vector, from the same generator as those of a model's parameters."""

import numpy as np

from fgnumba.device import cpu
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.ops.descent import STORE
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.minimization.variables import Vector
from fgnumba.model.directions import Direction


class Directions:
    """T random directions of a vector in each step: pure functions of (seed, step, t, element).

    Parameters
    ----------
    kind : type of Direction
        The kind: signs or normal numbers.
    seed : int
        The seed.
    size : int
        Number of elements n.
    count : int
        Number of directions T.
    """

    def __init__(self, kind: type[Direction], seed: int, size: int, count: int) -> None:
        device = cpu(FLOAT32)
        self._seed, self._size = seed, size
        self._stream, result = np.zeros(1, STREAM), np.ones(1, RESULT)
        values = np.array([0.0, 1.0])
        self._drawn = device.zeros((count, round_up(size, PANEL)))
        self._program = device.program(
            [
                device.kernels.descent.bind(
                    device.isa,
                    device.threads,
                    theta=row,
                    kind=kind.kind,
                    count=1,
                    parameter=0,
                    stream=self._stream,
                    values=values,
                    result=result,
                    rates=None,
                    rule=STORE,
                    first=kind.base + t,
                )
                for t, row in enumerate(self._drawn)
            ]
        )

    def draw(self, step: int) -> Vector:
        """Return the directions of a step, (n, T) float64, one in each column.

        Parameters
        ----------
        step : int
            Number of the step, counted from 0.
        """
        set_stream(self._stream, self._seed, step)
        self._program.run()
        return np.ascontiguousarray(self._drawn[:, : self._size].T, dtype=np.float64)
