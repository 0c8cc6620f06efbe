"""ONNX files as models: :func:`from_onnx`."""

from pathlib import Path

from fgnumba import device as devices
from fgnumba.errors import RunError
from fgnumba.interchange.extras import required
from fgnumba.interchange.inward import Builder
from fgnumba.interchange.onnx_file import read_network
from fgnumba.interchange.onnx_nodes import NodeReader
from fgnumba.interchange.onnx_out import FIRST
from fgnumba.kernels.devices.device import Device
from fgnumba.model.graph import Graph
from fgnumba.storage.damage import undamaged
from fgnumba.validation.paths import AnyPath, path_of


def from_onnx(path: AnyPath, device: str | Device = "auto") -> Graph:
    """Return the model that computes what a network in an ONNX file computes, with its parameters.

    The operators are ``Gemm``, ``MatMul`` (and ``Add`` of a bias), ``Conv``, ``MaxPool``, ``AveragePool``,
    ``GlobalAveragePool``, the activations that there are here, ``LayerNormalization``, ``GroupNormalization``,
    ``Dropout``, ``Flatten``, ``Reshape`` to a row, ``Squeeze`` of an image of one pixel, ``Transpose`` of channels,
    ``Add`` and ``Concat``. The network has one input, (batch, K) or (batch, C, H, W), and one output. If it begins by
    putting the channels of its input first, its input is (batch, H, W, C). The model takes (H, W, C) in any case.

    A file from elsewhere is safe to read: sizes are compared with the file before memory is taken, nothing is
    executed, and parameters that lie in other files are refused.

    Parameters
    ----------
    path : str or path
        The file.
    device : str or Device, optional
        Where the model shall run, as for :class:`fgnumba.Graph`. By default ``auto``.

    Returns
    -------
    Graph
        The model: a :class:`fgnumba.Sequential` if it is a row of layers.

    Raises
    ------
    RunError
        There is no such file, it is damaged, or a node has no counterpart (the message has its name and operator).
    ConfigError
        The package onnx is not installed.
    DeviceError
        The device is unknown or not there.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.from_onnx("digits.onnx")  # doctest: +SKIP
    Sequential([Flatten(), Dense(units=10, activation='identity', bias=True)], input_shape=(8, 8, 1), device='cpu')
    """
    required("onnx", "onnx", "from_onnx")
    file = path_of(path, "path")
    if not file.is_file():
        raise RunError(
            f"{file}: {'not a file' if file.exists() else 'no such file'}; an ONNX file is required"
        )
    processor = devices.resolve(device)
    return undamaged(file, lambda: _model(file, processor), problem="")


def _model(path: Path, device: Device) -> Graph:
    network = read_network(path)
    readers = [node.op_type for node in network.nodes if network.input in node.input]
    perms = [
        list(each.ints)
        for node in network.nodes
        if network.input in node.input and node.op_type == "Transpose"
        for each in node.attribute
    ]
    # A network that was made for channels last puts them first, and does nothing else with its input.
    last = len(network.shape) == 3 and readers == ["Transpose"] and perms == [FIRST]
    shape = network.shape
    if len(shape) == 3 and not last:
        shape = (shape[1], shape[2], shape[0])
    reader = NodeReader(network, Builder(shape, last))
    for index, node in enumerate(network.nodes):
        reader.read(index, node)
    model = reader.builder.model(reader.value(network.output, "the output"), device)
    model.classes = network.classes
    return model
