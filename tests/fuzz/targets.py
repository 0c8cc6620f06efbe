"""The targets of fuzzing: a function of bytes for each parser, and the valid files from which its inputs are derived.

A function returns if its input is read, or refused with an FgError; everything else is a failure. A refusal after
memory has run out is a failure, too, because sizes must be checked before memory is allocated.
"""

import gzip
import io
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors.numpy import save

import fgnumba as fg
from fgnumba.datasets import Alphabet, TableRules, cifar, load, read_idx, text
from fgnumba.datasets.tables.features import CategoryRule, NumberRule
from fgnumba.datasets.tables.targets import ClassTarget, LabelTarget, RealTarget
from fgnumba.errors import FgError
from fgnumba.runs import run_folder, saved_run
from fgnumba.runs.assembly import written_model
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.inputs import read_examples
from fgnumba.runs.presets import model_from
from fgnumba.storage.safetensors import read_header, read_tensors
from tests.fuzz import interrupted, rules

SEPARATOR = b"\n<next file>\n"
"""Between the files of a run folder."""

CLASSES, FEATURES = 3, 5
SHAPES = {"0.weight": (FEATURES, CLASSES), "0.bias": (CLASSES,)}

MODEL = """\
[[layers]]
name = "stem"
type = "conv2d"
filters = 4
kernel_size = [3, 2]
padding = "same"
stride = 2
dilation = 1
groups = 1
activation = "relu"
[[layers]]
name = "norm"
type = "group_norm"
groups = 2
epsilon = 1e-5
[[layers]]
name = "sum"
type = "add"
inputs = ["stem", "norm"]
[[layers]]
type = "max_pool2d"
pool_size = 2
stride = [1, 1]
padding = 1
[[layers]]
type = "dropout"
rate = 0.25
[[layers]]
type = "global_average_pool2d"
[[layers]]
type = "dense"
units = "classes"
bias = false
"""

SETTINGS = """\
model = "mlp"
widths = [16, 8]
data = "digits"
data_dir = "here"
estimator = "weight-perturbation"
direction = "rank1"
directions = 4
validation = 0.1
patience = 3
restore_best = true
steps = 10
batch_size = 8
learning_rate = 1e-3
decay = 0.0
optimizer = "sgd"
momentum = 0.5
nesterov = true
weight_decay = 0.1
clip_norm = 1.0
seed = 1
device = "cpu"
[[layers]]
type = "flatten"
[[layers]]
type = "dense"
units = 3
[run]
input_shape = [5]
classes = 3
version = "0.1"
"""


def read_config(content: bytes) -> None:
    rules.refuses_well(lambda: RunConfig.from_toml(rules.written("config.toml", content)))


def read_model(content: bytes) -> None:
    path = rules.written("model.toml", content)

    def build() -> None:
        tables, where = written_model(RunConfig(model=str(path)), CLASSES)
        model_from(tables, CLASSES, where, (8, 7, 4), device="cpu")

    rules.refuses_well(build)


def read_idx_file(content: bytes) -> None:
    rules.refuses_well(lambda: read_idx(rules.written("plain", content)))
    rules.refuses_well(lambda: read_idx(rules.written("packed", gzip.compress(content, 1, mtime=0))))


def read_npz(content: bytes) -> None:
    rules.refuses_well(lambda: load(rules.written("data.npz", content)))
    # A mutated archive seldom has the checksums that let its members be read.
    path = rules.FOLDER / "member.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in _data().items():
            archive.writestr(f"{name}.npy", content if name == "x_train" else array_file(array))
    rules.refuses_well(lambda: load(path))


_RUN: Any = SimpleNamespace(
    model=SimpleNamespace(input_shape=(FEATURES,)), config=SimpleNamespace(data="digits")
)


def read_npy(content: bytes) -> None:
    rules.refuses_well(lambda: read_examples(rules.written("x.npy", content), _RUN))


def read_csv(content: bytes) -> None:
    rules.refuses_well(lambda: read_examples(rules.written("x.csv", content), _RUN))


def read_safetensors(content: bytes) -> None:
    path = rules.written("x.safetensors", content)

    def read() -> None:
        try:
            read_header(path)
            read_tensors(path, SHAPES)
        except ValueError as error:
            raise FgError(str(error)) from error

    rules.refuses_well(read)


def read_saved_model(content: bytes) -> None:
    rules.refuses_well(lambda: fg.load(rules.written("saved.safetensors", content), "cpu"))


def read_onnx(content: bytes) -> None:
    rules.refuses_well(lambda: fg.from_onnx(rules.written("x.onnx", content), "cpu"))


def read_run_folder(content: bytes) -> None:
    files = [*content.split(SEPARATOR), b"", b""]
    for name, part in zip((run_folder.CONFIG, run_folder.METRICS, run_folder.MODEL), files, strict=False):
        rules.written(name, part)
    rules.refuses_well(lambda: saved_run.read(rules.FOLDER, "cpu"))


def read_cifar(content: bytes) -> None:
    rules.refuses_well(lambda: load(rules.written("cifar-10-binary.tar.gz", content)))
    # A mutated stream seldom has the checksum that lets its members be read.
    packed = gzip.compress(content, 1, mtime=0)
    rules.refuses_well(lambda: load(rules.written("cifar-10-binary.tar.gz", packed)))


def read_emnist(content: bytes) -> None:
    rules.written("gzip.zip", content)
    rules.refuses_well(lambda: load("emnist-letters", data_dir=rules.FOLDER))


def read_table_csv(content: bytes) -> None:
    path = rules.written("t.csv", content)
    for target in ("kind", "size"):
        rules.refuses_well(partial(load, path, target=target))
    known = TableRules.from_json(rules.written("table.json", _rules()))
    rules.refuses_well(lambda: known.apply(path))
    rules.refuses_well(lambda: known.labelled(path))


def read_parquet(content: bytes) -> None:
    path = rules.written("t.parquet", content)
    rules.refuses_well(lambda: load(path, target="kind"))


def read_rules(content: bytes) -> None:
    rules.refuses_well(lambda: TableRules.from_json(rules.written("table.json", content)))


def read_text(content: bytes) -> None:
    path = rules.written("t.txt", content)
    for symbols in ("characters", "bytes"):
        rules.refuses_well(partial(text, path, 4, symbols))


def read_alphabet(content: bytes) -> None:
    rules.refuses_well(lambda: Alphabet.from_json(rules.written("text.json", content)))


def _text_seeds() -> list[bytes]:
    # Half of the first one is too short.
    words = "né où, abc\r\n"
    encodings = [words.encode(name) for name in ("utf-8", "utf-8-sig", "utf-16")]
    return [*encodings, (words * 9).encode(), "日本語".encode() * 9]


def _rules() -> bytes:
    features = (NumberRule("size", 1.0, 2.0, 3.0, True), CategoryRule("colour", ("blue", "red"), False))
    return TableRules(features, ClassTarget("kind", ("ant", "owl"))).to_json().encode()


def _rules_seeds() -> list[bytes]:
    real = TableRules(
        (NumberRule("n", 0.0, 0.0, 1.0, False),), RealTarget(("a", "b"), (0.0, 1.0), (1.0, 2.0))
    )
    labels = replace(real, target=LabelTarget(("a", "b"), (("no", "yes"), (0, 1))))
    return [_rules(), real.to_json().encode(), labels.to_json().encode()]


def _csv_seeds() -> list[bytes]:
    rows = [f"{i * i / 4},{'red' if i % 3 else 'blue'},{'ant' if i % 2 else 'owl'}" for i in range(12)]
    text = "\n".join(["size,colour,kind", *rows]) + "\n"
    quoted = text.replace("red", '"dark ""red"""').replace("\n", "\r\n")
    return [text.encode(), text.replace(",", ";").encode("utf-16"), quoted.encode("utf-8-sig")]


def _parquet_seeds() -> list[bytes]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return [b"PAR1"]
    columns = {
        "size": [float(i * i) for i in range(12)],
        "flag": [True, None, False] * 4,
        "kind": ["ant", "owl"] * 6,
    }
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return [stream.getvalue()]


def _cifar_seeds() -> list[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in (*cifar.TRAIN, cifar.TEST):
            member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
            member.size = cifar.RECORD
            archive.addfile(member, io.BytesIO(bytes(cifar.RECORD)))
    return [gzip.compress(stream.getvalue(), mtime=0), stream.getvalue()]


def _emnist_seeds() -> list[bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for part in ("train", "test"):
            for what, sizes, content in (
                ("images-idx3", (2, 3, 4), bytes(24)),
                ("labels-idx1", (2,), b"\1\x1a"),
            ):
                header = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes)
                packed = gzip.compress(header + content, mtime=0)
                archive.writestr(f"gzip/emnist-letters-{part}-{what}-ubyte.gz", packed)
    return [stream.getvalue()]


def array_file(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def _data() -> dict[str, np.ndarray]:
    x = np.arange(6 * FEATURES, dtype=np.float32).reshape(6, FEATURES)
    return {"x_train": x, "y_train": np.arange(6) % 3, "x_test": x[:4], "y_test": np.arange(4) % 3}


def _npz_seeds() -> list[bytes]:
    found = []
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        write(stream, **_data())  # type: ignore[arg-type]
        found.append(stream.getvalue())
    return [*found, *_npy_seeds()]


def _npy_seeds() -> list[bytes]:
    x = _data()["x_train"]
    arrays = [x, x.astype(">f8"), np.asfortranarray(x), x.astype("f2"), x[:0], x.astype("u1")]
    return [*map(array_file, arrays), array_file(x, (2, 0)), array_file(x, (3, 0))]


def _idx_seeds() -> list[bytes]:
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 3, 4))
    content = header + bytes(range(24))
    return [content, bytes([0, 0, 8, 1, 0, 0, 0, 5]) + bytes(5), gzip.compress(content, mtime=0)]


def _tensor_seeds() -> list[bytes]:
    arrays: dict[str, np.ndarray] = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    others: dict[str, np.ndarray] = {"b": np.zeros((0, 2)), "i": np.arange(3), "h": np.zeros(2, np.float16)}
    return [save(arrays), save(arrays | others, {"settings": '{"a": [1, 2.5e3]}'}), save({})]


def _models() -> list[fg.Graph]:
    row = [
        fg.Conv2d(4, 3, 2, "same", groups=2, activation="silu"),
        fg.MaxPool2d(2),
        fg.LayerNorm(),
        fg.Flatten(),
    ]
    nodes = [
        fg.Node("a", fg.Dense(4, "gelu")),
        fg.Node("b", fg.GroupNorm(2)),
        fg.Node("c", fg.Add(), ("a", "b")),
        fg.Node("d", fg.Concatenate(), ("a", "c")),
        fg.Node("e", fg.Dense(CLASSES)),
    ]
    found = [fg.Graph(nodes, FEATURES), fg.Sequential([*row, fg.Dropout(0.25), fg.Dense(CLASSES)], (5, 4, 2))]
    for model in found:
        model.classes = ("a", 1, 0.5)
    return found


def _model_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as base:
        path, found = Path(base, "model"), []
        for model in _models():
            model.save(path)
            found.append(path.read_bytes())
        return found


def _onnx_seeds() -> list[bytes]:
    from fgnumba.interchange.onnx_out import content_of

    return [content_of(model) for model in _models()]


def _folder_seeds() -> list[bytes]:
    config = RunConfig(layers=({"type": "dense", "units": CLASSES},), steps=2)
    records = [
        fg.Record(1, 0.5, 1.0, 1.1, 0.5, 0.1, 0.01),
        fg.Record(2, 1.0, 1.0, learning_rate=0.1, validation_loss=1.0, validation_accuracy=0.5),
    ]
    facts = {"input_shape": [FEATURES], "classes": CLASSES}
    with tempfile.TemporaryDirectory() as base:
        path = run_folder.begin(Path(base, "run"), config, facts)
        run_folder.finish(path, config, fg.Sequential([fg.Dense(CLASSES)], FEATURES), records, facts)
        names = (run_folder.CONFIG, run_folder.METRICS, run_folder.MODEL)
        return [SEPARATOR.join((path / name).read_bytes() for name in names)]


TARGETS = {
    "config": rules.Target(read_config, lambda: [SETTINGS.encode()]),
    "model": rules.Target(read_model, lambda: [MODEL.encode()]),
    "idx": rules.Target(read_idx_file, _idx_seeds),
    "npz": rules.Target(read_npz, _npz_seeds),
    "npy": rules.Target(read_npy, _npy_seeds),
    "csv": rules.Target(read_csv, lambda: [b"a,b,c,d,e\n1,2,3,4,5\n", b'\xef\xbb\xbf1e3,-2,.5,"4",inf\r\n']),
    "cifar": rules.Target(read_cifar, _cifar_seeds),
    "emnist": rules.Target(read_emnist, _emnist_seeds),
    "table-csv": rules.Target(read_table_csv, _csv_seeds),
    "parquet": rules.Target(read_parquet, _parquet_seeds),
    "table": rules.Target(read_rules, _rules_seeds),
    "text": rules.Target(read_text, _text_seeds),
    "alphabet": rules.Target(
        read_alphabet, lambda: [Alphabet(one).to_json().encode() for one in ("\nabcé", b"ab\xff")]
    ),
    "safetensors": rules.Target(read_safetensors, _tensor_seeds),
    "saved-model": rules.Target(read_saved_model, _model_seeds),
    "onnx": rules.Target(read_onnx, _onnx_seeds),
    "run-folder": rules.Target(read_run_folder, _folder_seeds),
    "checkpoint": rules.Target(interrupted.read_checkpoint, interrupted.checkpoints),
    "replay": rules.Target(interrupted.read_log, interrupted.logs),
}
