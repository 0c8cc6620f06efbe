"""`fgtrain predict`: shapes and dtypes of inputs, CSV files, labels."""

import csv
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.runs import prediction
from fgnumba.runs.inputs import read_examples


@pytest.fixture(scope="module")
def images():
    return fg.datasets.load("digits").x_test[:7]


@pytest.fixture
def answered(fgtrain, folder, finished):
    """Return a function that saves an array and returns what `predict` prints about it."""

    def call(array):
        np.save(folder / "x.npy", array)
        done = fgtrain("predict", finished, "x.npy")
        assert (done.code, done.err) == (0, "")
        return done.out.split()

    return call


def test_shapes_and_bytes_are_those_of_the_data(answered, images):
    expected = answered(images)
    assert len(expected) == 7
    assert answered(images[..., 0]) == expected
    assert answered(images.reshape(7, -1)) == expected
    assert answered((images * 16).astype(np.uint8)) == expected
    assert answered(images.astype(np.float64)) == expected
    for one in (images[3], images[3, ..., 0], images[3].ravel()):
        assert answered(one) == expected[3:4]


@pytest.mark.parametrize(
    ("data", "scale"), [("digits", 16), ("mnist", 255), ("fashion-mnist", 255), ("/somewhere/idx", 255)]
)
def test_bytes_are_scaled_as_in_training(tmp_path, data, scale):
    run: Any = SimpleNamespace(model=SimpleNamespace(input_shape=(2,)), config=SimpleNamespace(data=data))
    np.save(tmp_path / "x.npy", np.array([[0, 8]], np.uint8))
    expected = np.array([[0, np.float32(8) / np.float32(scale)]], np.float32)
    np.testing.assert_array_equal(read_examples(tmp_path / "x.npy", run), expected)


def test_bytes_without_a_known_scale_are_refused(fgtrain, folder, blobs):
    fgtrain("train", "--data", blobs, "--widths", 4, "--steps", 2, "--out", "run", "--quiet")
    np.save(folder / "x.npy", np.zeros((1, 5), np.uint8))
    assert (
        "the data of the run, 'blobs.npz', have a scale of their own"
        in fgtrain("predict", "run", "x.npy").error
    )


@pytest.mark.parametrize("header", ["", ",".join(f"pixel {i}" for i in range(64)) + "\n"])
def test_csv(fgtrain, folder, finished, images, answered, header):
    lines = [",".join(map(repr, map(float, row))) for row in images.reshape(7, -1)]
    (folder / "x.csv").write_text("\ufeff" + header + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")
    assert fgtrain("predict", finished, "x.csv").out.split() == answered(images)
    assert fgtrain("predict", finished, "x.csv", "--output", "p.csv").out == ""
    assert fgtrain("predict", finished, "x.csv", "--output", "p.npy").out == ""
    with (folder / "p.csv").open(encoding="utf-8", newline="") as file:
        first, *rows = csv.reader(file)
    assert first == [str(number) for number in range(10)]
    np.testing.assert_array_equal(np.array(rows, np.float32), np.load(folder / "p.npy"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n1,x\n", "line 2: 'x' is no number"),
        ("1,2\n1\n", "line 2 has 1 numbers; those before it have 2"),
        ("a,b\n", "no line of numbers"),
        ("", "no line of numbers"),
        ("1,2\n", "shape (1, 2); (n, 8, 8, 1) with n >= 1"),
        (",".join(["nan"] * 64), "nan at (0, 0)"),
        ("1" * (1 << 20), "a line has more than 1048575 characters"),
    ],
)
def test_csv_that_is_none(fgtrain, folder, finished, text, message):
    (folder / "x.csv").write_text(text, encoding="utf-8")
    assert message in fgtrain("predict", finished, "x.csv").error


def test_the_input_is_not_overwritten(fgtrain, folder, finished, images):
    np.save(folder / "x.npy", images)
    (folder / "link.npy").symlink_to("x.npy")
    before = (folder / "x.npy").read_bytes()
    for name in ("x.npy", "./x.npy", "link.npy"):
        assert (
            "is the input, which would be overwritten"
            in fgtrain("predict", finished, "x.npy", "--output", name).error
        )
    assert (folder / "x.npy").read_bytes() == before


def test_labels_are_printed(fgtrain, folder, finished, images, answered):
    run = shutil.copytree(finished, folder / "named")
    text = (run / "config.toml").read_text(encoding="utf-8")
    names = [f"digit {number}" for number in range(10)]
    (run / "config.toml").write_text(text.replace("[run]\n", f"[run]\nlabels = {names}\n"), encoding="utf-8")
    expected = [names[int(number)] for number in answered(images)]
    assert fgtrain("predict", run, "x.npy").out.splitlines() == expected
    fgtrain("predict", run, "x.npy", "--output", "p.csv")
    assert (folder / "p.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(names)


def test_a_regression_prints_its_outputs():
    outputs = np.array([[0.5, -2.0], [1e-3, 3.0]], np.float32)
    run: Any = SimpleNamespace(config=SimpleNamespace(loss="mse"), model=lambda x: outputs)
    assert prediction.predicted(run, outputs) is outputs
    assert prediction.answers(run, outputs) == ["0.5 -2", "0.00100000005 3"]
