"""What the reverse pass of layers of many rows computes: cotangents in panels of features, their sums, and copies.

A batch of sequences has a row for each position. With so many rows it is cheaper to turn a weight than the cotangents
of its outputs. A cotangent of N features lies in *panels of features*, (ceil(N / PANEL), rows, PANEL) float32, in which
it is either factor of a product: dx = dz Wᵀ, whose terms are features, and dW = xᵀ dz, whose terms are rows.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.bench.reverse.kernels.panel_rows import panel_rows
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import MOVED_WORK, parts_for, split
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.validation.launcher import launcher


class Sheet(NamedTuple):
    """Where rows of features lie: in rows one after the other, or in panels.

    Parameters
    ----------
    memory : array, float32
        The array that contains them.
    start : int
        Elements from the first element of `memory` to the first feature of row 0.
    panel, row : int
        Elements from one panel of features to the next, and from one row to the next.
    """

    memory: npt.NDArray[np.float32]
    start: int
    panel: int
    row: int

    @classmethod
    def of_rows(cls, images: Images) -> "Sheet":
        """Return the rows of images of one pixel."""
        return cls(images.memory, images.start, PANEL, images.image)

    @classmethod
    def of_panels(cls, panels: npt.NDArray[np.float32]) -> "Sheet":
        """Return the rows of panels (panels, rows, PANEL)."""
        return cls(panels, 0, panels.shape[1] * PANEL, PANEL)

    def fields(self, name: str) -> dict[str, int]:
        """Return the kernel arguments that describe the rows, under the names that :func:`sheet_fields` gives."""
        at = address(self.memory) + 4 * self.start
        return dict(zip(sheet_fields(name), (at, self.panel, self.row), strict=True))


def sheet_fields(name: str) -> tuple[str, ...]:
    """Return the names of the kernel arguments that describe a sheet: for `name` x, they are ``x``, ``x_panel``, …."""
    return name, f"{name}_panel", f"{name}_row"


_COTANGENT = record(
    *sheet_fields("dy"),
    *sheet_fields("source"),
    *("rows", "features", "padded", "by_features", "bias", "onto"),
)

SLOPES = "slopes"
"""In place of an activation: `source` holds the slopes themselves."""


@launcher
def bind_cotangent(
    isa: InstructionSet,
    threads: int,
    *,
    rows: int,
    features: int,
    dy: Sheet,
    source: Sheet | None,
    activation_name: str,
    by_features: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    onto: bool,
) -> Operation:
    """Bind dz = dy a'(z) in panels of features, and its sum over rows.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    rows, features : int
        Numbers of rows, and of features N.
    dy : Sheet
        The cotangents of the outputs, which may be those of `by_features`.
    source : Sheet or None
        The values of which the slope is a function, or with ``SLOPES`` the slopes. None: the slope is 1.
    activation_name : str
        The activation a, or ``SLOPES``.
    by_features : array, (ceil(N / PANEL), at least `rows`, PANEL) float32
        Written: dz, with zeros in the padding.
    bias : array, (at least N,) float32, or None
        Written: the sum of dz. None: the layer has no bias.
    onto : bool
        Whether the sum is added to what `bias` holds.

    Notes
    -----
    Cost: reads dy and source once, and writes dz once. A part has whole panels, and sums them over all rows in order.
    """
    fields = {
        **dy.fields("dy"),
        **(source.fields("source") if source else {}),
        "rows": rows,
        "features": features,
        "padded": by_features.shape[1],
        "by_features": address(by_features),
        "bias": address(bias),
        "onto": onto,
    }
    return Operation(
        "cotangent",
        _cotangent_entry(isa, activation_name if source else "identity"),
        filled(_COTANGENT, fields),
        parts_for(rows * features * MOVED_WORK, len(by_features), threads),
        scratch_bytes=PANEL * 4,
        keeps=(dy.memory, source.memory if source else None, by_features, bias),
    )


def _cotangent_entry(isa: InstructionSet, activation_name: str) -> int:
    identity, given = activation_name == "identity", activation_name == SLOPES
    rule = rule_of("identity" if given else activation_name)
    multiplied, copied = panel_rows(isa, True), panel_rows(isa, False)

    @register_jitable
    def go_through(a: Any, dy: int, source: int, out: int) -> None:
        if identity:
            copied(a.rows, dy, a.dy_row, 0, 0, out, PANEL, a.scratch)
        elif given:
            multiplied(a.rows, dy, a.dy_row, source, a.source_row, out, PANEL, a.scratch)
        else:
            _one_by_one(a, dy, source, out, PANEL)

    @register_jitable
    def _one_by_one(a: Any, dy: int, source: int, out: int, columns: int) -> None:
        sums = carray(pointer(a.scratch, np.float32), PANEL)
        for i in range(a.rows):
            told = carray(pointer(dy + i * a.dy_row * 4, np.float32), PANEL)
            values = carray(pointer(source + i * a.source_row * 4, np.float32), PANEL)
            dz = carray(pointer(out + i * PANEL * 4, np.float32), PANEL)
            for n in range(columns):
                if identity:
                    dz[n] = told[n]
                elif given:
                    dz[n] = told[n] * values[n]
                else:
                    dz[n] = told[n] * rule(values[n])[1]
                sums[n] += dz[n]
            for n in range(columns, PANEL):
                dz[n] = np.float32(0)

    def cotangent(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _COTANGENT), 1)[0]
        first, last = split((a.features + PANEL - 1) // PANEL, parts, part)
        sums = carray(pointer(a.scratch, np.float32), PANEL)
        for q in range(first, last):
            columns = min(PANEL, a.features - q * PANEL)
            out = a.by_features + q * a.padded * PANEL * 4
            dy, source = a.dy + q * a.dy_panel * 4, a.source + q * a.source_panel * 4
            for n in range(PANEL):
                sums[n] = np.float32(0)
            if columns == PANEL:
                go_through(a, dy, source, out)
            else:
                _one_by_one(a, dy, source, out, columns)
            rest = carray(pointer(out, np.float32), a.padded * PANEL)
            for at in range(a.rows * PANEL, a.padded * PANEL):
                rest[at] = np.float32(0)
            if a.bias != 0:
                bias = carray(pointer(a.bias + q * PANEL * 4, np.float32), PANEL)
                for n in range(columns):
                    bias[n] = sums[n] + (bias[n] if a.onto else np.float32(0))

    return kernel(f"reverse-rows-cotangent-{activation_name}-{isa.vectors}", cotangent, 3)
