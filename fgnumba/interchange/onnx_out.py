"""Models as ONNX files: :func:`to_onnx`.

Operators are those of https://onnx.ai/onnx/operators, version 21, the first in which group normalisation scales each
channel.
"""

import json
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, RunError
from fgnumba.interchange.agreement import check, inputs_of, on_cpu
from fgnumba.interchange.axes import examples_outside, outside
from fgnumba.interchange.extras import required
from fgnumba.interchange.onnx_file import CLASSES, PRODUCER
from fgnumba.interchange.outward import Step, counterpart, steps_of
from fgnumba.kernels.machine.memory import readable
from fgnumba.layers import Shape
from fgnumba.model.described import checked_classes
from fgnumba.model.graph import Graph
from fgnumba.storage.durable import replace
from fgnumba.validation.paths import AnyPath, path_of

OPSET, IR = 21, 10
"""The version of the operators, and that of the file format which came with it."""
MAX_BYTES = (1 << 31) - (1 << 20)
"""The most bytes of parameters: a file of Protocol Buffers has less than 2 GiB."""

INPUT, OUTPUT = "input", "output"
"""The names of the network's input and output."""

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
"""Permutations of axes that put an image's channels last, and first."""

ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "gelu": ("Gelu", {}),
    "softplus": ("Softplus", {}),
    "elu": ("Elu", {"alpha": 1.0}),
}
"""Operators and their attributes. ``silu`` is a product of the input and its sigmoid."""


def to_onnx(model: Graph, path: AnyPath) -> None:
    """Write a model to an ONNX file, which other programs run, such as ONNX Runtime.

    Input and output have the names ``input`` and ``output``. Images have their channels first, (B, C, H, W), as is
    usual in ONNX; B is free. If ONNX Runtime is installed, it runs the network first, and the file is written only if
    the outputs agree to 1e-5 of the largest. Dropout is written, and does nothing until somebody trains the network.

    Parameters
    ----------
    model : Graph
        The model.
    path : str or path
        The file, by convention with the suffix ``.onnx``. An existing file is replaced, whole or not at all.

    Raises
    ------
    ConfigError
        The package onnx is not installed, a layer is of a class of your own, there are 2 GiB of parameters or more, or
        the outputs disagree.
    RunError
        The file cannot be written.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Flatten(), fg.Dense(10)], input_shape=(8, 8, 1))
    >>> fg.to_onnx(model, "digits.onnx")  # doctest: +SKIP
    """
    write(model, path)


def write(model: Graph, path: AnyPath) -> float | None:
    """Do what :func:`to_onnx` does, and return what ONNX Runtime's outputs differ by; None if it is not installed."""
    required("onnx", "onnx", "to_onnx")
    if not isinstance(model, Graph):
        raise ConfigError(f"model is a {type(model).__name__}; a Sequential or a Graph is required")
    file = path_of(path, "path")
    content = content_of(model)
    apart = _compared(model, content)
    try:
        replace(file, content)
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror or error}") from None
    return apart


def content_of(model: Graph) -> bytes:
    """Return a model as the content of an ONNX file."""
    from onnx import TensorProto, checker, helper

    steps = steps_of(model)
    needed = sum(array.nbytes for step in steps for array in step.arrays.values())
    if needed > MAX_BYTES:
        raise ConfigError(
            f"the model has {readable(needed)} of parameters; an ONNX file holds less than 2 GiB"
        )
    writer = _Writer()
    for step in steps:
        writer.write(step)
    # The output has a name of its own: that of a layer may be `output`, or the last value may be read by others.
    writer.node("Identity", [writer.names[steps[-1].name]], OUTPUT)

    def value(name: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *outside(shape)])

    graph = helper.make_graph(
        writer.nodes,
        "fgnumba",
        [value(INPUT, model.input_shape)],
        [value(OUTPUT, model.output_shape)],
        writer.initializers,
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name=PRODUCER,
        producer_version=import_module("fgnumba").__version__,
        doc_string="Images have their channels first: (batch, C, H, W).",
    )
    if model.classes is not None:
        helper.set_model_props(made, {CLASSES: json.dumps(checked_classes(model.classes))})
    checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


class _Writer:
    """Collects nodes and initializers; `names` are those of the values that steps compute."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names = {"input": INPUT}

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def write(self, step: Step) -> None:
        s, x = step.settings, [self.names[name] for name in step.inputs]
        # A dot keeps the names of values apart from `input` and `output`.
        name = f"layer.{step.name}"
        self.names[step.name] = name
        held = step.arrays
        if step.op in ("group_norm", "layer_norm") and not held:
            # These operators have no form without a scale; the second does without a shift.
            held = {"scale": np.ones(step.shape[0], np.float32)}
            if step.op == "group_norm":
                held["shift"] = np.zeros(step.shape[0], np.float32)
        arrays = [self.constant(f"{name}.{key}", array) for key, array in held.items()]
        if step.op == "linear":
            self.node("Gemm", [*x, *arrays], name, transB=1)
        elif step.op == "conv2d":
            self.node(
                "Conv",
                [*x, *arrays],
                name,
                kernel_shape=step.arrays["weight"].shape[2:],
                group=s["groups"],
                dilations=s["dilation"],
                **_moves(s),
            )
        elif step.op == "activation":
            self._activation(s["kind"], x[0], name)
        elif step.op == "dropout":
            self.node("Dropout", [*x, self.constant(f"{name}.ratio", np.array(s["rate"], np.float32))], name)
        elif step.op == "max_pool":
            self.node("MaxPool", x, name, kernel_shape=s["window"], **_moves(s))
        elif step.op == "average_pool":
            self.node("AveragePool", x, name, kernel_shape=s["window"], count_include_pad=0, **_moves(s))
        elif step.op == "global_average":
            self.node("Flatten", [self.node("GlobalAveragePool", x, f"{name}.mean")], name, axis=1)
        elif step.op == "flatten":
            last = [self.node("Transpose", x, f"{name}.last", perm=LAST)] if s["channels_last"] else x
            self.node("Flatten", last, name, axis=1)
        elif step.op == "group_norm":
            more = {"num_groups": s["groups"], "epsilon": s["epsilon"]}
            self.node("GroupNormalization", [*x, *arrays], name, **more)
        elif step.op == "layer_norm":
            self._layer_norm(step, x[0], arrays, name)
        elif step.op == "add":
            total = x[0]
            for index, other in enumerate(x[1:], 2):
                total = self.node("Add", [total, other], name if index == len(x) else f"{name}.{index}")
        else:
            self.node("Concat", x, name, axis=1)

    def _activation(self, kind: str, x: str, name: str) -> None:
        if kind == "silu":
            self.node("Mul", [x, self.node("Sigmoid", [x], f"{name}.sigmoid")], name)
        else:
            op, attributes = counterpart(ACTIVATIONS, kind)
            self.node(op, [x], name, **attributes)

    def _layer_norm(self, step: Step, x: str, arrays: list[str], name: str) -> None:
        image, epsilon = len(step.shape) == 3, step.settings["epsilon"]
        if image:
            x = self.node("Transpose", [x], f"{name}.last", perm=LAST)
        normal = f"{name}.normal" if image else name
        self.node("LayerNormalization", [x, *arrays], normal, axis=-1, epsilon=epsilon)
        if image:
            self.node("Transpose", [normal], name, perm=FIRST)


def _moves(settings: dict[str, Any]) -> dict[str, Any]:
    """Return strides and pads as ONNX has them: the beginnings of all axes, then their ends."""
    p = settings["padding"]
    return {"strides": settings["stride"], "pads": [p.top, p.left, p.bottom, p.right]}


def _compared(model: Graph, content: bytes) -> float | None:
    """Return by how much ONNX Runtime's outputs differ from the model's, or None if it is not installed."""
    try:
        import onnxruntime as runtime
    except ImportError:
        return None
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    x = inputs_of(model)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {INPUT: examples_outside(x)})
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"ONNX Runtime {runtime.__version__} cannot run the network: {reason}") from None
    return check("to_onnx", found, examples_outside(on_cpu(model)(x)))
