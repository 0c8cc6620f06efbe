"""The arrays and the operations of which a step of block feedback consists: rows, panels, and products of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.devices.precision import for_tangents
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import leading, round_up
from fgnumba.kernels.machine.program import Stage, cpu_operations
from fgnumba.kernels.ops.normalization_slope import LAYER_NORM, RMS_NORM
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers import LayerNorm, Perturbation, RMSNorm, Site
from fgnumba.layers.parameters import Parameter
from fgnumba.objects.bound import Bound

ROWS_A_PART = 64
"""The number of rows that a thread takes at a time where an operation takes rows part by part."""

KINDS = {LayerNorm: LAYER_NORM, RMSNorm: RMS_NORM}
"""The names by which kernels know normalisations of positions."""


class Workshop(Bound):
    """Makes arrays for the positions of a batch, and binds operations on them.

    *Rows* are one row for each position. *Example panels* and *feature panels* are the two factors of a weight's
    gradient, see ``kernels.ops.example_panels``.

    Parameters
    ----------
    device : Device
        The device.
    rows : int
        The number of positions of all examples, B L.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step.

    Attributes
    ----------
    nbytes : int
        The number of bytes of all arrays.
    """

    def __init__(self, device: Device, rows: int, stream: npt.NDArray[Any]) -> None:
        self.device, self.count, self.stream = device, rows, stream
        self.nbytes = 0
        self._lent: dict[Any, Any] = {}
        self._one = device.array(np.ones(1))
        self._share = device.array(np.full(1, 1.0 / rows))

    @property
    def bound_for(self) -> tuple[Any, int]:
        """The instructions and the number of threads that operations are bound for."""
        return self.device.isa, self.device.threads

    def zeros(self, *shape: int) -> Any:
        """Return a new array."""
        array = self.device.zeros(shape)
        self.nbytes += array.nbytes
        return array

    def lent(self, use: str, *shape: int) -> Any:
        """Return an array that every caller with the same use and shape shares: its values are soon overwritten."""
        key = use, shape
        if key not in self._lent:
            self._lent[key] = self.zeros(*shape)
        return self._lent[key]

    def rows(self, use: str, width: int) -> Images:
        """Return rows that are lent for `use`."""
        return Images.of_batch(self.lent(use, 1, self.count, leading(width)), (width,))

    def product(
        self,
        x: Images,
        weight: Any,
        y: Images,
        bias: Any = None,
        rows: int | None = None,
        primal: bool = False,
    ) -> Operation:
        """Return y = x W + b, for a packed weight W, in the precision of tangents, or of primals."""
        outputs = y.shape[2]
        zeros = self.lent("no bias", weight.shape[0] * PANEL)
        bound: Operation = self.device.kernels.dense.bind(
            self.device.isa if primal else for_tangents(self.device.isa),
            self.device.threads,
            batch=self.count if rows is None else rows,
            x=x,
            y=y,
            outputs=outputs,
            weights=Weights(weight, zeros if bias is None else bias, stream=self.stream),
            activation_name="identity",
        )
        return bound

    def parted(self, operations: Sequence[Operation], parts: int) -> list[Any]:
        """Return operations that take a part of the batch at a time, so that threads share the parts."""
        if not self.device.by_parts:
            return list(operations)
        threads = min(parts, self.device.threads)
        found = cpu_operations(operations)
        return [op if op.once else Stage((op,), parts, threads, 0) for op in found]

    def normalized(self, layer: Any, x: Images, y: Images) -> list[Any]:
        """Return y = x̂, of rows, as a normalisation like `layer` computes it before its scale and shift."""
        plain = replace(layer, affine=False)
        site = Site(
            device=self.device,
            batch=self.count,
            images=ROWS_A_PART,
            index=0,
            inputs=(replace(x, part=ROWS_A_PART * x.image),),
            output=replace(y, part=ROWS_A_PART * y.image),
            parameters={},
            perturbation=Perturbation(NONE, 0, self.stream),
        )
        return self.parted(plain.bind(site), -(-self.count // ROWS_A_PART))

    def slope(
        self,
        layer: Any,
        x: Images,
        signal: Images,
        out: Images,
        base: Images | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        target: Any = None,
    ) -> list[Any]:
        """Return out = base + Jᵀ signal, of rows, for a normalisation's Jacobian J at x.

        With `parameters` (scale and perhaps shift), their gradients are written to `target` of their names.
        """
        kernels, normal, scale = self.device.kernels, None, None
        sums: list[Operation] = []
        if parameters:
            scale, shift = parameters["scale"], parameters.get("shift")
            normal = self.rows("normalized", x.shape[2])
            none = self.lent("no shift", *scale.packed.shape)
            sums.append(
                kernels.channel_sums.bind(
                    self.device.threads,
                    batch=self.count,
                    x=normal,
                    delta=signal,
                    scale=target(scale.name),
                    shift=target(shift.name) if shift else none,
                    onto=False,
                )
            )
        slope = kernels.normalization_slope.bind(
            *self.bound_for,
            batch=self.count,
            kind=KINDS[type(layer)],
            x=x,
            signal=signal,
            out=out,
            base=base,
            scale=scale.packed if scale else None,
            epsilon=layer.epsilon,
            normalized=normal,
        )
        return [slope, *sums]

    def sum(self, x: Images, x2: Images, y: Images) -> list[Any]:
        """Return y = x + x2, of rows."""
        return self._moved(x, y, x2=x2)

    def _moved(self, x: Images, y: Images, x2: Images | None = None) -> list[Any]:
        def parts(rows: Images) -> Images:
            return replace(rows, part=ROWS_A_PART * rows.image)

        bound = self.device.kernels.elementwise.bind(
            batch=self.count,
            images_a_part=ROWS_A_PART,
            count=0,
            x=parts(x),
            x2=parts(x2) if x2 else None,
            y=parts(y),
        )
        return self.parted([bound], -(-self.count // ROWS_A_PART))

    def example_panels(self, x: Images, use: str) -> tuple[Any, Operation]:
        """Return the array for x in example panels, and the operation that fills it."""
        panels = self.lent(use, -(-self.count // PANEL), x.shape[2], PANEL)
        return panels, self.device.kernels.example_panels.bind_to_panels(
            *self.bound_for, x=x, panels=panels, batch=self.count
        )

    def panels_of(self, delta: Images, panels: Any, bias: Any = None) -> Operation:
        """Return the copy of error signals to feature panels; their sum over positions goes to `bias`."""
        bound: Operation = self.device.kernels.example_panels.bind_rows_to_feature_panels(
            *self.bound_for, x=delta, panels=panels, batch=self.count, sums=bias
        )
        return bound

    def signal(
        self,
        known: Images,
        out: Any,
        *,
        share: bool = False,
        source: Images | None = None,
        activation: str = "identity",
        bias: Any = None,
    ) -> Operation:
        """Return a'(source) ⊙ known, over the number of positions if `share`; its sum over positions goes to `bias`.

        `out` are rows or feature panels; only with the latter there is a `bias`.
        """
        bound: Operation = self.device.kernels.error_signal.bind(
            *self.bound_for,
            site=Perturbed(self.count, 0, source or known, activation, 0, self.stream),
            out=out,
            scale=self._share if share else self._one,
            known=known.memory[0],
            bias=bias,
        )
        return bound

    def feature_panels(self, use: str, width: int) -> Any:
        """Return an array for error signals of `width` units in feature panels."""
        return self.lent(use, -(-width // PANEL), round_up(self.count, PANEL), PANEL)

    def from_feature_panels(self, panels: Any, out: Images) -> list[Any]:
        """Return the operations that copy feature panels to rows."""
        rows, operations = panels.shape[1], []
        for first in range(0, out.shape[2], PANEL):
            columns = min(PANEL, out.shape[2] - first)
            panel = Images(panels, first * rows, (1, 1, columns), 0, PANEL, columns, columns, 0, False)
            operations += self._moved(panel, out.channels_from(first, columns))
        return operations

    def gradient(self, weight: Parameter, x: Any, delta: Any, target: Any) -> Operation:
        """Return xᵀ δ, the gradient of a weight (K, N), from example panels and feature panels."""
        inputs, units = weight.shape
        bound: Operation = self.device.kernels.example_panels.bind_product(
            "weight-gradient",
            *self.bound_for,
            a=x,
            w=delta,
            out=target,
            rows=inputs,
            terms=self.count,
            columns=units,
            onto=False,
            multiply_adds=self.count * inputs * units,
        )
        return bound
