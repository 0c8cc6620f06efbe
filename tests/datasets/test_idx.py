"""The IDX reader: files that it must read, and every way in which a file can be wrong."""

import gzip
import math
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest

from fgnumba.datasets import load, read_idx
from fgnumba.datasets.idx import MAX_GZIP_RATIO
from fgnumba.errors import DatasetError, FgWarning
from tests import tolerances
from tests.places import SHARED

MNIST = SHARED / "mnist"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PACKINGS: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress}


def header(*shape, kind=8, rank=None):
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, kind, len(shape) if rank is None else rank]) + sizes


def idx(array):
    return header(*array.shape) + array.tobytes()


def pixels(count=3, height=4, width=5):
    return (np.arange(count * height * width) * 7 % 256).astype(np.uint8).reshape(count, height, width)


@contextmanager
def refused(path, match):
    with pytest.raises(DatasetError, match=match) as caught:
        yield
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path):
    """Four small files that go together."""
    for name, count in zip(NAMES, (6, 6, 4, 4), strict=True):
        images = pixels(count)
        write(tmp_path / name, idx(images if "images" in name else np.arange(count, dtype=np.uint8)))
    return tmp_path


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (3, 4, 5), (2, 1, 3, 1)])
def test_reads_what_was_written(tmp_path, packing, shape):
    array = (np.arange(math.prod(shape)) * 31 % 256).astype(np.uint8).reshape(shape)
    # The name says the opposite: the first bytes decide.
    name = "data" if packing == "gzip" else "data.gz"
    found = read_idx(write(tmp_path / name, PACKINGS[packing](idx(array))))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array, strict=True)


def test_reads_more_than_a_chunk(tmp_path):
    array = pixels(40, 200, 200)
    for pack in PACKINGS.values():
        np.testing.assert_array_equal(read_idx(write(tmp_path / "data", pack(idx(array)))), array)


def test_reads_several_gzip_members(tmp_path):
    content = idx(pixels())
    path = write(tmp_path / "data", gzip.compress(content[:20]) + gzip.compress(content[20:]))
    np.testing.assert_array_equal(read_idx(path), pixels())


GOOD = idx(pixels())
BAD_CONTENT = {
    "nothing": (b"", "truncated: 0 bytes"),
    "three bytes": (GOOD[:3], "truncated: 3 bytes"),
    "header breaks off": (GOOD[:11], "header of rank 3 breaks off"),
    "one element short": (GOOD[:-1], "truncated: its header promises 60 bytes"),
    "one byte too many": (GOOD + b"\0", "bytes follow the 60"),
    "another format": (b"\x89PNG" + GOOD, "not an IDX file: it begins with 89504e47"),
    "float elements": (header(3, kind=0x0D) + bytes(12), "element type 0x0d; unsigned bytes"),
    "rank 0": (header(), "rank 0"),
    "rank 255": (header(*[1] * 255, rank=255) + b"\0", "rank 255"),
    "no images": (header(0, 28, 28), "is empty.*at least 1"),
    "vast beside a zero": (header(2**32 - 1, 0, 2**32 - 1), "is empty"),
    "a terabyte": (
        header(1 << 20, 1 << 10, 1 << 10) + bytes(100),
        "truncated: its header promises 1099511627776",
    ),
    "beyond 64 bits": (header(*[2**32 - 1] * 4) + bytes(100), "truncated: its header promises"),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(("content", "match"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_refused_without_memory(tmp_path, packing, content, match):
    path = write(tmp_path / "data", PACKINGS[packing](content))
    tracemalloc.start()
    try:
        with refused(path, match):
            read_idx(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_decompresses_no_more_than_promised(tmp_path):
    path = write(tmp_path / "bomb.gz", gzip.compress(header(10) + bytes(1 << 28), compresslevel=1))
    tracemalloc.start()
    try:
        with refused(path, "bytes follow the 10"):
            read_idx(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


def test_the_best_compressed_file_is_read(tmp_path):
    size = 1 << 24
    packed = gzip.compress(header(size) + bytes(size))
    assert size / len(packed) > 0.9 * MAX_GZIP_RATIO
    assert not read_idx(write(tmp_path / "zeros.gz", packed)).any()


def spoiled(packed, position):
    return packed[:position] + bytes([packed[position] ^ 0xFF]) + packed[position + 1 :]


NOISE = np.random.default_rng(0).integers(0, 256, (5, 20, 20), np.uint8)
BAD_STREAM = {
    "only the magic": (lambda packed: packed[:2], "breaks off"),
    "no end": (lambda packed: packed[:-9], "breaks off"),
    "no checksum": (lambda packed: packed[:-8], "breaks off"),
    "another checksum": (lambda packed: spoiled(packed, len(packed) - 6), "damaged.*CRC"),
    "another method": (lambda packed: spoiled(packed, 2), "damaged"),
    "a flipped byte": (lambda packed: spoiled(packed, 10), "damaged"),
    "garbage at the end": (lambda packed: packed + b"garbage", "damaged"),
}


@pytest.mark.parametrize(("spoil", "match"), BAD_STREAM.values(), ids=BAD_STREAM)
def test_bad_gzip_stream(tmp_path, spoil, match):
    path = write(tmp_path / "data.gz", spoil(gzip.compress(idx(NOISE))))
    with refused(path, match):
        read_idx(path)


def test_unreadable_files(tmp_path):
    with refused(tmp_path / "absent", "cannot be read .No such file"):
        read_idx(tmp_path / "absent")
    with refused(tmp_path, "cannot be read .Is a directory"):
        read_idx(tmp_path)


def test_not_enough_memory(tmp_path, monkeypatch):
    def empty(shape, dtype):
        raise MemoryError

    path = write(tmp_path / "data", idx(pixels()))
    monkeypatch.setattr(np, "empty", empty)
    with refused(path, "not enough memory"):
        read_idx(path)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("dotted", [False, True])
def test_folder(folder, packing, dotted):
    for name in NAMES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        target = name.replace("-idx", ".idx") if dotted else name
        write(folder / (target + ".gz" * (packing == "gzip")), PACKINGS[packing](content))
    data = load(folder)
    assert data.name == folder.name
    assert data.input_shape == (4, 5, 1)
    assert data.classes == 6
    np.testing.assert_array_equal(data.x_train, pixels(6)[..., None] / np.float32(255), strict=True)
    np.testing.assert_array_equal(data.x_test, pixels(4)[..., None] / np.float32(255), strict=True)
    np.testing.assert_array_equal(data.y_train, np.arange(6, dtype=np.int64), strict=True)
    np.testing.assert_array_equal(data.y_test, np.arange(4, dtype=np.int64), strict=True)


@pytest.mark.parametrize("missing", NAMES)
def test_folder_without_a_file(folder, missing):
    (folder / missing).unlink()
    kept = ", ".join(map(repr, sorted(set(NAMES) - {missing})))
    with refused(folder, f"no file {missing} or {missing}.gz; .*; the folder holds {kept}$"):
        load(folder)


BAD_FILES = {
    "images of rank 1": (NAMES[0], header(6) + bytes(6), "images have rank 3"),
    "labels of rank 3": (NAMES[3], idx(pixels(4)), "labels have rank 1"),
    "fewer images": (NAMES[0], idx(pixels(5)), "5 images and train-labels-idx1-ubyte 6 labels"),
    "more images": (NAMES[2], idx(pixels(9)), "9 images and t10k-labels-idx1-ubyte 4 labels"),
    "cut": (NAMES[1], header(6) + bytes(2), "truncated"),
}


@pytest.mark.parametrize(("name", "content", "match"), BAD_FILES.values(), ids=BAD_FILES)
def test_folder_with_a_bad_file(folder, name, content, match):
    path = write(folder / name, content)
    with refused(path, match):
        load(folder)


def test_folder_whose_parts_differ(folder):
    write(folder / NAMES[2], idx(pixels(4, 5, 5)))
    with pytest.raises(DatasetError, match=r"x_train has shape \(4, 5, 1\) and one of x_test \(5, 5, 1\)"):
        load(folder)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
def test_label_out_of_range(folder, name):
    assert load(name, data_dir=folder).classes == 10
    path = write(folder / NAMES[3], idx(np.array([0, 9, 10, 11], np.uint8)))
    with refused(path, r"label\[2\] is 10; labels are 0 to 9"):
        load(name, data_dir=folder)
    with pytest.warns(FgWarning, match="6 of 12 classes have no training example: 6, 7, 8, 9, 10, 11; "):
        assert load(folder).classes == 12


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason=f"the MNIST files are not in {MNIST}")
def test_mnist():
    data = load("mnist", data_dir=MNIST)
    assert (data.name, data.classes, data.input_shape) == ("mnist", 10, (28, 28, 1))
    assert (len(data.x_train), len(data.x_test)) == (60000, 10000)
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    # The mean pixel, as commonly used to centre MNIST.
    tolerances.MNIST_MEAN.check(data.x_train.mean(dtype=np.float64), 0.1307)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
