"""Files with false headers: every parser refuses them on one line, without allocating more memory than they justify."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgnumba.datasets import idx_folder, load, npy, read_idx
from fgnumba.errors import ConfigError, DatasetError, FgError
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.toml_file import MAX_TOML
from fgnumba.storage.safetensors import MAX_HEADER, read_header, read_tensors
from tests.hostile import ENVIRONMENT, READERS, VALID, mutations, refusal

TERABYTE = 1 << 40
PEAK = 4 << 20
"""Bytes that reading a damaged file of a few hundred may take: a chunk or two."""


@contextmanager
def little_memory(most=PEAK):
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, kind, data):
    content = data.draw(mutations(VALID[kind]()))
    path = tmp_path_factory.mktemp("hostile") / f"file.{kind}"
    path.write_bytes(content)
    with little_memory():
        refusal(lambda: READERS[kind](path))


def npy_file(header, content=b"", version=(1, 0)):
    text = header.encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + content


def header_of(shape="(1, 5)", descr="'<f4'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n"


BAD_NPY = {
    "a terabyte": (npy_file(header_of(f"({TERABYTE}, 5)")), "header claims 21990232555520 bytes"),
    "beyond 64 bits": (npy_file(header_of("(9223372036854775807, 9)")), "header claims"),
    "a size of many digits": (npy_file(header_of(f"({'9' * 4000}, 5)")), "an impossible shape"),
    "a size of too many digits": (npy_file(header_of(f"({'9' * 5000}, 5)")), "not a readable"),
    "a hexadecimal size": (npy_file(header_of(f"(0x{'f' * 9000}, 5)")), "an impossible shape"),
    "vast beside a zero": (npy_file(header_of("(0, 9223372036854775807)")), "an impossible shape"),
    "a negative size": (npy_file(header_of("(-1, 5)")), "an impossible shape"),
    "negative sizes": (npy_file(header_of("(-1, -5)"), bytes(20)), "an impossible shape"),
    "a true size": (npy_file(header_of("(True, 5)"), bytes(20)), "an impossible shape"),
    "many dimensions": (npy_file(header_of("(1, " + "1, " * 60 + ")"), bytes(4)), "an impossible shape"),
    "one byte short": (npy_file(header_of(), bytes(19)), "header claims 20 bytes"),
    "objects": (npy_file(header_of(descr="'|O'"), bytes(40)), "a pickled array"),
    "objects in fields": (npy_file(header_of(descr="[('a', '|O')]"), bytes(40)), "a pickled array"),
    "fields": (npy_file(header_of(descr="[('a', '<f4')]"), bytes(40)), "real numbers are required"),
    "text": (npy_file(header_of(descr="'<U5'"), bytes(100)), "real numbers are required"),
    "vast text": (npy_file(header_of(descr="'<U500000000'"), bytes(100)), "real numbers are required"),
    "void": (npy_file(header_of(descr="'|V4'"), bytes(20)), "real numbers are required"),
    "no dtype": (npy_file(header_of(descr="'wrong'"), bytes(20)), "not a readable"),
    "nested": (npy_file("(" * 9000), "not a readable"),
    "nested operators": (npy_file("-" * 9000 + "1"), "not a readable"),
    "a call": (npy_file("__import__('os').abort()"), "not a readable"),
    "a long header": (npy_file(header_of() + " " * 20000, bytes(20)), "not a readable"),
    "a longer header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not a readable"),
    "a later version": (npy_file(header_of(), bytes(20), (9, 0)), "not a readable"),
    "a key too many": (npy_file(header_of()[:-2] + ", 'x': 1}", bytes(20)), "not a readable"),
    "nothing": (b"", "not a readable"),
}


@pytest.mark.parametrize(("content", "message"), BAD_NPY.values(), ids=BAD_NPY)
def test_arrays_whose_headers_lie(tmp_path, content, message):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with little_memory(), pytest.raises(DatasetError, match=message):
        READERS["npy"](path)
    # The same as a member of an archive, whose directory is right.
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in VALID_ARRAYS.items():
            archive.writestr(f"{key}.npy", content if key == "x_train" else written(array))
    with little_memory(), pytest.raises(DatasetError, match=f"x_train is .*{message}"):
        load(tmp_path / "x.npz")


VALID_ARRAYS = {
    "x_train": np.zeros((6, 5), np.float32),
    "y_train": np.arange(6) % 3,
    "x_test": np.zeros((4, 5), np.float32),
    "y_test": np.arange(4) % 3,
}


def written(array, version=None):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|u1", ">i8", "|b1"])
@pytest.mark.parametrize("order", "CF")
def test_every_real_array_is_read(version, dtype, order):
    array = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype, order=order)
    content = written(array, version)
    np.testing.assert_array_equal(npy.read_npy(io.BytesIO(content), len(content)), array, strict=True)


def archive_of(path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, array in VALID_ARRAYS.items():
            archive.writestr(f"{key}.npy", written(array))


def refused_npz(path, message):
    with little_memory(), pytest.raises(DatasetError, match=message):
        load(path)


def spoil_directory(path, offset, content):
    """Write over the entry of the first member in the archive's directory."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + offset : entry + offset + len(content)] = content
    path.write_bytes(data)


def test_archives_whose_directories_lie(tmp_path):
    path = tmp_path / "data.npz"
    for offset, content, message in (
        (24, struct.pack("<I", 4_000_000_000), "cannot hold the 4000000000 that they claim"),
        (8, b"\x01\x00", "x_train is encrypted"),
        (10, struct.pack("<H", zipfile.ZIP_LZMA), "compressed by method 14"),
        (10, struct.pack("<H", 9999), "compressed by method 9999"),
        (42, struct.pack("<I", 3_000_000_000), "not an .npz archive"),
    ):
        archive_of(path)
        spoil_directory(path, offset, content)
        refused_npz(path, message)


def test_an_archive_with_a_member_twice(tmp_path):
    archive_of(tmp_path / "data.npz")
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y_test.npy", written(np.arange(4)))
    refused_npz(tmp_path / "data.npz", "y_test occurs twice")


def test_a_zip_bomb(tmp_path):
    # The header is right, and the bytes would come: they are not asked for.
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in VALID_ARRAYS.items():
            archive.writestr(f"{key}.npy", written(array) + bytes(1 << 24))
    with little_memory():
        assert load(tmp_path / "data.npz").classes == 3
    bomb = npy_file("\0" * 60000, version=(2, 0)) + bytes(1 << 24)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key in VALID_ARRAYS:
            archive.writestr(f"{key}.npy", bomb)
    refused_npz(tmp_path / "bomb.npz", "not a readable")


def test_names_in_an_archive_are_no_paths(folder):
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        for key, array in VALID_ARRAYS.items():
            archive.writestr(f"{key}.npy", written(array))
            archive.writestr(f"../{key}.npy", b"")
            archive.writestr(f"/tmp/{key}-of-an-archive.npy", b"")
    load("data.npz")
    assert [path.name for path in folder.iterdir()] == ["data.npz"]
    assert [path.name for path in folder.parent.iterdir()] == ["work"]


def sparse(path, content, size):
    path.write_bytes(content)
    os.truncate(path, size)


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_sparse_files_beyond_memory(tmp_path):
    path = tmp_path / "sparse"
    sparse(path, npy_file(header_of(f"({TERABYTE // 20}, 5)")), TERABYTE + 200)
    with little_memory(), pytest.raises(DatasetError, match=r"too large: .* needs .* this machine has"):
        READERS["npy"](path)
    size = (TERABYTE >> 20).to_bytes(4, "big")
    sparse(path, bytes([0, 0, 8, 2]) + size + (1 << 20).to_bytes(4, "big"), TERABYTE + 12)
    with little_memory(), pytest.raises(DatasetError, match=r"needs .* this machine has"):
        read_idx(path)
    sparse(path, b"", MAX_TOML + 1)
    with little_memory(), pytest.raises(ConfigError, match="1,048,577 bytes; at most 1,048,576 are possible"):
        RunConfig.from_toml(path)
    sparse(path, (MAX_HEADER + 1).to_bytes(8, "little"), TERABYTE)
    with little_memory(), pytest.raises(ValueError, match=f"at most {MAX_HEADER} are read"):
        read_header(path)


def tensors_file(header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(shape=(2,), dtype="F32", place=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


BAD_TENSORS = {
    "nothing": (b"", "it has 0 bytes"),
    "a vast header": (b"\xff" * 8, "claims a header of 18446744073709551615 bytes; 0 are there"),
    "a header too long": (tensors_file(b"{}")[:-1], "claims a header of 2 bytes; 1 are there"),
    "no JSON": (tensors_file(b"{x"), "Expecting"),
    "no UTF-8": (tensors_file(b'{"\xff": 1}'), "not UTF-8"),
    "nested": (tensors_file(b"[" * 100_000), "nested too deeply"),
    "a list": (tensors_file([]), r"the header is \[\]"),
    "a number of many digits": (tensors_file(b'{"w": ' + b"9" * 5000 + b"}"), "digits"),
    "twice": (tensors_file(b'{"w": 1, "w": 1}'), "occurs twice"),
    "metadata of numbers": (tensors_file({"__metadata__": {"a": 1}}), "__metadata__ is"),
    "metadata that is text": (tensors_file({"__metadata__": "a"}), "__metadata__ is"),
    "no table": (tensors_file({"w": 1}), "'w' is 1"),
    "no place": (tensors_file({"w": {"dtype": "F32", "shape": [2]}}), "data_offsets are required"),
    "unknown dtype": (tensors_file({"w": entry(dtype="F128")}), "dtype is 'F128'"),
    "a list as dtype": (tensors_file({"w": entry(dtype=["F32"])}), "dtype is"),
    "a terabyte": (tensors_file({"w": entry((TERABYTE,), place=(0, 4 * TERABYTE))}), "0 are there"),
    "another size": (tensors_file({"w": entry((3,))}, bytes(8)), "needs 12 bytes"),
    "beyond 64 bits": (
        tensors_file({"w": entry((1 << 62, 1 << 62))}, bytes(8)),
        "bits bytes|needs \\d+ bytes",
    ),
    "a negative size": (tensors_file({"w": entry((-1, -2))}, bytes(8)), "shape is"),
    "a real size": (tensors_file({"w": entry((2.0,))}, bytes(8)), "shape is"),
    "a true size": (tensors_file({"w": entry((True, 2))}, bytes(8)), "shape is"),
    "many dimensions": (tensors_file({"w": entry((1,) * 60 + (2,))}, bytes(8)), "shape is"),
    "a place before the first byte": (tensors_file({"w": entry(place=(-8, 0))}, bytes(8)), "data_offsets is"),
    "a place behind a gap": (tensors_file({"w": entry(place=(4, 12))}, bytes(12)), "begins at byte 4; 0 is"),
    "one place for two": (tensors_file({"v": entry(), "w": entry()}, bytes(8)), "begins at byte 0; 8 is"),
    "bytes at the end": (tensors_file({"w": entry()}, bytes(9)), "8 bytes; 9 are there"),
    "missing": (tensors_file({}), "'w' is missing"),
    "unknown": (tensors_file({"v": entry()}, bytes(8)), "unknown name 'v'"),
    "another dtype": (tensors_file({"w": entry(dtype="BF16", place=(0, 4))}, bytes(4)), "dtype BF16"),
    "another shape": (tensors_file({"w": entry((1, 2))}, bytes(8)), r"shape \(1, 2\); \(2,\) is required"),
    "not finite": (
        tensors_file({"w": entry()}, np.array([1, np.inf], np.float32).tobytes()),
        "'w' holds a number that is not finite",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_tensors_whose_headers_lie(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with little_memory(16 << 20), pytest.raises(ValueError, match=message):
        read_tensors(path, {"w": (2,)})


def test_tensors_of_a_file_that_becomes_shorter(tmp_path, monkeypatch):
    """It happens after the header was read: a map of the file would kill the process."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors_file({"w": entry((1 << 16,), place=(0, 1 << 18))}, bytes(1 << 18)))

    def cut(*_):
        os.truncate(path, 4096)

    monkeypatch.setattr("fgnumba.storage.safetensors._compare", cut)
    with pytest.raises(ValueError, match=r"^'w' breaks off$"):
        read_tensors(path, {"w": (1 << 16,)})


def test_a_header_says_what_is_there(tmp_path):
    from safetensors.numpy import load_file, save

    w = np.array([[1, 2]], np.float32)
    arrays: dict[str, np.ndarray] = {"b": np.arange(3.0), "a": np.zeros((0, 4), np.float16), "w": w}
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(arrays, {"text": '{"a": 1}'}))
    header = read_header(path)
    assert header.metadata == {"text": '{"a": 1}'}
    assert {name: (t.dtype, t.shape, t.nbytes) for name, t in header.tensors.items()} == {
        "a": ("F16", (0, 4), 0),
        "b": ("F64", (3,), 24),
        "w": ("F32", (1, 2), 8),
    }
    path.write_bytes(save({"w": w}))
    np.testing.assert_array_equal(read_tensors(path, {"w": (1, 2)})["w"], load_file(path)["w"], strict=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", READERS)
def test_pipes_and_devices_are_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "zero.npz"):
        with pytest.raises(FgError, match="not a regular file"):
            READERS[kind](tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_files_of_a_folder(tmp_path):
    for name in (
        idx_folder.TRAIN_IMAGES,
        idx_folder.TRAIN_LABELS,
        idx_folder.TEST_IMAGES,
        idx_folder.TEST_LABELS,
    ):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DatasetError, match=f"no file {idx_folder.TRAIN_IMAGES}"):
        load(tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from tests.hostile import READERS
from fgnumba.errors import FgError
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
for path in map(Path, sys.argv[1:]):
    try:
        READERS[path.suffix[1:]](path)
    except FgError as error:
        assert error.__context__ is None or not isinstance(error.__context__, MemoryError), path
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of address space")
def test_terabytes_are_claimed_where_there_are_megabytes(tmp_path):
    contents = {
        "a.npy": npy_file(header_of(f"({TERABYTE}, 5)")),
        "b.npy": npy_file(header_of("(300000000, 5)"), bytes(100)),
        "c.idx": bytes([0, 0, 8, 3]) + b"\x00\x10\x00\x00" * 3 + bytes(100),
        "d.idx": gzip.compress(bytes([0, 0, 8, 3]) + b"\x00\x10\x00\x00" * 3 + bytes(1 << 20)),
        "e.safetensors": tensors_file({"w": entry((TERABYTE,), place=(0, 4 * TERABYTE))}),
        "f.safetensors": b"\x00\x00\x00\x00\x01\x00\x00\x00{}",
        "g.toml": b"layers = [" + b"[" * 500_000,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    archive_of(tmp_path / "h.npz")
    spoil_directory(tmp_path / "h.npz", 24, struct.pack("<I", 4_000_000_000))
    paths = sorted(map(str, tmp_path.iterdir()))
    command = [sys.executable, "-c", LIMITED, *paths]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(paths)
