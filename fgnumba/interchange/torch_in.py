"""PyTorch modules as models: :func:`from_torch`."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba import device as devices
from fgnumba.errors import ConfigError, FgError
from fgnumba.interchange.agreement import check, inputs_of
from fgnumba.interchange.axes import examples_outside
from fgnumba.interchange.extras import required
from fgnumba.interchange.inward import Builder, Value
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.layers import Shape
from fgnumba.model.graph import Graph

Read = Callable[[Builder, str, Any, Value, Border], Value]

HINTS = {
    "BatchNorm1d": "use LayerNorm, whose numbers do not depend on the batch",
    "BatchNorm2d": "use GroupNorm, or fold it into the convolution before by torch.nn.utils.fuse_conv_bn_eval",
    "Softmax": "leave it out: SoftmaxCrossEntropy takes the numbers before it",
    "LogSoftmax": "leave it out: SoftmaxCrossEntropy takes the numbers before it",
    "Dropout2d": "use Dropout, which drops single elements",
    "AdaptiveMaxPool2d": "use MaxPool2d with the image as its window",
}
"""What a user can do about a module that has no counterpart."""


def from_torch(module: Any, input_shape: Shape | int, device: str | Device = "auto") -> Graph:
    """Return the model that computes what a PyTorch module computes in evaluation, with its parameters.

    The module is an ``nn.Sequential``, in which others may lie, of ``Linear``, ``Conv2d``, the activations that there
    are here, ``MaxPool2d``, ``AvgPool2d``, ``AdaptiveAvgPool2d(1)``, ``LayerNorm`` of rows, ``GroupNorm``,
    ``Dropout``, ``Flatten``, ``Identity``, and ``ZeroPad2d`` before a convolution. It is not changed, and parameters
    are copied. In a row of layers, parameters have the names that they have in PyTorch.

    PyTorch's images are (C, H, W), and so are rows that it flattens: the weights of a dense layer after ``Flatten`` are
    permuted. The model and the module are then compared on random inputs.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    input_shape : tuple of int, or int
        The shape of one example as the model takes it: (K,), or (H, W, C) where the module takes (C, H, W).
    device : str or Device, optional
        Where the model shall run, as for :class:`fgnumba.Graph`. By default ``auto``.

    Returns
    -------
    Graph
        The model, a :class:`fgnumba.Sequential`.

    Raises
    ------
    ConfigError
        PyTorch is not installed, a module has no counterpart (the message has its path and class), or the outputs
        differ by more than 1e-5 of the largest.
    ShapeError
        The shapes do not fit.
    DeviceError
        The device is unknown or not there.

    Examples
    --------
    >>> import fgnumba as fg
    >>> from torch import nn  # doctest: +SKIP
    >>> module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))  # doctest: +SKIP
    >>> model = fg.from_torch(module, input_shape=(8, 8, 1))  # doctest: +SKIP
    """
    torch = required("torch", "torch", "from_torch")
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"module is a {type(module).__name__}; a torch.nn.Module is required")
    builder = Builder(input_shape)
    value = _read(torch, builder, module)
    model = builder.model(value, "cpu")
    x = inputs_of(model)
    exact, rounded = _outputs(torch, module, examples_outside(x))
    check("from_torch", examples_outside(model(x)), exact, rounded)
    if devices.resolve(device) is model.processor:
        return model
    return builder.model(value, device)


def _read(torch: Any, builder: Builder, module: Any) -> Value:
    """Add every layer of a module, in the order in which they run, and return the last one's output."""
    readers = _readers(torch.nn)
    value, seen, border, padded = builder.input, dict[int, str](), NO_BORDER, ""
    for path, leaf in _leaves(torch.nn, "", module):
        where = f"{path}: {type(leaf).__name__}" if path else type(leaf).__name__
        for name, parameter in leaf.named_parameters():
            if id(parameter) in seen:
                raise ConfigError(
                    f"{where}: its {name} is also that of {seen[id(parameter)]}; shared parameters have no counterpart"
                )
        seen |= {id(parameter): path for parameter in leaf.parameters()}
        if type(leaf) is torch.nn.ZeroPad2d:
            if padded:
                raise ConfigError(f"{padded} has no counterpart unless a Conv2d follows")
            left, right, top, bottom = leaf.padding
            border, padded = Border(top, bottom, left, right), where
            continue
        read = readers.get(type(leaf))
        if read is None:
            name = type(leaf).__name__
            hint = HINTS.get(name, "a Sequential of modules that fgnumba has is required")
            raise ConfigError(f"{path or 'the module'}: {name} has no counterpart; {hint}")
        if padded and type(leaf) is not torch.nn.Conv2d:
            raise ConfigError(f"{padded} has no counterpart unless a Conv2d follows")
        try:
            value = read(builder, where, leaf, value, border)
        except FgError as error:
            text = str(error)
            raise type(error)(text if text.startswith(where) else f"{where}: {text}") from None
        border, padded = NO_BORDER, ""
    if padded:
        raise ConfigError(f"{padded} has no counterpart unless a Conv2d follows")
    return value


def _leaves(nn: Any, path: str, module: Any) -> list[tuple[str, Any]]:
    """Return the modules of nested sequences in the order in which they run, each with its path."""
    # A class with a forward pass of its own is not run through: what it does with its parts is not known.
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        found = []
        # `named_children` would leave out a module that stands there twice.
        for name, part in module._modules.items():
            found += _leaves(nn, f"{path}.{name}" if path else name, part)
        return found
    return [(path, module)]


def _outputs(torch: Any, module: Any, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the module's outputs in evaluation, in float64 and in float32; the module is left as it is."""
    found = []
    for dtype in (torch.float64, torch.float32):
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                twin = copy.deepcopy(module).to("cpu", dtype).eval()
                found.append(twin(torch.from_numpy(x.copy()).to(dtype)).numpy())
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"the module cannot be run on inputs of shape {x.shape}: {reason}") from None
    return found[0], found[1]


def _array(tensor: Any) -> npt.NDArray[np.float32] | None:
    if tensor is not None and tensor.is_complex():
        raise ConfigError(f"a parameter has dtype {tensor.dtype}; real numbers are required")
    try:
        return None if tensor is None else tensor.detach().cpu().float().numpy().copy()
    except RuntimeError as error:
        raise ConfigError(f"a parameter cannot be read: {' '.join(str(error).split())}") from None


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value), int(value))


def _refuse(condition: bool, text: str) -> None:
    if condition:
        raise ConfigError(f"{text} has no counterpart")


def _linear(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    weight = _array(m.weight)
    assert weight is not None
    return builder.linear(where, x, weight, _array(m.bias))


def _conv2d(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    zeros = m.padding_mode == "zeros" or all(side == 0 for side in m._reversed_padding_repeated_twice)
    _refuse(not zeros, f"padding_mode {m.padding_mode!r}")
    # In this attribute, a Conv2d keeps its padding as numbers whether it was given as such or as "same".
    left, right, top, bottom = m._reversed_padding_repeated_twice
    sides = Border(border.top + top, border.bottom + bottom, border.left + left, border.right + right)
    weight = _array(m.weight)
    assert weight is not None
    return builder.conv2d(
        where, x, weight, _array(m.bias), _pair(m.stride), sides, _pair(m.dilation), int(m.groups)
    )


def _pool(kind: str) -> Read:
    def read(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
        window, stride, (down, across) = _pair(m.kernel_size), _pair(m.stride), _pair(m.padding)
        if kind == "max":
            _refuse(_pair(m.dilation) != (1, 1), f"dilation {m.dilation}")
            _refuse(bool(m.return_indices), "return_indices")
        else:
            _refuse(
                bool(m.count_include_pad) and (down, across) != (0, 0), "padding with count_include_pad=True"
            )
            _refuse(m.divisor_override is not None, "divisor_override")
        more = (0, 0)
        if m.ceil_mode and len(x.shape) == 3:
            more = (
                _beyond(x.shape[0], window[0], stride[0], down),
                _beyond(x.shape[1], window[1], stride[1], across),
            )
        return builder.pool(
            where, x, kind, window, stride, Border(down, down + more[0], across, across + more[1])
        )

    return read


def _beyond(size: int, window: int, stride: int, padding: int) -> int:
    """Return how many pixels the last window of ``ceil_mode`` reaches beyond the padded image."""
    span = size + 2 * padding - window
    windows = -(-span // stride) + 1
    # A window that would begin in the padding at the end is left out.
    if (windows - 1) * stride >= size + padding:
        windows -= 1
    return max(0, (windows - 1) * stride - span)


def _adaptive(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    _refuse(m.output_size not in (1, (1, 1), [1, 1]), f"output_size {m.output_size}")
    return builder.global_average(where, x)


def _layer_norm(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    if len(x.shape) != 1 or tuple(m.normalized_shape) != x.shape:
        raise ConfigError(
            f"normalized_shape {tuple(m.normalized_shape)} has no counterpart for an input of shape {x.shape}; "
            "LayerNorm of a whole row is required, or GroupNorm"
        )
    return builder.layer_norm(where, x, _array(m.weight), _array(m.bias), m.eps)


def _group_norm(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    _refuse(m.weight is None and m.num_channels != x.shape[-1], f"num_channels {m.num_channels}")
    return builder.group_norm(where, x, int(m.num_groups), _array(m.weight), _array(m.bias), m.eps)


def _dropout(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    return builder.dropout(where, x, m.p)


def _flatten(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
    axes = len(x.shape)
    _refuse(m.start_dim not in (1, -axes), f"start_dim {m.start_dim}")
    _refuse(m.end_dim not in (-1, axes), f"end_dim {m.end_dim}")
    return builder.flatten(where, x)


def _activation(name: str, **required_values: Any) -> Read:
    def read(builder: Builder, where: str, m: Any, x: Value, border: Border) -> Value:
        for key, value in required_values.items():
            _refuse(getattr(m, key) != value, f"{key} {getattr(m, key)!r}")
        return builder.activation(where, x, name)

    return read


def _readers(nn: Any) -> dict[type, Read]:
    """Return the function that reads each class of modules."""
    return {
        nn.Linear: _linear,
        nn.Conv2d: _conv2d,
        nn.MaxPool2d: _pool("max"),
        nn.AvgPool2d: _pool("average"),
        nn.AdaptiveAvgPool2d: _adaptive,
        nn.LayerNorm: _layer_norm,
        nn.GroupNorm: _group_norm,
        nn.Dropout: _dropout,
        nn.Flatten: _flatten,
        nn.Identity: _activation("identity"),
        nn.ReLU: _activation("relu"),
        nn.LeakyReLU: _activation("leaky_relu", negative_slope=0.01),
        nn.Tanh: _activation("tanh"),
        nn.Sigmoid: _activation("sigmoid"),
        nn.GELU: _activation("gelu", approximate="none"),
        nn.SiLU: _activation("silu"),
        nn.Softplus: _activation("softplus", beta=1, threshold=20),
        nn.ELU: _activation("elu", alpha=1),
    }
