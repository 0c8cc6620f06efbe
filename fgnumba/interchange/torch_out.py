"""Models as PyTorch modules: :func:`to_torch`, and modules as files of Python and of parameters.

Steps that PyTorch has modules for become an ``nn.Sequential`` where they are a row. Any other model becomes a class,
written as Python: the same text is executed by :func:`to_torch`, and left in a file by an export.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.interchange.agreement import check, inputs_of, on_cpu
from fgnumba.interchange.axes import examples_outside, outside
from fgnumba.interchange.extras import required
from fgnumba.interchange.outward import Step, counterpart, steps_of, symmetric
from fgnumba.kernels.layout.images import Border
from fgnumba.model.described import checked_classes
from fgnumba.model.graph import Graph

Module = tuple[str, tuple[Any, ...], dict[str, Any]]
"""The class of a module of ``torch.nn``, and its arguments."""

ACTIVATIONS: dict[str, Module] = {
    "identity": ("Identity", (), {}),
    "relu": ("ReLU", (), {}),
    "leaky_relu": ("LeakyReLU", (0.01,), {}),
    "tanh": ("Tanh", (), {}),
    "sigmoid": ("Sigmoid", (), {}),
    "gelu": ("GELU", (), {}),
    "silu": ("SiLU", (), {}),
    "softplus": ("Softplus", (), {}),
    "elu": ("ELU", (), {}),
}

NAMES = {"scale": "weight", "shift": "bias"}
"""PyTorch's names of parameters, where they are others."""


def to_torch(model: Graph) -> Any:
    """Return a PyTorch module that computes what a model computes, with copies of its parameters.

    The module takes and returns images with their channels first, (B, C, H, W), as PyTorch's modules do, and is in
    evaluation mode. It is an ``nn.Sequential`` of PyTorch's own modules if the model is a row of layers that PyTorch
    has; else it is a module of a generated class, which ``fgtrain export --format torch`` writes to a file. Module and
    model are compared on random inputs.

    Parameters
    ----------
    model : Graph
        The model. It is not changed.

    Returns
    -------
    torch.nn.Module
        The module, on the CPU, in float32.

    Raises
    ------
    ConfigError
        PyTorch is not installed, a layer is of a class of your own, or the outputs differ by more than 1e-5 of the
        largest.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Flatten(), fg.Dense(10, "relu")], input_shape=(8, 8, 1))
    >>> fg.to_torch(model)  # doctest: +SKIP
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=64, out_features=10, bias=True)
      (2): ReLU()
    )
    """
    torch = required("torch", "torch", "to_torch")
    if not isinstance(model, Graph):
        raise ConfigError(f"model is a {type(model).__name__}; a Sequential or a Graph is required")
    steps = steps_of(model)
    # Modules draw the parameters that they begin with; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        module, arrays = _made(torch, model, steps)
    checked(torch, model, module, arrays, "to_torch")
    return module


def _made(torch: Any, model: Graph, steps: Sequence[Step]) -> tuple[Any, dict[str, npt.NDArray[np.float32]]]:
    """Return a module, and the parameters that it is to have by PyTorch's names."""
    modules = [_modules(step) for step in steps]
    before = ["input", *(step.name for step in steps[:-1])]
    chain = all(step.inputs == (name,) for step, name in zip(steps, before, strict=True))
    if chain and all(each is not None for each in modules):
        made: list[Any] = []
        arrays: dict[str, npt.NDArray[np.float32]] = {}
        for step, each in zip(steps, modules, strict=True):
            for kind, arguments, more in each or ():
                made.append(getattr(torch.nn, kind)(*arguments, **more))
            arrays |= {f"{len(made) - 1}.{NAMES.get(name, name)}": a for name, a in step.arrays.items()}
        return torch.nn.Sequential(*made), arrays
    return _executed(source(model, steps)), state(steps)


def checked(
    torch: Any, model: Graph, module: Any, arrays: dict[str, npt.NDArray[np.float32]], what: str
) -> float:
    """Give a module its parameters and compare it with the model; return by how much their outputs differ.

    The module is in evaluation mode afterwards.

    Parameters
    ----------
    torch : module
        PyTorch.
    model : Graph
        The model that it was made of.
    module : torch.nn.Module
        The module.
    arrays : dict of str to ndarray
        Its parameters by PyTorch's names.
    what : str
        What was called, for messages.

    Raises
    ------
    ConfigError
        The outputs differ.
    """
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    module.eval()
    x = inputs_of(model)
    batch = torch.from_numpy(examples_outside(x))
    with torch.no_grad():
        rounded = module(batch).numpy()
        module.to(torch.float64)
        exact = module(batch.to(torch.float64)).numpy()
        module.to(torch.float32)
    return check(what, examples_outside(on_cpu(model)(x)), exact, rounded)


def _modules(step: Step) -> list[Module] | None:
    """Return the modules that compute a step one after another, of which the last has its parameters, or None."""
    s, arrays = step.settings, step.arrays
    if step.op == "linear":
        outputs, inputs = arrays["weight"].shape
        return [("Linear", (inputs, outputs), {"bias": "bias" in arrays})]
    if step.op == "conv2d":
        return _convolution(step)
    if step.op == "activation":
        return [counterpart(ACTIVATIONS, s["kind"])]
    if step.op == "dropout":
        return [("Dropout", (s["rate"],), {})]
    if step.op == "flatten":
        return None if s["channels_last"] else [("Flatten", (), {})]
    if step.op == "global_average":
        return [("AdaptiveAvgPool2d", (1,), {}), ("Flatten", (), {})]
    if step.op in ("max_pool", "average_pool"):
        sides = symmetric(s["padding"])
        if sides is None or any(2 * side > size for side, size in zip(sides, s["window"], strict=True)):
            return None
        if step.op == "max_pool":
            return [("MaxPool2d", (s["window"], s["stride"], sides), {})]
        return [("AvgPool2d", (s["window"], s["stride"], sides), {"count_include_pad": False})]
    if step.op == "group_norm":
        return [("GroupNorm", (s["groups"], step.shape[0]), _normalization(step, "affine"))]
    if step.op == "layer_norm" and len(step.shape) == 1:
        return [("LayerNorm", (step.shape[0],), _normalization(step, "elementwise_affine"))]
    return None


def _normalization(step: Step, flag: str) -> dict[str, Any]:
    """Return the named arguments of a normalisation; `flag` is the one that says whether it has parameters."""
    return {"eps": step.settings["epsilon"], **({} if step.arrays else {flag: False})}


def _convolution(step: Step) -> list[Module]:
    s, weight = step.settings, step.arrays["weight"]
    sides = symmetric(s["padding"])
    more = {"stride": s["stride"], "padding": sides or 0, "dilation": s["dilation"], "groups": s["groups"]}
    channels = weight.shape[1] * s["groups"]
    arguments = (channels, len(weight), tuple(weight.shape[2:]))
    convolution: Module = ("Conv2d", arguments, {**more, "bias": "bias" in step.arrays})
    return [convolution] if sides else [("ZeroPad2d", (_sides(s["padding"]),), {}), convolution]


def _sides(padding: Border) -> tuple[int, int, int, int]:
    """Return a border in PyTorch's order."""
    return padding.left, padding.right, padding.top, padding.bottom


def _functional(step: Step, x: Sequence[str], module: str) -> str:
    """Return an expression for a step that no module computes; `module` holds its parameters, if it has any."""
    s = step.settings
    if step.op == "add":
        return " + ".join(x)
    if step.op == "concatenate":
        return f"torch.cat(({', '.join(x)}), dim=1)"
    if step.op == "flatten":
        return f"{x[0]}.permute(0, 2, 3, 1).flatten(1)"
    if step.op == "layer_norm":
        return f"{module}({x[0]}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)"
    sides, sizes = _sides(s["padding"]), f"{s['window']}, {s['stride']}"
    if step.op == "max_pool":
        return f'functional.max_pool2d(functional.pad({x[0]}, {sides}, value=float("-inf")), {sizes})'
    # Zeros around the image do not count: the mean is divided by the share of the window that lies in the image.
    share = f"functional.avg_pool2d(functional.pad(torch.ones_like({x[0]}), {sides}), {sizes})"
    return f"functional.avg_pool2d(functional.pad({x[0]}, {sides}), {sizes}) / {share}"


def _held(step: Step) -> list[Module]:
    """Return the modules that a generated class holds for a step; without any, a function computes it."""
    if step.op == "layer_norm":
        return [("LayerNorm", (step.shape[0],), _normalization(step, "elementwise_affine"))]
    return _modules(step) or []


def state(steps: Sequence[Step]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the parameters of a generated class by PyTorch's names."""
    found = {}
    for index, step in enumerate(steps):
        held = _held(step)
        for name, array in step.arrays.items():
            inner = f".{len(held) - 1}" if len(held) > 1 else ""
            found[f"step{index}{inner}.{NAMES.get(name, name)}"] = np.ascontiguousarray(array)
    return found


def source(model: Graph, steps: Sequence[Step]) -> str:
    """Return Python that defines a class ``Model`` of a model's steps, and a function that loads its parameters."""
    version = import_module("fgnumba").__version__
    inputs, outputs = (
        ", ".join(("B", *map(str, outside(shape)))) for shape in (model.input_shape, model.output_shape)
    )
    made, forward, names = [], [], {"input": "x"}
    for index, step in enumerate(steps):
        held, read = _held(step), [names[name] for name in step.inputs]
        written = [f"nn.{kind}({_arguments(arguments, more)})" for kind, arguments, more in held]
        if written:
            one = written[0] if len(written) == 1 else f"nn.Sequential({', '.join(written)})"
            made.append(f"        self.step{index} = {one}  # {step.name}")
        names[step.name] = f"x{index}"
        known = _modules(step) is not None
        value = f"self.step{index}({read[0]})" if known else _functional(step, read, f"self.step{index}")
        forward.append(f"        x{index} = {value}")
    made_lines, forward_lines = "\n".join(made), "\n".join(forward)
    classes = "" if model.classes is None else f"\n\nCLASSES = {list(checked_classes(model.classes))!r}"
    between = "\n" if made else ""
    return f'''"""A network that fgnumba {version} exported.

It takes a float32 tensor ({inputs}) and returns one of ({outputs}). Images have their channels first.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional{classes}


class Model(nn.Module):
    """The network, with untrained parameters: ``load`` returns the trained one."""

    def __init__(self):
        super().__init__()
{made_lines}{between}
    def forward(self, x):
{forward_lines}
        return x{len(steps) - 1}


def load(path=None):
    """Return the trained network in evaluation mode; its parameters stand in the file beside this one."""
    from safetensors.torch import load_file

    model = Model()
    model.load_state_dict(load_file(path or Path(__file__).with_suffix(".safetensors")))
    return model.eval()
'''


def _arguments(arguments: Sequence[Any], more: dict[str, Any]) -> str:
    return ", ".join([*map(repr, arguments), *(f"{name}={value!r}" for name, value in more.items())])


def _executed(text: str) -> Any:
    """Return a module of the class that a text of :func:`source` defines."""
    names: dict[str, Any] = {"__name__": "fgnumba.exported"}
    # The text is ours: what it has of the model is numbers, and names of letters, digits, _ and -.
    exec(compile(text, "<model>", "exec"), names)
    return names["Model"]()


def files(model: Graph) -> tuple[str, dict[str, npt.NDArray[np.float32]], float]:
    """Return the two files of an export, Python and the parameters that it loads, and by how much outputs differ.

    Raises
    ------
    ConfigError
        For the reasons of :func:`to_torch`.
    """
    torch = required("torch", "torch", "an export for PyTorch")
    steps = steps_of(model)
    text, arrays = source(model, steps), state(steps)
    with torch.random.fork_rng(devices=[]):
        module = _executed(text)
    apart = checked(torch, model, module, arrays, "export")
    return text, arrays, apart
