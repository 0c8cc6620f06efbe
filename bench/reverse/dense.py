"""The reverse pass of dense layers: of few examples through panels of examples, of many rows from rows to rows."""

from typing import Any, TypeVar

from fgnumba.bench.reverse.cotangents import FeaturePanels, sheet_of
from fgnumba.bench.reverse.kernels import back, cotangents, few, positions, rows
from fgnumba.bench.reverse.passes import Passes
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops.example_panels import cpu as panels
from fgnumba.model.tasks import ImageBuffer, PanelBuffer
from fgnumba.model.wiring import Step, Value

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
    if isinstance(dy, FeaturePanels) and dy.complete:
        dz = dy
    else:
        dz = cotangent_by_rows(passes, count, layer.units, dy, source, name, bias)
    send_back(passes, weight, value, count, dz)
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


def send_back(passes: Passes, weight: Any, value: Value, count: int, dz: FeaturePanels) -> None:
    """List dx = dz Wᵀ of `count` rows, and hand it to the value x. The weight must not be updated before.

    If a dense layer alone made x, and kept its slopes, its own dz and the gradient of its bias come at once.
    """
    if not value.has_tangent:
        return
    if not (passes.alone(value) and passes.many(value)):
        passes.receive(value, back_through(passes, weight, count, dz, passes.buffer(value)))
        return
    assert value.producer is not None
    slopes, bias = passes.slopes_of(value.producer), passes.parameters(value.producer).get("bias")
    dx = FeaturePanels(value.width, count, complete=slopes is not None)
    passes.receive(value, back_through(passes, weight, count, dz, dx, slopes, bias))


Told = TypeVar("Told", bound=ImageBuffer | FeaturePanels)


def back_through(
    passes: Passes,
    weight: Any,
    count: int,
    dz: FeaturePanels,
    dx: Told,
    slopes: FeaturePanels | None = None,
    bias: Any = None,
) -> Told:
    """List dx = dz Wᵀ or, with slopes, (dz Wᵀ) ⊙ a' and its sum for a bias, and return dx.

    Parameters
    ----------
    passes : Passes
        The passes.
    weight : Parameter
        The weight, which must not be updated before.
    count : int
        Number of rows.
    dz : FeaturePanels
        The cotangent of the layer's output.
    dx : ImageBuffer or FeaturePanels
        The buffer that is written, by rows or in panels of features.
    slopes : FeaturePanels or None
        The slopes of the layer that made the input.
    bias : Parameter or None
        The bias of that layer.
    """
    inputs, outputs = weight.shape
    turned = PanelBuffer(-(-inputs // PANEL), outputs)
    passes.add(
        [dz, *([slopes] if slopes else [])],
        [turned, dx],
        lambda: [
            positions.bind_transposed(passes.isa, passes.threads, weight=weight.packed, out=turned.array),
            back.bind(
                passes.isa,
                passes.threads,
                rows=count,
                dz=dz.array,
                terms=outputs,
                weight=turned.array,
                features=inputs,
                out=sheet_of(dx),
                slopes=slopes.array if slopes else None,
                bias=passes.target(bias) if slopes and bias else None,
                onto=passes.onto,
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
