"""Dense layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ShapeError
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.layers.base import (
    Initial,
    Layer,
    Shape,
    Site,
    checked_activation,
    gain,
    initial_values,
    sizes,
)
from fgnumba.validation import MAX_FLOAT32, flag, optional, real_number, store, whole_number


@dataclass(frozen=True)
class Dense(Layer):
    """A dense (fully connected) layer.

        y  = a(x W + b)
        dy = a'(x W + b) ⊙ (dx W + x V + c)

    V and c are the tangents of W and b. W is (K, N), drawn from N(0, g / K): g is 2 if the activation is a rectifier
    (relu, leaky_relu, gelu, silu, elu, softplus; K. He et al., arXiv 1502.01852), else 1. b starts at 0. Of a sequence
    (L, K), the layer takes each position by itself, all with the same W and b.

    Parameters
    ----------
    units : int
        The number N of outputs, which are the columns of W; at least 1.
    activation : str, optional
        The activation a: identity (the default), relu, leaky_relu, tanh, sigmoid, gelu, silu, softplus or elu, or
        what :func:`fgnumba.activation` makes of a function.
    bias : bool, optional
        Whether there is a bias b (N,). By default True.
    deviation : float, optional
        The standard deviation of the initial W, above 0. By default √(g / K).

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the shape of the input is neither (K,) nor (L, K). Put ``Flatten()`` before the layer.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.Dense(10, activation="relu").parameter_shapes([(64,)])
    {'weight': (64, 10), 'bias': (10,)}
    """

    units: int
    activation: str | None = "identity"
    bias: bool = True
    deviation: float | None = None

    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        store(
            self,
            units=whole_number("Dense: units", self.units, 1, MAX_COLUMNS),
            activation=checked_activation("Dense", self.activation),
            bias=flag("Dense: bias", self.bias),
            deviation=optional(real_number, "Dense: deviation", self.deviation, True, MAX_FLOAT32),
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output: (N,), or (L, N) of a sequence (L, K)."""
        if len(inputs[0]) not in (1, 2):
            raise ShapeError(
                f"Dense: the input's shape is {inputs[0]}; (K,) is required, put Flatten() before, or a "
                "sequence (L, K)"
            )
        return (*sizes(inputs[0])[:-1], self.units)

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters: ``weight`` (K, N) and, with a bias, ``bias`` (N,)."""
        return {"weight": (int(inputs[0][-1]), self.units), **({"bias": (self.units,)} if self.bias else {})}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters: a weight drawn from N(0, g / K), and a bias of zeros."""
        share = gain(str(self.activation)) if self.deviation is None else self.deviation**2 * inputs[0][-1]
        return initial_values(self.parameter_shapes(inputs), share, generator)

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds for one example, K N, or L K N."""
        return math.prod(sizes(inputs[0])) * self.units

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`: product, bias and activation in one."""
        return [
            site.device.kernels.dense.bind(
                site.isa,
                site.threads,
                batch=site.batch * site.inputs[0].shape[0],
                x=site.inputs[0].by_rows(),
                y=site.output.by_rows(),
                outputs=self.units,
                weights=weights_at(site),
                activation_name=str(self.activation),
            )
        ]


def weights_at(site: Site, of_weight: str = "weight", of_bias: str = "bias") -> Weights:
    """Return a weight and a bias, by their names, and their directions in the form that the kernels take."""
    weight, bias, p = site.parameters[of_weight], site.parameters.get(of_bias), site.perturbation
    biases: npt.NDArray[np.float32] = (
        bias.packed if bias else site.device.zeros((weight.packed.shape[0] * PANEL,))
    )
    return Weights(
        weight=weight.packed,
        bias=biases,
        kind=p.kind,
        count=p.count,
        first=p.first,
        parameter=weight.index,
        # Without directions the tangent of the bias is zero, as if there were no bias.
        bias_parameter=bias.index if bias and p.kind != NONE else -1,
        stream=p.stream,
        v=p.of(weight),
        v_bias=p.of(bias),
    )
