"""The reverse pass of dense layers: of few examples through panels of examples, of many rows from rows to rows."""

from typing import Any

from fgnumba.bench.reverse.cotangents import FeaturePanels, sheet_of
from fgnumba.bench.reverse.kernels import cotangents, few, positions, rows
from fgnumba.bench.reverse.passes import Passes
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.model.tasks import ImageBuffer, PanelBuffer
from fgnumba.model.wiring import Step

CACHED_PARAMETERS = 8 * 1024 * 1024
"""Bytes of parameters that are assumed to stay in the last-level cache, which others use too, from pass to pass."""


def dense(passes: Passes, step: Step) -> None:
    """Compute dz = dy a'(z), dx = dz Wᵀ, dW = xᵀ dz and db = Σ dz. The positions of sequences count as examples."""
    if passes.many(step.output):
        _by_rows(passes, step)
    else:
        _by_panels(passes, step)


def _by_panels(passes: Passes, step: Step) -> None:
    layer: Any = step.layer
    parameters = passes.parameters(step)
    weight, bias = parameters["weight"], parameters.get("bias")
    value, features, units = step.inputs[0], step.shapes[0][-1], layer.units
    examples = passes.batch * step.output.positions
    dz = passes.panel_cotangent(step.output)
    source = passes.slope_source(step)
    slopes = passes.panels_of(source) if source else None
    by_features = PanelBuffer(dz.rows // PANEL, dz.panels * PANEL)
    products = examples * features * units
    isa, threads = passes.isa, passes.threads

    passes.add(
        [dz, *([slopes] if slopes else [])],
        [dz, by_features],
        lambda: [
            cotangents.bind_cotangent(
                isa,
                threads,
                by_examples=dz.array,
                by_features=by_features.array,
                source=slopes.array if slopes else None,
                activation_name=layer.activation,
                bias=passes.target(bias) if bias else None,
                features=units,
                batch=examples,
                onto=passes.onto,
            )
        ],
        by_image=False,
    )
    if value.has_tangent:
        # The cotangent must go through the weights of the forward pass, so this comes before they are updated.
        dx = passes.new_panels(value)

        def input_gradient() -> list[Operation]:
            if examples <= few.EXAMPLES:
                return [
                    few.bind_input_gradient(
                        isa,
                        threads,
                        weight=weight.packed,
                        dz=by_features.array,
                        dx=dx.array,
                        batch=examples,
                        features=features,
                        multiply_adds=products,
                    )
                ]
            return [
                panels.bind_product(
                    "input-gradient",
                    isa,
                    threads,
                    a=weight.packed,
                    w=dz.array,
                    out=dx.array,
                    rows=features,
                    terms=units,
                    columns=examples,
                    onto=False,
                    multiply_adds=products,
                    from_memory=passes.parameter_bytes > CACHED_PARAMETERS,
                )
            ]

        passes.add([dz, by_features], [dx], input_gradient, by_image=False)
    weight_gradient(passes, passes.values[value], by_features, weight)
    if value.has_tangent:
        passes.send_panels(value, dx)


def _by_rows(passes: Passes, step: Step) -> None:
    layer: Any = step.layer
    parameters, value = passes.parameters(step), step.inputs[0]
    weight, bias = parameters["weight"], parameters.get("bias")
    count, dy = passes.batch * step.output.positions, passes.rows_or_features(step.output)
    source: ImageBuffer | FeaturePanels | None = passes.slopes_of(step)
    name = rows.SLOPES if source else layer.activation
    source = source or passes.slope_source(step)
    dz = cotangent_by_rows(passes, count, layer.units, dy, source, name, bias)
    if value.has_tangent:
        passes.send_panels(value, back_through(passes, weight, count, dz))
    weight_gradient(passes, passes.values[value], dz, weight)


def cotangent_by_rows(
    passes: Passes,
    count: int,
    features: int,
    dy: ImageBuffer | FeaturePanels,
    source: ImageBuffer | FeaturePanels | None = None,
    activation: str = "identity",
    bias: Any = None,
) -> FeaturePanels:
    """List dz = dy a'(z), and return it in panels of features.

    Parameters
    ----------
    passes : Passes
        The passes.
    count, features : int
        Numbers of rows, and of features of each.
    dy : ImageBuffer or FeaturePanels
        The cotangent of the layer's output. In panels of features, it is replaced by dz.
    source : ImageBuffer, FeaturePanels or None
        The values of which the slope is a function; None: dz is dy.
    activation : str
        The activation a, or ``rows.SLOPES`` if `source` holds the slopes.
    bias : Parameter or None
        The bias, whose gradient is the sum of dz.
    """
    dz = dy if isinstance(dy, FeaturePanels) else FeaturePanels(features, count)
    if dz is dy and source is None and bias is None:
        return dz

    def bind() -> list[Operation]:
        return [
            rows.bind_cotangent(
                passes.isa,
                passes.threads,
                rows=count,
                features=features,
                dy=sheet_of(dy),
                source=sheet_of(source) if source else None,
                activation_name=activation,
                by_features=dz.array,
                bias=passes.target(bias) if bias else None,
                onto=passes.onto,
            )
        ]

    passes.add([dy, *([source] if source else [])], [dz], bind, by_image=False)
    return dz


def back_through(passes: Passes, weight: Any, count: int, dz: FeaturePanels) -> FeaturePanels:
    """List dx = dz Wᵀ of `count` rows, and return it. The weight must not be updated before."""
    inputs, outputs = weight.shape
    turned, dx = PanelBuffer(-(-inputs // PANEL), dz.panels * PANEL), FeaturePanels(inputs, count)
    passes.add(
        [dz],
        [turned, dx],
        lambda: [
            positions.bind_transposed(passes.isa, passes.threads, weight=weight.packed, out=turned.array),
            panels.bind_product(
                "input-gradient",
                passes.isa,
                passes.threads,
                a=dz.array,
                w=turned.array,
                out=dx.array,
                rows=count,
                terms=outputs,
                columns=turned.panels * PANEL,
                onto=False,
                multiply_adds=count * inputs * outputs,
            ),
        ],
        by_image=False,
    )
    return dx


def weight_gradient(passes: Passes, x: ImageBuffer, by_features: PanelBuffer, weight: Any) -> None:
    """List dW = xᵀ dz, of dz in panels of features; x is copied to example panels the first time."""
    examples = passes.batch * x.positions
    x_panels = passes.panels_of(x)
    passes.add(
        [x_panels, by_features],
        [],
        lambda: [
            panels.bind_product(
                "weight-gradient",
                passes.isa,
                passes.threads,
                a=x_panels.array,
                w=by_features.array,
                out=passes.target(weight),
                rows=weight.shape[0],
                terms=examples,
                columns=weight.shape[1],
                onto=passes.onto,
                multiply_adds=examples * weight.shape[0] * weight.shape[1],
            )
        ],
        by_image=False,
    )
