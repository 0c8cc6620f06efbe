"""MNIST's relatives: folders whose files have other names, EMNIST's letters, KMNIST."""

import gzip
import zipfile

import numpy as np
import pytest

from fgnumba.datasets import load
from fgnumba.errors import DatasetError, FgWarning

PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "test-images-idx3-ubyte",
    "test-labels-idx1-ubyte",
)
COUNTS = {"train": 30, "test": 27}


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def images(count):
    return (np.arange(count * 28 * 28) * 7 % 251).astype(np.uint8).reshape(count, 28, 28)


def labels(count):
    return (np.arange(count) % 26 + 1).astype(np.uint8)


def files(prefix, first=1):
    result = {}
    for name in PARTS:
        count = COUNTS[name.split("-")[0]]
        array = images(count) if "images" in name else labels(count) - (1 - first)
        result[f"{prefix}-{name}"] = idx(array.astype(np.uint8))
    return result


def write(folder, named, pack=bytes, ending=""):
    for name, content in named.items():
        (folder / f"{name}{ending}").write_bytes(pack(content))
    return folder


def refused(match):
    return pytest.raises(DatasetError, match=match)


def check_letters(data):
    assert (data.classes, data.labels) == (26, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    for part, count in COUNTS.items():
        upright = images(count).transpose(0, 2, 1)[..., None] / np.float32(255)
        np.testing.assert_array_equal(getattr(data, f"x_{part}"), upright, strict=True)
        np.testing.assert_array_equal(getattr(data, f"y_{part}"), np.arange(count) % 26, strict=True)


@pytest.mark.parametrize(("pack", "ending"), [(bytes, ""), (gzip.compress, ".gz")])
def test_emnist_letters_stand_upright_and_begin_at_0(tmp_path, pack, ending):
    write(tmp_path, files("emnist-letters"), pack, ending)
    write(tmp_path, files("emnist-balanced"), pack, ending)
    check_letters(load("emnist-letters", data_dir=tmp_path))


def archive(path, named):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in named.items():
            file.writestr(f"gzip/{name}.gz", gzip.compress(content))
    return path


def test_emnist_letters_from_the_archive(tmp_path):
    archive(tmp_path / "gzip.zip", files("emnist-digits", 0) | files("emnist-letters"))
    check_letters(load("emnist-letters", data_dir=tmp_path))


def test_archives_without_letters(tmp_path):
    archive(tmp_path / "gzip.zip", files("emnist-digits", 0))
    with refused("gzip.zip: no emnist-letters-train-images-…; the archive of EMNIST's IDX files"):
        load("emnist-letters", data_dir=tmp_path)
    (tmp_path / "gzip.zip").write_bytes(b"no archive")
    with refused("gzip.zip: not a zip archive, or a damaged one"):
        load("emnist-letters", data_dir=tmp_path)


def test_a_member_twice(tmp_path):
    path = archive(tmp_path / "gzip.zip", files("emnist-letters"))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/emnist-letters-train-images-idx3-ubyte.gz", b"")
    with refused("emnist-letters-train-images-idx3-ubyte.gz occurs twice"):
        load("emnist-letters", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("label", "match"), [(0, r"y_train\[3\] is 0; EMNIST's letters are 1 to 26"), (27, "is 27")]
)
def test_labels_that_are_no_letters(tmp_path, label, match):
    write(tmp_path, files("emnist-letters"))
    wrong = labels(30)
    wrong[3] = label
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(idx(wrong))
    with refused(match):
        load("emnist-letters", data_dir=tmp_path)


def test_letters_that_are_not_there(tmp_path):
    write(tmp_path, files("emnist-digits", 0))
    with refused(
        "no file emnist-letters-train-images-idx3-ubyte or .*; the folder holds 'emnist-digits-test-images"
    ):
        load("emnist-letters", data_dir=tmp_path)
    with refused("absent: no file .*; there is no such folder"):
        load("emnist-letters", data_dir=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with refused("empty: no file train-images-idx3-ubyte .*; the folder is empty"):
        load(tmp_path / "empty")


@pytest.mark.parametrize("prefix", ["kuzushiji49", "my_own-data", "emnist-letters"])
def test_a_folder_of_a_relative_is_found_by_the_end_of_names(tmp_path, prefix):
    write(tmp_path, files(prefix))
    with pytest.warns(
        FgWarning, match="labels are 1, 2, 3, 4, 5, … 26 .26 in all.; they become the classes 0 to 25"
    ):
        data = load(tmp_path)
    assert (data.name, data.classes, data.labels) == (tmp_path.name, 26, tuple(range(1, 27)))
    stored = images(30) if prefix != "emnist-letters" else images(30).transpose(0, 2, 1)
    np.testing.assert_array_equal(data.x_train[..., 0], stored / np.float32(255))


def test_one_of_several_data_sets_is_named_by_its_prefix(tmp_path):
    write(tmp_path, files("emnist-digits", 0))
    write(tmp_path, files("emnist-mnist", 0), gzip.compress, ".gz")
    with refused(
        f"several data sets, emnist-digits, emnist-mnist; name one of them: {tmp_path}/emnist-digits"
    ):
        load(tmp_path)
    data = load(tmp_path / "emnist-mnist")
    assert (data.name, data.classes, data.labels) == ("emnist-mnist", 26, None)
    write(
        tmp_path,
        {name.removeprefix("x-").replace("test", "t10k"): content for name, content in files("x", 0).items()},
    )
    assert len(load(tmp_path).x_train) == 30


def test_kmnist_has_mnists_names(tmp_path):
    for name, content in files("x", 0).items():
        (tmp_path / name.removeprefix("x-").replace("test", "t10k")).write_bytes(content)
    for name in tmp_path.glob("*labels*"):
        name.write_bytes(
            idx(np.arange(COUNTS["test" if "t10k" in name.name else "train"], dtype=np.uint8) % 10)
        )
    data = load("kmnist", data_dir=tmp_path)
    assert (data.name, data.classes, data.input_shape) == ("kmnist", 10, (28, 28, 1))
