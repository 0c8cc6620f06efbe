"""Read ONNX files that anybody wrote: their sizes are checked before memory is taken, and no other file is opened.

A file is a message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding). A message of a few bytes
may take a hundred in memory, so that a file is walked through first: all of it but the elements of its initializers
must be short.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import did_you_mean, shown
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.model.described import checked_classes
from fgnumba.storage.files import open_regular, size_of
from fgnumba.storage.safetensors import MAX_RANK

MAX_DESCRIPTION = 1 << 22
"""The most bytes of a file without the elements of its initializers."""
MAX_FILE = 1 << 31
"""Bytes that no message of Protocol Buffers has."""
COPIES = 4
"""How often a file's elements are in memory at the same time: as bytes, parsed, as arrays, and as parameters."""
OLDEST_OPSET, NEWEST_OPSET = 9, 26

PRODUCER, CLASSES = "fgnumba", "classes"
"""The producer's name in a file that this library wrote, and the entry of its metadata with the names of classes."""

GRAPH, INITIALIZER, RAW, FLOATS = 7, 5, 9, 4
"""The numbers of fields: a model's graph, a graph's initializer, a tensor's elements as bytes and as floats."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The types of fields."""

DTYPES = {1: "<f4", 10: "<f2", 11: "<f8", 6: "<i4", 7: "<i8"}
"""The dtypes of tensors that are read, by ONNX's numbers."""
TYPED = {1: "float_data", 11: "double_data", 6: "int32_data", 7: "int64_data"}
"""The fields that hold the elements of each, where they are not stored as bytes."""

Array = npt.NDArray[Any]


class Network(NamedTuple):
    """What a file holds.

    Parameters
    ----------
    nodes : list of NodeProto
        The nodes, in the order in which they run.
    constants : dict of str to ndarray
        The initializers by name.
    input : str
        The name of the one input.
    shape : tuple of int
        The shape of one example of the input, as the file has it.
    batch : int
        The number of examples that the file was made for; 0 if it is free.
    output : str
        The name of the one output.
    classes : tuple or None
        The names of the classes, if this library wrote the file and the model had them.
    """

    nodes: list[Any]
    constants: dict[str, Array]
    input: str
    shape: tuple[int, ...]
    batch: int
    output: str
    classes: tuple[str | int | float, ...] | None


def read_network(path: Path) -> Network:
    """Return the network in an ONNX file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        The file cannot be opened, or is not a regular file.
    ValueError
        It is no ONNX file, is damaged, is too large, or has parts that no model here has: data in other files, several
        inputs or outputs, operators of other domains. The message is one line.
    """
    with open_regular(path) as file:
        size = size_of(file)
        if size >= MAX_FILE:
            raise ValueError(f"it has {size} bytes; an ONNX file has less than {MAX_FILE}")
        if COPIES * size > physical_memory():
            raise ValueError(f"it has {readable(size)}; this machine has {readable(physical_memory())}")
        content = file.read(size)
    described = _described(memoryview(content))
    if described > MAX_DESCRIPTION:
        raise ValueError(f"its nodes and names take {described} bytes; at most {MAX_DESCRIPTION} are read")
    return _network(_parsed(content))


def _parsed(content: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no ONNX file: {' '.join(str(error).split()) or 'broken'}") from None
    return model


def _described(content: memoryview) -> int:
    """Return the number of bytes of a model without the elements of its initializers."""
    total = len(content)
    for number, graph in _messages(content):
        for inner, tensor in _messages(graph) if number == GRAPH else ():
            for field, elements in _messages(tensor) if inner == INITIALIZER else ():
                if field in (RAW, FLOATS):
                    total -= len(elements)
    return total


def _messages(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a message that hold bytes: their numbers and what they hold."""
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        kind = key & 7
        if kind == VARINT:
            _, at = _varint(content, at)
        elif kind in (FIXED32, FIXED64):
            at += 8 if kind == FIXED64 else 4
        elif kind == BYTES:
            length, at = _varint(content, at)
            if length > end - at:
                raise ValueError(f"a part of it claims {length} bytes; {end - at} are there")
            yield key >> 3, content[at : at + length]
            at += length
        else:
            raise ValueError(f"it is no ONNX file: byte {at} begins no field")
    if at > end:
        raise ValueError("it breaks off")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError("it breaks off")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file: a number has more than ten bytes")


def _network(model: Any) -> Network:
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
        found = ", ".join(map(str, versions)) or "none"
        raise ValueError(
            f"its version of the operators is {found}; {OLDEST_OPSET} to {NEWEST_OPSET} are read"
        )
    graph = model.graph
    if model.functions or graph.sparse_initializer or graph.quantization_annotation:
        raise ValueError("it has functions, sparse or quantised parameters; none are read")
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise ValueError(f"there are two initializers {shown(tensor.name)}")
        constants[tensor.name] = array_of(tensor)
    inputs = [each for each in graph.input if each.name not in constants]
    for what, values in (("inputs", inputs), ("outputs", graph.output)):
        if len(values) != 1:
            raise ValueError(f"it has {len(values)} {what}; one is required")
    batch, *shape = _sizes(inputs[0])
    return Network(
        list(graph.node),
        constants,
        inputs[0].name,
        tuple(shape),
        max(batch, 0),
        graph.output[0].name,
        _classes(model),
    )


def _classes(model: Any) -> tuple[str | int | float, ...] | None:
    """Return the names of classes that ``onnx_out`` wrote; what others mean by this entry is not known."""
    found = [entry.value for entry in model.metadata_props if entry.key == CLASSES]
    if model.producer_name != PRODUCER or not found:
        return None
    try:
        return checked_classes(json.loads(found[0]))
    except RecursionError:
        raise ValueError(f"the brackets of {CLASSES} are nested too deeply") from None


def _sizes(value: Any) -> list[int]:
    """Return the sizes of the input, of which the first is that of the batch, or 0."""
    kind = value.type.tensor_type
    sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in kind.shape.dim]
    if kind.elem_type != 1 or len(sizes) not in (2, 4) or min(sizes[1:]) < 1:
        raise ValueError(
            f"its input {shown(value.name)} has the sizes {shown(sizes)} (0 where they are free) and type "
            f"{kind.elem_type}; float32 (batch, K) or (batch, C, H, W) with K, C, H and W fixed is required"
        )
    return sizes


def array_of(tensor: Any) -> Array:
    """Return a tensor as an array of its own; ValueError is raised unless its elements are in it, as many as it says.

    Parameters
    ----------
    tensor : TensorProto
        The tensor.
    """
    where = f"tensor {shown(tensor.name)}"
    if tensor.data_location != 0 or tensor.external_data:
        raise ValueError(
            f"{where} lies in another file; one file is required, as onnx.save writes it by default"
        )
    if tensor.data_type not in DTYPES:
        known = ", ".join(sorted(str(np.dtype(dtype)) for dtype in DTYPES.values()))
        raise ValueError(f"{where} has type {tensor.data_type} of ONNX; {known} are read")
    shape, dtype = tuple(tensor.dims), np.dtype(DTYPES[tensor.data_type])
    if len(shape) > MAX_RANK or any(size < 1 for size in shape):
        raise ValueError(
            f"{where} has shape {shown(shape)}; at most {MAX_RANK} sizes of at least 1 are required"
        )
    count = math.prod(shape)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * dtype.itemsize:
            raise ValueError(
                f"{where}: {dtype} {shown(shape)} needs {shown(count * dtype.itemsize)} bytes; "
                f"{len(tensor.raw_data)} are there"
            )
        return np.frombuffer(tensor.raw_data, dtype).reshape(shape)
    elements = getattr(tensor, TYPED.get(tensor.data_type, ""), ())
    if len(elements) != count:
        raise ValueError(
            f"{where}: shape {shown(shape)} needs {shown(count)} elements; {len(elements)} are there"
        )
    return np.array(elements, dtype).reshape(shape)


def attributes_of(node: Any, where: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a node, after checking their names and types.

    Parameters
    ----------
    node : NodeProto
        The node.
    where : str
        Its name in messages.
    known : dict of str to object
        For each attribute that the operator may have, its default: a number, text, a list of whole numbers, or None
        for a tensor. The type of the default is the one that is required.

    Returns
    -------
    dict
        A value for each of `known`.

    Raises
    ------
    ValueError
        An attribute is unknown, or of another type.
    """
    found = dict(known)
    for given in node.attribute:
        if given.name not in known:
            raise ValueError(f"{where}: attribute {shown(given.name)}{did_you_mean(given.name, known)}")
        default = known[given.name]
        kind = {float: 1, int: 2, str: 3, type(None): 4, list: 7}[type(default)]
        if given.type != kind or given.ref_attr_name:
            raise ValueError(f"{where}: attribute {given.name!r} is of type {given.type}; {kind} is required")
        if kind == 3:
            found[given.name] = given.s.decode("utf-8", "replace")
        elif kind == 4:
            found[given.name] = array_of(given.t)
        elif kind == 7:
            found[given.name] = list(given.ints)
        else:
            found[given.name] = given.f if kind == 1 else given.i
    return found
