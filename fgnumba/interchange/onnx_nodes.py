"""The nodes of an ONNX network, each as a layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, FgError, shown
from fgnumba.interchange.inward import Builder, Value
from fgnumba.interchange.onnx_file import Network, attributes_of
from fgnumba.interchange.onnx_out import FIRST, LAST
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.layers.base import MAX_PIXELS
from fgnumba.layers.convolution import resolved_padding
from fgnumba.validation import whole_number

Array = npt.NDArray[Any]

SIMPLE = {
    "Identity": "identity",
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
}
"""Operators without attributes that are activations here."""

SLOPE = 0.01


class NodeReader:
    """Adds a layer for each node.

    Parameters
    ----------
    network : Network
        The network.
    builder : Builder
        Collects the layers.

    Attributes
    ----------
    values : dict of str to Value
        What has been computed, by name.
    constants : dict of str to ndarray
        What is known beforehand, by name.
    """

    def __init__(self, network: Network, builder: Builder) -> None:
        self.builder = builder
        self.constants = dict(network.constants)
        self._batch = network.batch
        self.values: dict[str, Value] = {network.input: builder.input}
        self._readers: dict[str, Callable[[Any, str], Value]] = {
            **dict.fromkeys(SIMPLE, self._simple),
            **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), self._row),
            **dict.fromkeys(("MaxPool", "AveragePool"), self._pool),
            "Add": self._add,
            "Concat": self._concat,
            "Conv": self._conv,
            "Dropout": self._dropout,
            "Elu": self._elu,
            "Gelu": self._gelu,
            "Gemm": self._gemm,
            "GlobalAveragePool": self._global_average,
            "GroupNormalization": self._group_norm,
            "LayerNormalization": self._layer_norm,
            "LeakyRelu": self._leaky_relu,
            "MatMul": self._matmul,
            "Mul": self._mul,
            "Transpose": self._transpose,
        }
        self._products: dict[str, tuple[Value, Array]] = {}
        self._sigmoids: dict[str, str] = {}

    def read(self, index: int, node: Any) -> None:
        """Add the layer of node `index`."""
        where = f"node {shown(node.name or index)} ({shown(node.op_type).strip(chr(39))})"
        outputs = [name for name in node.output if name]
        if node.domain not in ("", "ai.onnx") or (
            node.op_type not in self._readers and node.op_type != "Constant"
        ):
            domain = f" of the domain {shown(node.domain)}" if node.domain else ""
            raise ValueError(f"{where}: the operator{domain} has no counterpart")
        if len(outputs) != 1 or outputs[0] in self.values or outputs[0] in self.constants:
            raise ValueError(f"{where}: its outputs are {shown(outputs)}; one new name is required")
        if node.op_type == "Constant":
            (value,) = attributes_of(node, where, {"value": None}).values()
            if value is None:
                raise ValueError(f"{where}: value is missing")
            self.constants[outputs[0]] = value
            return
        if node.op_type == "Identity" and list(node.input)[:1] and node.input[0] in self.constants:
            # PyTorch's exporter stores equal parameters once, and gives them further names in this way.
            attributes_of(node, where, {})
            self.constants[outputs[0]] = self.constants[node.input[0]]
            return
        try:
            self.values[outputs[0]] = self._readers[node.op_type](node, where)
        except FgError as error:
            text = str(error)
            raise type(error)(text if text.startswith(where) else f"{where}: {text}") from None

    def value(self, name: str, where: str) -> Value:
        """Return a value that has been computed."""
        if name in self._products:
            # A product that no Add follows has no bias.
            x, weight = self._products.pop(name)
            self.values[name] = self.builder.linear(where, x, weight, None)
        if name not in self.values:
            kind = (
                "a constant has no counterpart there"
                if name in self.constants
                else "nothing before computes it"
            )
            raise ValueError(f"{where} reads {shown(name)}: {kind}")
        return self.values[name]

    def _one(self, node: Any, where: str, most: int = 1) -> Value:
        if not 1 <= len(node.input) <= most:
            raise ValueError(f"{where}: it has {len(node.input)} inputs; 1 to {most} are possible")
        return self.value(node.input[0], where)

    def _constant(self, node: Any, where: str, index: int, axes: int = 1) -> Array:
        """Return input `index`, which must be a constant of so many axes, in float32."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.constants:
            raise ValueError(f"{where}: input {index} is {shown(name)}; a constant is required")
        array = self.constants[name]
        if array.dtype.kind != "f" or array.ndim != axes:
            raise ValueError(
                f"{where}: {shown(name)} is {array.dtype} with {array.ndim} axes; {axes} is required"
            )
        return _float32(array)

    def _optional(self, node: Any, where: str, index: int) -> Array | None:
        given = index < len(node.input) and node.input[index]
        return self._constant(node, where, index) if given else None

    def _simple(self, node: Any, where: str) -> Value:
        attributes_of(node, where, {})
        x = self._one(node, where)
        if node.op_type == "Identity":
            return x
        if node.op_type == "Sigmoid":
            self._sigmoids[node.output[0]] = node.input[0]
        return self.builder.activation(where, x, SIMPLE[node.op_type])

    def _elu(self, node: Any, where: str) -> Value:
        alpha = attributes_of(node, where, {"alpha": 1.0})["alpha"]
        if alpha != 1:
            raise ValueError(f"{where}: alpha is {alpha}; 1 is required")
        return self.builder.activation(where, self._one(node, where), "elu")

    def _leaky_relu(self, node: Any, where: str) -> Value:
        alpha = attributes_of(node, where, {"alpha": SLOPE})["alpha"]
        if np.float32(alpha) != np.float32(SLOPE):
            raise ValueError(f"{where}: alpha is {alpha}; {SLOPE} is required")
        return self.builder.activation(where, self._one(node, where), "leaky_relu")

    def _gelu(self, node: Any, where: str) -> Value:
        form = attributes_of(node, where, {"approximate": "none"})["approximate"]
        if form != "none":
            raise ValueError(f"{where}: approximate is {shown(form)}; 'none' is required")
        return self.builder.activation(where, self._one(node, where), "gelu")

    def _mul(self, node: Any, where: str) -> Value:
        attributes_of(node, where, {})
        for x, sigmoid in (list(node.input), list(reversed(node.input))) if len(node.input) == 2 else ():
            if self._sigmoids.get(sigmoid) == x:
                return self.builder.activation(where, self.value(x, where), "silu")
        raise ValueError(f"{where}: products other than x * Sigmoid(x) have no counterpart")

    def _gemm(self, node: Any, where: str) -> Value:
        known = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        given = attributes_of(node, where, known)
        if given["alpha"] != 1 or given["beta"] != 1 or given["transA"] != 0 or given["transB"] not in (0, 1):
            raise ValueError(f"{where}: alpha, beta and transA are {given}; 1, 1 and 0 are required")
        x, weight = self._one(node, where, 3), self._constant(node, where, 1, 2)
        return self.builder.linear(
            where, x, weight if given["transB"] else weight.T, self._optional(node, where, 2)
        )

    def _matmul(self, node: Any, where: str) -> Value:
        attributes_of(node, where, {})
        x, weight = self._one(node, where, 2), self._constant(node, where, 1, 2).T
        if len(x.shape) != 1 or weight.shape[1] != x.shape[0]:
            raise ValueError(
                f"{where}: weight has shape {weight.T.shape}; ({x.shape[0]}, N) is required of a row"
            )
        self._products[node.output[0]] = (x, weight)
        # The layer is made when it is known whether a bias follows.
        return Value("", (len(weight),))

    def _add(self, node: Any, where: str) -> Value:
        attributes_of(node, where, {})
        if len(node.input) != 2:
            raise ValueError(f"{where}: it has {len(node.input)} inputs; two are required")
        for product, bias in (list(node.input), list(reversed(node.input))):
            if product in self._products and bias in self.constants:
                x, weight = self._products[product]
                array = self.constants[bias]
                if array.dtype.kind == "f" and array.shape in ((len(weight),), (1, len(weight))):
                    del self._products[product]
                    value = self.builder.linear(where, x, weight, _float32(array.reshape(-1)))
                    # Nothing else may read the product: it has got a bias.
                    del self.values[product]
                    return value
        return self.builder.add(where, *(self.value(name, where) for name in node.input))

    def _concat(self, node: Any, where: str) -> Value:
        axis = attributes_of(node, where, {"axis": 0})["axis"]
        values = [self.value(name, where) for name in node.input]
        if not values:
            raise ValueError(f"{where}: it has no inputs")
        axes = 1 + len(values[0].shape)
        channels = axes - 1 if values[0].channels_last else 1
        if axis not in (channels, channels - axes):
            raise ValueError(f"{where}: axis is {axis}; {channels}, that of the channels, is required")
        return values[0] if len(values) == 1 else self.builder.concatenate(where, *values)

    def _conv(self, node: Any, where: str) -> Value:
        known = {
            "auto_pad": "NOTSET",
            "group": 1,
            "kernel_shape": [],
            "strides": [],
            "pads": [],
            "dilations": [],
        }
        given = attributes_of(node, where, known)
        x, weight = self._one(node, where, 3), self._constant(node, where, 1, 4)
        size = (int(weight.shape[2]), int(weight.shape[3]))
        if given["kernel_shape"] not in ([], list(size)):
            raise ValueError(
                f"{where}: kernel_shape is {shown(given['kernel_shape'])}; {list(size)} is required"
            )
        stride, dilation = _pair(where, given, "strides"), _pair(where, given, "dilations")
        extent = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
        pads = _pads(where, given, x, extent, stride)
        bias = self._optional(node, where, 2)
        return self.builder.conv2d(where, x, weight, bias, stride, pads, dilation, given["group"])

    def _pool(self, node: Any, where: str) -> Value:
        known = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": [], "strides": [], "pads": []}
        known |= {"dilations": []}
        known |= {"storage_order": 0} if node.op_type == "MaxPool" else {"count_include_pad": 0}
        given = attributes_of(node, where, known)
        x = self._one(node, where)
        if given["ceil_mode"] or _pair(where, given, "dilations") != (1, 1):
            raise ValueError(f"{where}: ceil_mode and dilations have no counterpart")
        if len(given["kernel_shape"]) != 2:
            raise ValueError(
                f"{where}: kernel_shape is {shown(given['kernel_shape'])}; two sizes are required"
            )
        window, stride = _pair(where, given, "kernel_shape"), _pair(where, given, "strides")
        pads = _pads(where, given, x, window, stride)
        if given.get("count_include_pad") and pads != NO_BORDER:
            raise ValueError(f"{where}: count_include_pad has no counterpart")
        kind = "max" if node.op_type == "MaxPool" else "average"
        return self.builder.pool(where, x, kind, window, stride, pads)

    def _global_average(self, node: Any, where: str) -> Value:
        attributes_of(node, where, {})
        return self.builder.global_average(where, self._one(node, where))

    def _dropout(self, node: Any, where: str) -> Value:
        given = attributes_of(node, where, {"ratio": 0.5, "seed": 0})
        ratio = given["ratio"]
        if len(node.input) > 1 and node.input[1]:
            ratio = float(self._constant(node, where, 1, 0))
        if len(node.input) > 2 and node.input[2]:
            raise ValueError(f"{where}: training_mode has no counterpart")
        return self.builder.dropout(where, self._one(node, where, 3), ratio)

    def _layer_norm(self, node: Any, where: str) -> Value:
        given = attributes_of(node, where, {"axis": -1, "epsilon": 1e-5, "stash_type": 1})
        x = self._one(node, where, 3)
        if len(x.shape) == 3 and not x.channels_last:
            raise ValueError(
                f"{where}: it does not normalise the channels, which are first; no layer does that"
            )
        if given["axis"] not in (-1, len(x.shape)):
            raise ValueError(f"{where}: axis is {given['axis']}; the last one is required")
        scale, shift = self._constant(node, where, 1), self._optional(node, where, 2)
        if scale.shape != x.shape[-1:] or (shift is not None and shift.shape != scale.shape):
            raise ValueError(f"{where}: parameters have shape {scale.shape}; ({x.shape[-1]},) is required")
        return self.builder.layer_norm(where, x, scale, shift, given["epsilon"])

    def _group_norm(self, node: Any, where: str) -> Value:
        given = attributes_of(node, where, {"epsilon": 1e-5, "num_groups": 0, "stash_type": 1})
        x = self._one(node, where, 3)
        scale, shift = self._constant(node, where, 1), self._constant(node, where, 2)
        if scale.shape != x.shape[-1:] or shift.shape != scale.shape:
            raise ValueError(
                f"{where}: parameters have shape {scale.shape}; ({x.shape[-1]},), one for each channel as since "
                "version 21, is required"
            )
        return self.builder.group_norm(where, x, given["num_groups"], scale, shift, given["epsilon"])

    def _row(self, node: Any, where: str) -> Value:
        x = self._one(node, where, 2)
        if node.op_type == "Flatten":
            axis = attributes_of(node, where, {"axis": 1})["axis"]
            fits = axis in (1, -len(x.shape))
        else:
            given = attributes_of(
                node, where, {"allowzero": 0} if node.op_type == "Reshape" else {"axes": []}
            )
            target = given.get("axes") or self._whole(node, where)
            if node.op_type == "Reshape":
                fits = len(target) == 2 and self._is_row(target, x)
            else:
                pixels = len(x.shape) == 3 and x.shape[:2] == (1, 1) and not x.channels_last
                fits = pixels and sorted(axis % 4 for axis in target) == [2, 3]
        if not fits:
            raise ValueError(f"{where}: shapes other than a row (batch, K) have no counterpart")
        return self.builder.flatten(where, x)

    def _is_row(self, target: list[int], x: Value) -> bool:
        """Whether a shape stands for (batch, K): one of its two sizes may be left open, and 0 is the batch.

        A network that was exported for batches of one size may have that number there.
        """
        size = int(np.prod(x.shape, dtype=object))
        fixed = ((self._batch, -1), (self._batch, size)) if self._batch else ()
        return tuple(target) in ((0, -1), (0, size), (-1, size), *fixed)

    def _whole(self, node: Any, where: str) -> list[int]:
        name = node.input[1] if len(node.input) > 1 else ""
        array = self.constants.get(name)
        if array is None or array.dtype.kind != "i" or array.ndim != 1 or len(array) > 4:
            raise ValueError(f"{where}: {shown(name)} is no short row of whole numbers that is constant")
        return [int(n) for n in array]

    def _transpose(self, node: Any, where: str) -> Value:
        perm = attributes_of(node, where, {"perm": []})["perm"]
        x = self._one(node, where)
        if perm not in (LAST, FIRST):
            raise ValueError(f"{where}: perm is {shown(perm)}; {LAST} or {FIRST} is required")
        return self.builder.transposed(where, x, perm == LAST)


def _float32(array: Array) -> Array:
    # A number that is too large becomes infinite, and is refused with the parameter's name.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _pair(where: str, given: dict[str, Any], key: str) -> tuple[int, int]:
    values = given[key] or [1, 1]
    if len(values) != 2:
        raise ValueError(f"{where}: {key} is {shown(values)}; two sizes are required")
    return whole_number(key, values[0], 1, MAX_PIXELS), whole_number(key, values[1], 1, MAX_PIXELS)


def _pads(
    where: str, given: dict[str, Any], x: Value, extent: tuple[int, int], stride: tuple[int, int]
) -> Border:
    """Return the border around an image, from ``pads`` or from the rule that ``auto_pad`` names."""
    rule, pads = given["auto_pad"], given["pads"]
    if len(x.shape) != 3:
        raise ConfigError(f"its input has shape {x.shape}; an image is required")
    if rule == "SAME_UPPER":
        return resolved_padding("same", x.shape, extent, stride)
    if rule not in ("NOTSET", "VALID"):
        raise ValueError(f"{where}: auto_pad is {shown(rule)}; NOTSET, VALID or SAME_UPPER is required")
    if rule == "VALID" or not pads:
        return NO_BORDER
    if len(pads) != 4:
        raise ValueError(f"{where}: pads is {shown(pads)}; four sizes are required")
    top, left, bottom, right = (whole_number("pads", side, 0, MAX_PIXELS) for side in pads)
    return Border(top, bottom, left, right)
