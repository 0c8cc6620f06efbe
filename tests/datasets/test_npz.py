"""Users' data sets as ``.npz``: how each array is read, and every way in which an archive can be wrong."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

from fgnumba.datasets import load
from fgnumba.errors import DatasetError


def arrays(features=(5,), train=6, test=4, classes=3):
    generator = np.random.default_rng(0)
    return {
        "x_train": generator.random((train, *features), np.float32),
        "y_train": np.arange(train) % classes,
        "x_test": generator.random((test, *features), np.float32),
        "y_test": np.arange(test) % classes,
    }


def changed(key, value):
    return lambda content: content | {key: value}


def with_value(key, index, value):
    def change(content):
        array = content[key].copy()
        array[index] = value
        return content | {key: array}

    return change


def refuse(path, match):
    with pytest.raises(DatasetError, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value) or "mine.npz: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, ">f4", bool])
@pytest.mark.parametrize("label_dtype", [np.uint8, np.int64, np.uint64, ">i2"])
@pytest.mark.parametrize("features", [(5,), (4, 3), (4, 3, 2)])
def test_npz(tmp_path, dtype, label_dtype, features):
    content = arrays(features)
    content = {
        key: (200 * array).astype(dtype) if key[0] == "x" else array.astype(label_dtype)
        for key, array in content.items()
    }
    np.savez(tmp_path / "mine.npz", **content, extra=np.zeros(3))
    data = load(tmp_path / "mine.npz")
    assert (data.name, data.classes) == ("mine.npz", 3)
    assert data.input_shape == (features if len(features) != 2 else (*features, 1))
    for key, array in content.items():
        expected = np.float32 if key[0] == "x" else np.int64
        found = getattr(data, key)
        np.testing.assert_array_equal(found, array.astype(expected).reshape(found.shape), strict=True)


def test_npz_path_forms(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "mine.npz", **arrays())
    (tmp_path / "mine.npz").rename(tmp_path / "mine.NPZ")
    monkeypatch.chdir(tmp_path)
    assert load("mine.NPZ").name == load(str(tmp_path / "mine.NPZ")).name == "mine.NPZ"


BAD_NPZ = {
    "missing": (lambda content: {"x_train": content["x_train"]}, "no y_train, x_test, y_test; x_train, "),
    "pickled": (changed("y_test", np.array([0, None, 1, 2], object)), "y_test is a pickled array"),
    "strings": (changed("x_train", np.full((6, 5), "a")), "x_train is <U1; real numbers"),
    "complex": (changed("x_test", np.zeros((4, 5), complex)), "x_test is complex128; real numbers"),
    "dates": (changed("x_test", np.zeros((4, 5), "M8[s]")), r"x_test is datetime64\[s\]; real numbers"),
    "nan": (with_value("x_train", (1, 2), np.nan), r"x_train\[1, 2\] is nan; finite"),
    "overflow": (changed("x_test", np.full((4, 5), 1e39)), r"x_test\[0, 0\] is 1e\+39; finite float32"),
    "rank 1": (changed("x_train", np.zeros(6)), r"x_train has shape \(6,\)"),
    "rank 5": (changed("x_train", np.zeros((6, 1, 1, 1, 1))), r"x_train has shape \(6, 1, 1, 1, 1\)"),
    "empty": (changed("x_train", np.zeros((0, 5))), "x_train is empty"),
    "float labels": (changed("y_train", np.zeros(6)), "y_train is float64; integer labels"),
    "bool labels": (changed("y_train", np.zeros(6, bool)), "y_train is bool; integer labels"),
    "no labels": (changed("y_train", np.zeros(0, int)), r"y_train has shape \(0,\)"),
    "one-hot labels": (changed("y_train", np.eye(6, dtype=int)), r"y_train has shape \(6, 6\)"),
    "negative label": (with_value("y_test", 2, -3), r"y_test\[2\] is -3; labels are 0 to"),
    "identifiers": (with_value("y_train", 1, 10**12), r"y_train\[1\] is 1000000000000; labels are 0 to"),
    "unsigned": (changed("y_test", np.full(4, 2**64 - 1, np.uint64)), r"y_test\[0\] is 18446744073709551615"),
    "counts": (changed("y_train", np.zeros(7, int)), "x_train has 6 samples and y_train 7 labels"),
    "sample shapes": (changed("x_test", np.zeros((4, 6))), r"has shape \(5,\) and one of x_test \(6,\)"),
}


@pytest.mark.parametrize(("change", "match"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz(tmp_path, change, match):
    np.savez(tmp_path / "mine.npz", **change(arrays()))
    refuse(tmp_path / "mine.npz", f"mine.*{match}")


def member(array, shape=None):
    """Make an .npy file whose header may claim another shape."""
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    return content if shape is None else content.replace(b"(6, 5), }", f"{shape}, }}".encode())


def archive(path, **members):
    stored = {key: member(array) for key, array in arrays().items()} | members
    with zipfile.ZipFile(path, "w") as file:
        for key, content in stored.items():
            file.writestr(f"{key}.npy", content)


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "no directory": lambda content: content[:-30],
    "flipped": lambda content: content[:200] + bytes(b ^ 0xFF for b in content[200:260]) + content[260:],
    "text": lambda content: b"x_train,y_train\n1,2\n",
    "pickle": lambda content: pickle.dumps(arrays()),
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_npz(tmp_path, damage):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays())
    path.write_bytes(damage(path.read_bytes()))
    refuse(path, r"mine\.npz: not an \.npz archive, or a damaged one")


def test_npz_members_that_lie(tmp_path):
    path = tmp_path / "mine.npz"
    features = np.zeros((6, 5), np.float32)
    archive(path, x_train=member(features, shape=(1 << 20, 1 << 18)))
    refuse(path, "x_train is damaged: its header claims")
    archive(path, x_train=member(features, shape=(1 << 62, 5)))
    refuse(path, "x_train is damaged: its header claims")
    archive(path, x_train=b"no array")
    refuse(path, "x_train is not a readable .npy array")


def test_npy_for_npz(tmp_path):
    with open(tmp_path / "mine.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refuse(tmp_path / "mine.npz", "holds a single array; an .npz archive")
