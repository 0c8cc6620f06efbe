"""Words from which inputs are composed, like those of libFuzzer's dictionaries."""

from dataclasses import fields
from typing import Any

from fgnumba.kernels.rules.activations.rules import RULES
from fgnumba.layers.tables import LAYERS
from fgnumba.runs.configuration import DIRECTIONS, OPTIMIZERS, RunConfig
from fgnumba.storage.safetensors import SIZES

NUMBERS = (
    "0",
    "-1",
    "1.5",
    "1e-400",
    "1e400",
    "nan",
    "inf",
    "true",
    "[]",
    "{}",
    '""',
    "[1, 2]",
    "[[1, 2], [3, 4]]",
)
VAST = (str(2**31), str(2**32), str(2**63 - 1), str(2**63), str(2**64), "1" + "0" * 400, "0x" + "f" * 4000)
SYNTAX = (
    "[[layers]]",
    "[run]",
    "input_shape = ",
    "classes = ",
    "name = ",
    "inputs = ",
    '"same"',
    '"valid"',
    '"classes"',
)
ARRAYS = (
    "'descr': ",
    "'fortran_order': ",
    "'shape': ",
    "'<f4'",
    "'>f8'",
    "'|O'",
    "'|u1'",
    "'<U9'",
    "(1099511627776,)",
)
TENSORS = ("__metadata__", '"dtype":', '"shape":', '"data_offsets":', *map('"{}"'.format, SIZES))


def dictionary() -> str:
    """Return the words, one a line."""
    layers: list[Any] = list(LAYERS.values())
    keys = {field.name for kind in (RunConfig, *layers) for field in fields(kind)}
    texts = {*LAYERS, *RULES, *DIRECTIONS, *OPTIMIZERS}
    words = [
        *NUMBERS,
        *VAST,
        *SYNTAX,
        *ARRAYS,
        *TENSORS,
        *(f"{key} = " for key in keys),
        *(f'"{t}"' for t in texts),
    ]
    return "".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for word in sorted(words))
