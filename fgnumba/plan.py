"""A plan: a model bound to a batch size, with buffers assigned by liveness and every kernel bound once.

Running a plan looks nothing up and allocates nothing.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.loss import RESULT
from fgnumba.kernels.memory import address, aligned, leading, pads_well
from fgnumba.kernels.program import Operation, Program
from fgnumba.kernels.threads import thread_count
from fgnumba.kernels.vector import instruction_set
from fgnumba.layers import Perturbation, Site
from fgnumba.liveness import Lifetime, assign
from fgnumba.losses import Loss

if TYPE_CHECKING:
    from fgnumba.model import Sequential


class Plan:
    """The forward pass of a model on B examples, with T tangents and a loss where asked for.

    Parameters
    ----------
    model : its parameters are read in place.
    batch : B.
    perturbation : the directions.
    loss : appended to the pass.

    Attributes
    ----------
    values : (1 + T,) float64, the loss and the directional derivatives of the last run.
    result : (1,) ``kernels.loss.RESULT``, whether they are finite.
    output : (1 + T, B, ld) float32, the dual output of the last run.
    """

    def __init__(
        self,
        model: "Sequential",
        batch: int,
        perturbation: Perturbation,
        loss: Loss | None = None,
    ) -> None:
        self.batch, self.perturbation, self.loss = batch, perturbation, loss
        self.outputs = model.outputs
        self.isa, self.threads = instruction_set(), thread_count()
        self.values = np.zeros(1 + perturbation.count)
        self.result = np.zeros(1, RESULT)
        self._inputs = math.prod(model.input_shape)
        self._input: npt.NDArray[np.float32] | None = None
        self._operations = self._bind_layers(model, perturbation)
        self.targets: npt.NDArray[Any] | None = None
        if loss is not None:
            self.targets = loss.target_buffer(batch, self.outputs)
            self._operations += loss.bind(
                self.threads, self.output, self.outputs, self.targets, self.result, self.values
            )
        self._program = Program(self._operations)

    def _bind_layers(self, model: "Sequential", perturbation: Perturbation) -> list[Operation]:
        steps = [
            (index, layer, shape)
            for index, (layer, shape) in enumerate(zip(model.layers, model.shapes, strict=False))
            if not layer.is_view
        ]
        blocks = 1 + perturbation.count
        widths = [math.prod(layer.output_shape(shape)) for _, layer, shape in steps]
        sizes = [blocks * self.batch * leading(width) for width in widths]
        slots, capacities = assign([Lifetime(size, i, i + 1) for i, size in enumerate(sizes)])
        arenas = [aligned((capacity,)) for capacity in capacities]
        self.buffer_nbytes = sum(arena.nbytes for arena in arenas)

        # Before an input is set, the first layer reads a placeholder of no size.
        x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, self.batch, self._inputs), (0, 0, 0))
        operations: list[Operation] = []
        for i, (index, layer, shape) in enumerate(steps):
            y = arenas[slots[i]][: sizes[i]].reshape(blocks, self.batch, leading(widths[i]))
            site = Site(
                isa=self.isa,
                threads=self.threads,
                input_shape=shape,
                x=x,
                has_tangent=i > 0 and perturbation.count > 0,
                y=y,
                parameters=model.layer_parameters(index),
                perturbation=perturbation,
            )
            bound = layer.bind(site)
            if i == 0:
                self._input_readers = [operation.arguments for operation in bound]
            operations += bound
            x = y
        self.output = x
        return operations

    def append(self, operations: Sequence[Operation]) -> None:
        """Run `operations` after the pass, each time."""
        self._operations += operations
        self._program = Program(self._operations)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What a run executes, in order."""
        return self._program.operations

    @property
    def nbytes(self) -> int:
        """Bytes of buffers and scratch memory, the copied input included."""
        copied = self._input.nbytes if self._input is not None else 0
        return self.buffer_nbytes + self._program.scratch_nbytes + copied

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any] | None = None) -> None:
        """Run the pass on `x` (B, ...) and, where there is a loss, `targets`; both already checked.

        x is read in place where it is contiguous float32 with rows at a distance that the kernels read at
        full speed, and copied elsewhere.
        """
        rows = x.reshape(self.batch, self._inputs)
        if rows.dtype == np.float32 and rows.flags.c_contiguous and pads_well(self._inputs):
            at, distance = rows.__array_interface__["data"][0], self._inputs
        else:
            if self._input is None:
                self._input = aligned((self.batch, leading(self._inputs)))
            self._input[:, : self._inputs] = rows
            at, distance = address(self._input), self._input.shape[1]
        for arguments in self._input_readers:
            arguments["x"], arguments["ld_x"] = at, distance
        if self.targets is not None:
            self.targets[...] = targets
        self._program.run()
