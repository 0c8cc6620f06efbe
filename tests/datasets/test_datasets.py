"""Data sets: the included one, users' own, downloads (never over the network), and what is refused."""

import gzip
import hashlib
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import platformdirs
import pooch
import pytest
import requests

from fgnumba.datasets import NAMES, Dataset, load, validation_split
from fgnumba.datasets.download import REMOTES, Remote
from fgnumba.errors import ConfigError, DatasetError
from tests import tolerances


def arrays(features=(5,), train=6, test=4, classes=3):
    generator = np.random.default_rng(0)
    return {
        "x_train": generator.random((train, *features), np.float32),
        "y_train": np.arange(train) % classes,
        "x_test": generator.random((test, *features), np.float32),
        "y_test": np.arange(test) % classes,
    }


@contextmanager
def refused(match, error=DatasetError):
    with pytest.raises(error, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("features", [(5,), (4, 3, 2)])
def test_dataset(features):
    data = Dataset("mine", **arrays(features), classes=3)
    assert data.input_shape == features
    assert repr(data) == "Dataset(name='mine', classes=3)"


def changed(key, value):
    return lambda content: content | {key: value}


def with_value(key, index, value):
    def change(content):
        array = content[key].copy()
        array[index] = value
        return content | {key: array}

    return change


BAD_DATASETS = {
    "nan": (with_value("x_train", (2, 3), np.nan), r"mine: x_train\[2, 3\] is nan; .*finite"),
    "inf": (with_value("x_test", (3, 4), -np.inf), r"mine: x_test\[3, 4\] is -inf; .*finite"),
    "negative label": (with_value("y_train", 5, -1), r"y_train\[5\] is -1; labels are 0 to 2"),
    "large label": (with_value("y_test", 1, 3), r"y_test\[1\] is 3; labels are 0 to 2"),
    "float64": (
        changed("x_train", np.zeros((6, 5))),
        "x_train is float64, C-contiguous; C-contiguous float32",
    ),
    "strided": (changed("x_test", np.zeros((5, 4), np.float32).T), "x_test is float32, not C-contiguous"),
    "rank 5": (
        changed("x_train", np.zeros((6, 5, 1, 1, 1), np.float32)),
        r"x_train has shape \(6, 5, 1, 1, 1\)",
    ),
    "list": (changed("x_train", [[0.0]]), "x_train is a list; a NumPy array"),
    "int32 labels": (
        changed("y_train", np.zeros(6, np.int32)),
        r"y_train has shape \(6,\), int32; \(n,\) int64",
    ),
    "label matrix": (changed("y_test", np.zeros((4, 1), np.int64)), r"y_test has shape \(4, 1\)"),
    "counts": (changed("y_test", np.zeros(5, np.int64)), "x_test has 4 examples and y_test 5 labels"),
    "no examples": (
        lambda content: content | {key: content[key][:0] for key in ("x_train", "y_train")},
        r"x_train is empty: shape \(0, 5\)",
    ),
    "no test features": (changed("x_test", None), "x_test and y_test are required, or neither of them"),
    "labels": (changed("labels", ("a", "b")), r"labels are \('a', 'b'\); 3 different ones are required"),
    "equal labels": (changed("labels", ("a", "b", "b")), "3 different ones are required"),
    "real targets with classes": (
        changed("y_train", np.zeros((6, 1), np.float32)),
        r"\(n,\) int64, or \(n, L\) of sequences, is required",
    ),
    "labels without classes": (
        changed("classes", None),
        r"y_train has shape \(6,\), int64; \(n, N\) float32",
    ),
    "no features": (changed("x_test", np.zeros((4, 0), np.float32)), r"x_test is empty: shape \(4, 0\)"),
    "sample shapes": (
        changed("x_test", np.zeros((4, 6), np.float32)),
        r"has shape \(5,\) and one of x_test \(6,\)",
    ),
    "classes": (changed("classes", 0), "classes is 0; a whole number of at least 1"),
}


@pytest.mark.parametrize(("change", "match"), BAD_DATASETS.values(), ids=BAD_DATASETS)
def test_bad_dataset(change, match):
    with refused(match):
        Dataset("mine", **change(arrays() | {"classes": 3}))


def test_digits_are_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets").load_digits()
    data = load("digits")
    assert (data.name, data.classes, data.input_shape) == ("digits", 10, (8, 8, 1))
    assert (len(data.x_train), len(data.x_test)) == (1438, 359)

    def rows(images, labels):
        flat = np.column_stack([images.reshape(len(images), 64), labels])
        return flat[np.lexsort(flat.T)]

    ours = rows(np.concatenate([data.x_train, data.x_test]) * 16, np.concatenate([data.y_train, data.y_test]))
    np.testing.assert_array_equal(ours, rows(original.images, original.target))


def test_digits_never_change():
    data = load("digits")
    digest = hashlib.sha256()
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == "db1f300b9a6898f7e098a4ca74492099d2f9c3cfdbed4816753fdd1ff4e53930"
    shares = np.bincount(data.y_test) / (np.bincount(data.y_train) + np.bincount(data.y_test))
    tolerances.SPLIT_SHARE.check(shares, 0.2)


def test_unknown_name():
    with refused(r"no data set is called 'mnits' .did you mean 'mnist'"):
        load("mnits")
    with refused(f"no data set is called '' .choose from {', '.join(sorted(NAMES))}"):
        load("")
    with refused("no data set is called"):
        load("x" * 10_000)


def test_paths_that_lead_nowhere(tmp_path):
    with refused(r"absent\.npz: no such file or folder"):
        load("absent.npz")
    with refused("absent: no such file or folder"):
        load(tmp_path / "absent")
    (tmp_path / "data.json").write_text("1,2")
    with refused(r"data\.json: neither an \.npz file nor a folder"):
        load(tmp_path / "data.json")
    with refused("no file train-images-idx3-ubyte"):
        load(tmp_path)
    with refused("absent: no file train-images-idx3-ubyte"):
        load("mnist", data_dir=tmp_path / "absent")


def test_data_dir_of_what_has_none(tmp_path):
    with refused("data_dir applies to mnist, fashion-mnist, kmnist, emnist-letters, cifar-10; 'digits'"):
        load("digits", data_dir=tmp_path)


def test_import_brings_no_downloader():
    command = "import sys, fgnumba.datasets; sys.exit('pooch' in sys.modules or 'requests' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", command], check=True)


class Web:
    """Stands in for the network: what each host serves, and every address that was asked for."""

    def __init__(self):
        self.files = {}
        self.hosts = {}
        self.asked = []

    def download(self, url, output_file, pooch):
        self.asked.append(url)
        host, _, file = url.removeprefix("https://").partition("/")
        served = self.hosts.get(host)
        if served is None:
            raise requests.exceptions.ConnectionError(f"Max retries exceeded\nwith url: {url}")
        if file not in served:
            response = requests.Response()
            response.status_code, response.url = 404, url
            response.raise_for_status()
        with open(output_file, "wb") as target:
            target.write(served[file])


@pytest.fixture
def web(monkeypatch, tmp_path):
    """Give a small MNIST two mirrors, one.org and two.org, both of them down, and an empty cache."""
    web = Web()
    labels = np.array([0, 9], np.uint8)
    contents = {"idx3": bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 255])}
    contents["idx1"] = bytes([0, 0, 8, 1, 0, 0, 0, 2]) + labels.tobytes()
    web.files = {name: gzip.compress(contents[name[-13:-9]]) for name in REMOTES["mnist"].checksums}
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in web.files.items()}
    monkeypatch.setitem(REMOTES, "mnist", Remote(("https://one.org/", "https://two.org/"), checksums))
    monkeypatch.setattr(
        pooch.HTTPDownloader,
        "__call__",
        lambda self, url, output_file, pooch: web.download(url, output_file, pooch),
    )
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *args, **options: tmp_path / "cache")
    return web


def test_downloads_once(web, tmp_path):
    web.hosts["one.org"] = web.files
    assert load("mnist").x_train.ravel().tolist() == [0.0, 1.0]
    assert web.asked == [f"https://one.org/{name}" for name in web.files]
    assert {path.name for path in (tmp_path / "cache" / "mnist").iterdir()} == set(web.files)
    web.hosts.clear()
    assert load("mnist").y_test.tolist() == [0, 9]
    assert len(web.asked) == 4


def test_second_mirror(web):
    web.hosts["two.org"] = web.files
    assert load("mnist").classes == 10
    assert len(web.asked) == 8


def test_wrong_checksum_is_a_failure(web, tmp_path):
    web.hosts["one.org"] = dict.fromkeys(web.files, b"captive portal")
    with refused("one.org: the file's checksum is not the published one; two.org: ConnectionError"):
        load("mnist")
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_damaged_cache_is_replaced(web, tmp_path):
    web.hosts["one.org"] = web.files
    load("mnist")
    name = next(iter(web.files))
    (tmp_path / "cache" / "mnist" / name).write_bytes(b"damaged")
    assert len(load("mnist").x_train) == 2
    assert web.asked[4:] == [f"https://one.org/{name}"]


def test_no_network(web):
    with refused(
        r"^mnist: train-images-idx3-ubyte\.gz could not be downloaded "
        r"\(one\.org: ConnectionError; two\.org: ConnectionError\); give the "
        r"folder that holds the four IDX files as data_dir \(--data-dir\)$"
    ):
        load("mnist")


def test_http_status(web):
    web.hosts["one.org"] = {}
    with refused("one.org: HTTP status 404; two.org: ConnectionError"):
        load("mnist")


def test_cache_that_cannot_be_written(web, tmp_path):
    web.hosts["one.org"] = web.files
    (tmp_path / "cache").write_text("a file where the folder would be")
    with refused("could not be downloaded"):
        load("mnist")


def test_remotes():
    assert NAMES == ("digits", "mnist", "fashion-mnist", "kmnist", "emnist-letters", "cifar-10")
    for name, remote in REMOTES.items():
        assert len(remote.mirrors) == 2
        assert all(mirror.endswith("/") for mirror in remote.mirrors)
        assert len(remote.checksums) == (4 if name.endswith("mnist") else 1)
        assert all(len(bytes.fromhex(checksum)) == 32 for checksum in remote.checksums.values())


def test_validation_split():
    data = load("digits")
    split = validation_split(data, 0.25, seed=1)
    assert (split.name, split.classes, split.input_shape) == ("digits-validation", 10, (8, 8, 1))
    assert len(split.x_test) == round(0.25 * len(data.x_train))
    tolerances.SPLIT_COUNT.check(np.bincount(split.y_test), 0.25 * np.bincount(data.y_train))
    together = np.concatenate([split.x_train, split.x_test]).reshape(len(data.x_train), -1)
    original = data.x_train.reshape(len(data.x_train), -1)
    np.testing.assert_array_equal(together[np.lexsort(together.T)], original[np.lexsort(original.T)])


def test_validation_split_follows_its_seed():
    data = load("digits")
    first, again, other = (validation_split(data, 0.2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)


def test_validation_split_leaves_every_class_something_to_train_on():
    data = Dataset("mine", **arrays(train=7, classes=3), classes=4)
    split = validation_split(data, 0.99, seed=0)
    assert np.bincount(split.y_train).tolist() == [1, 1, 1]
    assert np.bincount(split.y_test).tolist() == [2, 1, 1]


def test_validation_split_of_too_little():
    data = Dataset("mine", **arrays(train=3, classes=3), classes=3)
    with refused("mine: 0.5 of 3 training examples leave none to validate on"):
        validation_split(data, 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, np.nan, "0.1", None, True])
def test_bad_fraction(fraction):
    with refused("fraction is .*; a number between 0 and 1 is required", ConfigError):
        validation_split(load("digits"), fraction, seed=0)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_bad_seed(seed):
    with refused(r"seed is .*; a whole number, 0 or above and below 2\*\*64, is required", ConfigError):
        validation_split(load("digits"), 0.1, seed=seed)
