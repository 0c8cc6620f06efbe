"""Layers: shapes, initial parameters, the operations they are bound to. A model owns the parameters."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError, did_you_mean
from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.dense import cpu as dense
from fgnumba.kernels.memory import aligned
from fgnumba.kernels.program import Operation
from fgnumba.kernels.vector import PANEL, InstructionSet
from fgnumba.parameters import Parameter
from fgnumba.validation import whole_number

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Perturbation:
    """The directions of a dual pass.

    Parameters
    ----------
    kind : of ``kernels.directions``.
    count : T, how many directions share the primal; 0 for the primal alone.
    stream : (1,) ``kernels.philox.STREAM``, read when the pass runs.
    first : index of the first.
    explicit : for EXPLICIT, a packed array a parameter name, with a leading axis of length T.
    """

    kind: int
    count: int
    stream: npt.NDArray[Any]
    first: int = 0
    explicit: Mapping[str, npt.NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class Site:
    """Where a layer is bound: its input and output buffers, its parameters, the directions.

    Parameters
    ----------
    x : (1 + T, B, ld) float32, or (1, B, ld) where the tangent is a symbolic zero (`has_tangent` False).
    y : (1 + T, B, ld) float32.
    parameters : by the layer's own names.
    """

    isa: InstructionSet
    threads: int
    input_shape: Shape
    x: npt.NDArray[np.float32]
    has_tangent: bool
    y: npt.NDArray[np.float32]
    parameters: Mapping[str, Parameter]
    perturbation: Perturbation


class Layer(ABC):
    """One layer of a model."""

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example's output; ShapeError where the input does not fit."""

    def initial_parameters(
        self, input_shape: Shape, generator: np.random.Generator
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the initial parameters by name."""
        return {}

    @property
    def is_view(self) -> bool:
        """Whether the output is the input under another shape: nothing is computed."""
        return False

    @abstractmethod
    def bind(self, site: Site) -> list[Operation]:
        """Return the operations that compute the layer at `site`."""


@dataclass(frozen=True)
class Flatten(Layer):
    """Take (H, W, C), or any shape, as one row: y = x, row-major. Computes and moves nothing."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (K,), K the product of the input's shape."""
        return (math.prod(input_shape),)

    @property
    def is_view(self) -> bool:
        """Always true."""
        return True

    def bind(self, site: Site) -> list[Operation]:
        """Return no operation."""
        return []


@dataclass(frozen=True)
class Dense(Layer):
    """Dense layer.

        y  = a(x W + b)
        dy = a'(x W + b) ⊙ (dx W + x V + c)

    Parameters
    ----------
    units : N, the columns of W; at least 1.
    activation : identity, relu, leaky_relu, tanh, sigmoid, gelu, silu, softplus or elu.
    bias : with b (N,).

    W is (K, N), drawn from N(0, g / K) with g = 2 where the activation is a rectifier (relu, leaky_relu,
    gelu, silu, elu, softplus; K. He et al., arXiv 1502.01852) and 1 elsewhere; b starts at 0.

    Raises
    ------
    ConfigError
        Units or activation are not possible.
    ShapeError
        The input is not (K,): put ``Flatten()`` before.
    """

    units: int
    activation: str = "identity"
    bias: bool = True

    def __post_init__(self) -> None:
        whole_number("Dense: units", self.units)
        if self.activation not in RULES:
            raise ConfigError(
                f"Dense: unknown activation {self.activation!r}{did_you_mean(str(self.activation), RULES)}"
            )
        if not isinstance(self.bias, bool):
            raise ConfigError(f"Dense: bias is {self.bias!r}; true or false is required")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (N,)."""
        if len(input_shape) != 1:
            raise ShapeError(
                f"Dense: the input's shape is {input_shape}; (K,) is required, put Flatten() before"
            )
        return (self.units,)

    def initial_parameters(
        self, input_shape: Shape, generator: np.random.Generator
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return ``weight`` (K, N) and, with a bias, ``bias`` (N,)."""
        (inputs,) = input_shape
        gain = 1.0 if self.activation in ("identity", "tanh", "sigmoid") else 2.0
        weight = generator.standard_normal((inputs, self.units), np.float32) * np.float32(
            math.sqrt(gain / inputs)
        )
        parameters = {"weight": weight}
        if self.bias:
            parameters["bias"] = np.zeros(self.units, np.float32)
        return parameters

    def bind(self, site: Site) -> list[Operation]:
        """Return the fused dense operation."""
        weight, bias, p = site.parameters["weight"], site.parameters.get("bias"), site.perturbation
        v = v_bias = None
        if p.explicit is not None:
            v = p.explicit[weight.name]
            v_bias = p.explicit[bias.name] if bias else None
        return [
            dense.bind(
                site.isa,
                site.threads,
                x=site.x,
                inputs=site.input_shape[0],
                outputs=self.units,
                has_tangent=site.has_tangent,
                weight=weight.packed,
                bias=bias.packed if bias else aligned((weight.packed.shape[0] * PANEL,)),
                activation_name=self.activation,
                y=site.y,
                kind=p.kind,
                count=p.count,
                first=p.first,
                parameter=weight.index,
                bias_parameter=bias.index if bias else -1,
                stream=p.stream,
                v=v,
                v_bias=v_bias,
            )
        ]
