"""`fgtrain predict`: shapes and dtypes of inputs, CSV files, labels."""

import csv
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.layers.probabilities import softmax
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
    config = SimpleNamespace(data=data, target=None)
    run: Any = SimpleNamespace(model=SimpleNamespace(input_shape=(2,)), config=config, facts={})
    np.save(tmp_path / "x.npy", np.array([[0, 8]], np.uint8))
    expected = np.array([[0, np.float32(8) / np.float32(scale)]], np.float32)
    np.testing.assert_array_equal(read_examples(tmp_path / "x.npy", run), expected)


@pytest.mark.parametrize(("largest", "divisor"), [(255, 255), (100, 1)])
def test_bytes_are_divided_as_the_bytes_of_the_runs_archive_were(fgtrain, folder, largest, divisor):
    generator = np.random.default_rng(0)
    x = generator.integers(0, largest, (40, 4, 4), np.uint8, endpoint=True)
    x[0, 0, 0] = largest
    y = np.arange(40) % 2
    np.savez(folder / "bytes.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    assert (
        fgtrain(
            *("train", "--data", "bytes.npz", "--widths", 4, "--steps", 3, "--out", "run", "--quiet")
        ).code
        == 0
    )
    assert f"divisor = {divisor}\n" in (folder / "run" / "config.toml").read_text(encoding="utf-8")
    np.save(folder / "x.npy", x[:9])
    np.save(folder / "real.npy", x[:9, ..., None].astype(np.float32) / np.float32(divisor))
    for inputs, output in (("x.npy", "p.npy"), ("real.npy", "q.npy")):
        assert fgtrain("predict", "run", inputs, "--output", output).code == 0
    np.testing.assert_array_equal(np.load(folder / "p.npy"), np.load(folder / "q.npy"))
    expected = fg.load(folder / "run")(fg.datasets.load(folder / "bytes.npz").x_test)
    np.testing.assert_array_equal(np.load(folder / "p.npy"), softmax(np.asarray(expected)))
    text = (folder / "run" / "config.toml").read_text(encoding="utf-8")
    (folder / "run" / "config.toml").write_text(text.replace(f"divisor = {divisor}", "divisor = 0"))
    assert "divisor is 0; 1 or 255 is required" in fgtrain("predict", "run", "x.npy").error


def test_pixels_that_were_not_divided_are_noticed(fgtrain, folder, finished, images):
    np.save(folder / "x.npy", images * 16)
    done = fgtrain("predict", finished, "x.npy")
    assert done.code == 0
    assert "x.npy: the features reach 16; those that the model was trained on are from 0 to 1" in done.err


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


def test_labels_of_an_example_have_probabilities_of_their_own():
    outputs = np.array([[0.0, -1000.0, 2.0], [3.0, 3.0, -1.0]], np.float32)
    run: Any = SimpleNamespace(config=SimpleNamespace(loss="binary-cross-entropy"), model=lambda x: outputs)
    values = prediction.predicted(run, outputs)
    # 1 / (1 + exp(-z)), in float64.
    expected = [[0.5, 0.0, 0.8807970779778823], [0.9525741268224334, 0.9525741268224334, 0.2689414213699951]]
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    assert prediction.answers(run, values) == ["0 0 1", "1 1 0"]
