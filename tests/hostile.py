"""What the tests of hostile input share: valid files, readers of each kind, and ways to damage a file."""

import gzip
import io
import os
import tarfile
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

import fgnumba as fg
from fgnumba.datasets import read_idx
from fgnumba.datasets.archives import read_tar
from fgnumba.datasets.cifar import RECORD, TEST, TRAIN
from fgnumba.datasets.npz import load_npz
from fgnumba.datasets.tables import TableRules, load_table
from fgnumba.datasets.tables.features import CategoryRule, NumberRule
from fgnumba.datasets.tables.targets import ClassTarget
from fgnumba.errors import MAX_MESSAGE
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.inputs import read_examples
from fgnumba.storage.safetensors import read_tensors

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fg.__file__).parent.parent), "FGNUMBA_DEVICE": "cpu"}
FEATURES = 5


def _examples(path):
    run: Any = SimpleNamespace(
        model=SimpleNamespace(input_shape=(FEATURES,)), config=SimpleNamespace(data="digits")
    )
    return read_examples(path, run)


def _tensors(path):
    try:
        return read_tensors(path, {"w": (2, 3)})
    # The caller names the file.
    except (OSError, ValueError) as error:
        raise fg.RunError(f"{path}: {error}") from None


def _members(path):
    return read_tar(path, (*TRAIN, TEST), lambda name, stream, size: stream.read(min(size, RECORD)))


READERS = {
    "npy": _examples,
    "csv": _examples,
    "npz": load_npz,
    "idx": read_idx,
    "gz": read_idx,
    "safetensors": _tensors,
    "model": lambda path: fg.load(path, "cpu"),
    "toml": RunConfig.from_toml,
    "tgz": _members,
    "tsv": lambda path: load_table(path, "kind"),
    "json": TableRules.from_json,
}


def _written(write, *arguments, **arrays):
    stream = io.BytesIO()
    write(stream, *arguments, **arrays)
    return stream.getvalue()


def _archive():
    x, y = np.ones((6, FEATURES), np.float32), np.arange(6) % 3
    return _written(np.savez_compressed, x_train=x, y_train=y, x_test=x, y_test=y)


def _idx():
    return bytes([0, 0, 8, 2, 0, 0, 0, 6, 0, 0, 0, 5]) + bytes(30)


def _table():
    rows = [f"{i * i / 4},{'red' if i % 3 else 'blue'},{'ant' if i % 2 else 'owl'}" for i in range(8)]
    return ("\n".join(["size,colour,kind", *rows]) + "\n").encode()


def _rules():
    features = (NumberRule("size", 1.0, 2.0, 3.0, True), CategoryRule("colour", ("blue", "red"), False))
    return TableRules(features, ClassTarget("kind", ("ant", "owl"))).to_json().encode()


def _cifar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in (*TRAIN, TEST):
            member = tarfile.TarInfo(name)
            member.size = RECORD
            archive.addfile(member, io.BytesIO(bytes(RECORD)))
    return stream.getvalue()


def _settings():
    layers = ({"type": "conv2d", "filters": 4, "padding": [1, 2]}, {"type": "dense", "units": 3})
    config = RunConfig(layers=layers, widths=(3, 4), learning_rate=1e-3, steps=7)
    return config.to_toml({"input_shape": [8, 8, 1]}).encode()


def _model():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        fg.Sequential([fg.Conv2d(4, 2, padding=1), fg.Flatten(), fg.Dense(3)], (4, 3, 2)).save(path)
        return path.read_bytes()


def _network():
    from fgnumba.interchange.onnx_out import content_of

    nodes = [fg.Node("a", fg.Conv2d(2, 3, padding=1)), fg.Node("b", fg.Add("silu"), ("a", "input"))]
    return content_of(fg.Graph([*nodes, fg.Node("c", fg.Flatten()), fg.Node("d", fg.Dense(3))], (4, 3, 2)))


VALID = {
    "npy": lambda: _written(np.save, np.ones((6, FEATURES), np.float32)),
    "csv": lambda: b"a,b,c,d,e\n" + b"1,-2.5,3e2,4,5\n" * 6,
    "npz": _archive,
    "idx": _idx,
    "gz": lambda: gzip.compress(_idx(), mtime=0),
    "safetensors": lambda: save({"w": np.ones((2, 3), np.float32)}, {"made": "by hand"}),
    "model": _model,
    "toml": _settings,
    "tgz": _cifar,
    "tsv": _table,
    "json": _rules,
}

if find_spec("onnx") is not None:
    READERS["onnx"] = lambda path: fg.from_onnx(path, "cpu")
    VALID["onnx"] = _network

ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")
VAST = [n.to_bytes(k, order) for k in (2, 4, 8) for order in ORDERS for n in (0, 1 << 15, 256**k - 1)]
WORDS = [*(b"9" * 19, b"-1", b"1e999", b"nan", b"[[layers]]"), *(bytes([c]) for c in b"\"'[{(,\n\0\xffO")]


def refusal(read):
    """Return why `read` refuses its input, None where it does not; no other exception is a refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.errors.FgWarning)
            read()
    except fg.FgError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1
    assert len(message) <= MAX_MESSAGE
    return message


@st.composite
def mutations(draw, content):
    """Draw a damaged copy: bytes flipped, cut out, put in, moved, or numbers that claim a lot."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 8))
        kind = draw(st.sampled_from(["flip", "cut", "end", "insert", "lie", "splice"]))
        if kind == "flip":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "end":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.sampled_from(WORDS) | st.binary(max_size=8))
        elif kind == "lie":
            lie = draw(st.sampled_from(VAST))
            data[at : at + len(lie)] = lie
        else:
            there = draw(st.integers(0, max(len(data) - 1, 0)))
            data[there:there] = data[at : at + 8 * length]
    return bytes(data)
