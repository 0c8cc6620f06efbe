"""Users' data sets as ``.npz``: how each array is read, and every way in which an archive can be wrong."""

import gzip
import io
import pickle
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest

from fgnumba.datasets import load
from fgnumba.datasets.labels import recoded
from fgnumba.datasets.npz import load_npz
from fgnumba.errors import DatasetError, FgWarning


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


def says_or_not(match, says=True):
    return pytest.warns(FgWarning, match=match) if says else nullcontext()


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
    with says_or_not("divided by 255" if dtype is np.uint8 else "reach 1.*not scaled", dtype is not bool):
        data = load(tmp_path / "mine.npz")
    assert (data.name, data.classes, data.labels) == ("mine.npz", 3, None)
    assert data.input_shape == (features if len(features) != 2 else (*features, 1))
    for key, array in content.items():
        expected = np.float32 if key[0] == "x" else np.int64
        found = getattr(data, key)
        wanted = array.astype(expected).reshape(found.shape)
        if dtype is np.uint8 and key[0] == "x":
            wanted /= np.float32(255)
        np.testing.assert_array_equal(found, wanted, strict=True)


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
    "nan target": (changed("y_train", np.full(6, np.nan)), r"y_train\[0, 0\] is nan; finite targets"),
    "targets of rank 3": (
        changed("y_train", np.zeros((6, 1, 1))),
        r"y_train has shape \(6, 1, 1\); real targets",
    ),
    "real test targets": (
        changed("y_test", np.zeros(4)),
        "y_train is int64 and y_test float32; the same kind",
    ),
    "text and numbers": (
        changed("y_test", np.full(4, "a")),
        "y_train is int64 and y_test <U1; the same kind",
    ),
    "complex labels": (changed("y_train", np.zeros(6, complex)), "complex128; real numbers or text"),
    "no text": (
        lambda content: content | {"y_train": np.full(6, b"\xff"), "y_test": np.full(4, b"a")},
        "labels are bytes that are no UTF-8 text",
    ),
    "vast names": (
        lambda content: (
            content
            | {
                key: np.array([str(n) * 50_000 for n in range(len(content[key]))])
                for key in ("y_train", "y_test")
            }
        ),
        "characters together; at most 262144",
    ),
    "no labels": (changed("y_train", np.zeros(0, int)), r"y_train has shape \(0,\)"),
    "one-hot labels": (changed("y_train", np.eye(6, dtype=int)), r"y_train has shape \(6, 6\)"),
    "negative label": (with_value("y_test", 2, -3), r"y_test\[2\] is -3; labels are 0 to"),
    "unknown labels": (with_value("y_train", 1, -1), r"y_train\[1\] is -1; labels are 0 to"),
    "identifiers": (with_value("y_train", 1, 10**12), r"y_train\[1\] is 1000000000000; labels are 0 to"),
    "unsigned": (changed("y_test", np.full(4, 2**64 - 1, np.uint64)), r"y_test\[0\] is 18446744073709551615"),
    "counts": (changed("y_train", np.zeros(7, int)), "x_train has 6 examples and y_train 7 labels"),
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


def saved(path, **changes):
    np.savez(path / "mine.npz", **arrays() | changes)
    return path / "mine.npz"


def test_bytes_of_small_numbers_are_no_pixels(tmp_path):
    x = np.full((6, 5), 16, np.uint8)
    data = load(saved(tmp_path, x_train=x, x_test=x[:4]))
    assert float(data.x_train.max()) == 16


def test_images_of_bytes_are_scaled(tmp_path):
    x = np.arange(6 * 784, dtype=np.uint8).reshape(6, 28, 28)
    with pytest.warns(FgWarning, match="features are bytes up to 255; they are divided by 255"):
        data = load(saved(tmp_path, x_train=x, x_test=x[:4]))
    assert data.input_shape == (28, 28, 1)
    np.testing.assert_array_equal(data.x_test, x[:4, ..., None] / np.float32(255), strict=True)


def test_features_of_a_huge_scale_are_named(tmp_path):
    x = np.zeros((6, 5), np.float32)
    x[3, 1] = -50_000
    with pytest.warns(FgWarning, match=r"mine\.npz: the features reach 5e\+04 and are not scaled"):
        data = load(saved(tmp_path, x_train=x))
    np.testing.assert_array_equal(data.x_train, x)


@pytest.mark.parametrize(("shape", "first"), [((3, 8, 8), True), ((1, 28, 28), True), ((3, 4, 4), False)])
def test_channels_that_come_first_are_named(tmp_path, shape, first):
    x = np.zeros((6, *shape), np.float32)
    with says_or_not("do the channels come first", first):
        data = load(saved(tmp_path, x_train=x, x_test=x[:4]))
    assert data.input_shape == shape


LABELS = {
    "gaps": ([1, 5, 9, 9, 5, 1], [1, 5, 9, 1], "labels are 1, 5, 9; they become the classes 0 to 2"),
    "from 1": ([1, 2, 3, 1, 2, 3], [3, 2, 1, 1], "labels are 1, 2, 3"),
    "signs": ([-1, 1, 1, -1, 1, 1], [-1, -1, 1, 1], "labels are -1, 1"),
    "text": (list("catcat"), list("catc"), "labels are 'a', 'c', 't'"),
    "bytes": ([b"x", b"y"] * 3, [b"x", b"y"] * 2, "labels are 'x', 'y'"),
    "years": (
        list(range(1990, 1996)),
        [1990, 1991, 1992, 1993],
        "labels are 1990, 1991, 1992, 1993, 1994, 1995",
    ),
}


@pytest.mark.parametrize(("train", "test", "match"), LABELS.values(), ids=LABELS)
def test_labels_that_are_no_classes_are_encoded(tmp_path, train, test, match):
    with pytest.warns(FgWarning, match=match):
        data = load(saved(tmp_path, y_train=np.array(train), y_test=np.array(test)))
    text = [name.decode() if isinstance(name, bytes) else name for name in train]
    assert data.labels == tuple(sorted(set(text)))
    assert data.classes == len(data.labels)
    assert [data.labels[index] for index in data.y_train] == text
    assert all(type(name) in (int, str) for name in data.labels)


def test_classes_without_an_example_are_named(tmp_path):
    with pytest.warns(FgWarning, match="2 of 5 classes have no training example: 1, 3; the model is given"):
        data = load(saved(tmp_path, y_train=np.array([0, 2, 4, 0, 2, 4])))
    assert (data.classes, data.labels) == (5, None)
    names = np.array(list("aabbaa"))
    with pytest.warns(FgWarning) as caught:
        load(saved(tmp_path, y_train=names, y_test=np.array(list("abca"))))
    assert "1 of 3 class has no training example: 'c'" in str(caught[1].message)


def test_many_names_are_shortened(tmp_path):
    y = np.arange(1, 201)
    x = np.zeros((200, 2), np.float32)
    with pytest.warns(FgWarning, match=r"labels are 1, 2, 3, 4, 5, … 200 .200 in all.; they"):
        load(saved(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("targets", [(), (1,), (3,)])
def test_real_targets(tmp_path, dtype, targets):
    y = np.random.default_rng(0).standard_normal((10, *targets)).astype(dtype)
    data = load(saved(tmp_path, y_train=y[:6], y_test=y[6:]))
    assert (data.classes, data.outputs) == (None, 1 if not targets else targets[0])
    np.testing.assert_array_equal(data.y_train, y[:6].reshape(6, -1).astype(np.float32), strict=True)
    np.testing.assert_array_equal(data.y_test, y[6:].reshape(4, -1).astype(np.float32), strict=True)


def test_whole_numbers_as_real_targets_are_named(tmp_path):
    with pytest.warns(FgWarning, match="y_train is floating-point, so its 3 values are real targets"):
        data = load(saved(tmp_path, y_train=np.array([0.0, 1, 2, 0, 1, 2])))
    assert data.classes is None


def test_flags_are_classes(tmp_path):
    data = load(saved(tmp_path, y_train=np.array([True, False] * 3), y_test=np.array([True, False] * 2)))
    assert (data.classes, data.labels, data.y_train.tolist()) == (2, None, [1, 0, 1, 0, 1, 0])


def test_as_earlier_versions_read_it(tmp_path):
    x = np.full((6, 5), 255, np.uint8)
    path = saved(
        tmp_path, x_train=x, x_test=x[:4], y_train=np.array([1, 5, 9, 1, 5, 9]), y_test=np.array([1, 5, 9, 1])
    )
    data = load_npz(path, as_stored=True)
    assert (data.classes, float(data.x_train.max()), data.y_test.tolist()) == (10, 255.0, [1, 5, 9, 1])
    with pytest.raises(DatasetError, match="y_train is float32, y_test int64; integer labels"):
        load_npz(saved(tmp_path, y_train=np.zeros(6)), as_stored=True)


def test_classes_of_a_model_for_another_file(tmp_path):
    with pytest.warns(FgWarning):
        data = load(saved(tmp_path, y_train=np.array(list("cacaca")), y_test=np.array(list("caca"))))
    again = recoded(data, ("a", "b", "c"))
    assert (again.classes, again.labels, again.y_train.tolist()) == (3, ("a", "b", "c"), [2, 0, 2, 0, 2, 0])
    assert recoded(data, ("a", "c")) is data
    with pytest.raises(
        DatasetError, match="the label 'c' is none of those that the model was trained on, 'a', 'b'"
    ):
        recoded(data, ("a", "b"))
    plain = load(saved(tmp_path))
    assert recoded(plain, None) is plain
    assert recoded(plain, (0, 1, 2, 7)).y_test.tolist() == plain.y_test.tolist()
    with pytest.raises(DatasetError, match="the label 0 is none of those"):
        recoded(plain, ("0", "1", "2"))
