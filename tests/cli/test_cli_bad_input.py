"""Bad input on the command line: exit status 2, one line on standard error, and nothing is left behind."""

import gzip
import os
import shutil
import struct
from typing import Any

import numpy as np
import pytest

from tests.conftest import SMALL_RUN


def snapshot(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


@pytest.fixture
def refused(fgtrain, folder):
    """Return a function that runs a command which must fail, and returns its error."""

    def call(*arguments):
        before = snapshot(folder)
        error = fgtrain(*arguments).error
        assert snapshot(folder) == before
        return error

    return call


# Data sets.


def save(folder, **arrays):
    base: dict[str, Any] = {
        "x_train": np.zeros((6, 4), np.float32),
        "y_train": np.arange(6) % 2,
        "x_test": np.zeros((4, 4), np.float32),
        "y_test": np.arange(4) % 2,
    }
    base.update(arrays)
    np.savez(folder / "data.npz", **{k: v for k, v in base.items() if v is not None})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.full((6, 4), np.nan, np.float32)}, "x_train[0, 0] is nan"),
        ({"x_test": np.full((4, 4), np.inf, np.float32)}, "x_test[0, 0] is inf"),
        ({"y_train": np.array([0, 1, -1, 0, 1, 0])}, "y_train[2] is -1"),
        ({"y_train": np.arange(5) % 2}, "6 examples and y_train 5 labels"),
        ({"y_test": None}, "y_test"),
        ({"x_test": np.zeros((4, 3), np.float32)}, "must be the same"),
        ({"y_train": np.array([{}] * 6, dtype=object)}, "y_train"),
        ({"x_train": np.zeros((0, 4), np.float32), "y_train": np.zeros(0, np.int64)}, "at least one label"),
    ],
)
def test_impossible_npz(refused, folder, arrays, message):
    save(folder, **arrays)
    error = refused("train", "--data", "data.npz", *SMALL_RUN)
    assert "data.npz" in error
    assert message in error


def test_unreadable_npz(refused, folder):
    (folder / "data.npz").write_bytes(b"PK\x03\x04 and then nothing")
    assert "data.npz" in refused("train", "--data", "data.npz")
    (folder / "data.npz").write_bytes(b"")
    assert "data.npz" in refused("train", "--data", "data.npz")


def idx(array):
    return (
        struct.pack(">BBBB", 0, 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_idx(folder):
    for part, n in (("train", 8), ("t10k", 4)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 28, 28), np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(n) % 10).astype(np.uint8)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-1]),
        ("train-images-idx3-ubyte", lambda data: data[:10]),
        ("train-images-idx3-ubyte", lambda data: b"\xff" + data[1:]),
        ("t10k-labels-idx1-ubyte", lambda data: idx(np.zeros(3, np.uint8))),
        ("train-labels-idx1-ubyte", lambda data: data[:-1] + b"\x0a"),
        ("train-labels-idx1-ubyte", lambda data: b""),
        ("t10k-images-idx3-ubyte", lambda data: gzip.compress(data)[:-9]),
        ("t10k-images-idx3-ubyte", None),
    ],
)
def test_damaged_idx_files(refused, folder, name, change):
    source = folder / "idx"
    source.mkdir()
    write_idx(source)
    path = source / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    error = refused("train", "--data", "mnist", "--data-dir", "idx", *SMALL_RUN)
    assert name.split("-idx")[0] in error or "labels" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "digts"], "did you mean 'digits'"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--model", "logerg"], "did you mean 'logreg'"),
        (["--model", "none.toml"], "none.toml: No such file or directory"),
        (["--model", "logreg", "--widths", "3"], "widths: model 'logreg' has no hidden layers"),
        (["--model", "own.toml", "--widths", "3"], "widths: model 'own.toml' has its own layers"),
        (["--widths", "3,x"], "'3,x' is not a list of whole numbers"),
        (["--widths", "0"], "widths[0] is 0"),
        (["--estimator", "weight-pertubation"], "did you mean 'weight-perturbation'"),
        (["--direction", "rank2"], "did you mean 'rank1'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--device", "cuda"], "'cuda' is not available"),
        (["--lerning-rate", "1"], "--learning-rate"),
        (["--steps"], "requires an argument"),
        (["stray"], "unexpected extra argument (stray)"),
        (["--steps", "0"], "steps is 0"),
        (["--steps", "-3"], "steps is -3"),
        (["--steps", "2.5"], "'2.5' is not a valid integer"),
        (["--epochs", "0"], "epochs is 0"),
        (["--epochs", "1", "--steps", "1"], "epochs and steps are both given"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--directions", "0"], "directions is 0"),
        (["--directions", "99999999999"], "directions is 99999999999"),
        (["--learning-rate", "0"], "learning_rate is 0.0"),
        (["--learning-rate", "-1"], "learning_rate is -1.0"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--learning-rate", "inf"], "learning_rate is inf"),
        (["--decay", "-1"], "decay is -1.0"),
        (["--momentum", "1"], "momentum is 1.0"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", "18446744073709551616"], "seed is 18446744073709551616"),
        (["--config", "none.toml"], "none.toml: No such file or directory"),
    ],
)
def test_impossible_options(refused, options, message):
    assert message in refused("train", *options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate = 1.0", "unknown key 'lerning_rate' (did you mean 'learning_rate'?)"),
        ("[training]\nsteps = 1", "unknown key 'training'"),
        ("steps = [1]", "steps is [1]"),
        ("steps = true", "steps is True"),
        ('learning_rate = "big"', "learning_rate is 'big'"),
        ("model = 3", "model is 3"),
        ("widths = 3", "widths is 3; a list is required"),
        ("steps = 1\nepochs = 1", "both given"),
        ("steps = ", "settings.toml: "),
        ('layers = ["dense"]', "layers[0] is 'dense'; a table is required"),
    ],
)
def test_impossible_settings(refused, folder, text, message):
    (folder / "settings.toml").write_text(text)
    assert message in refused("train", "--config", "settings.toml")


def test_settings_that_are_no_text(refused, folder):
    (folder / "settings.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused("train", "--config", "settings.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "[[layers]] is missing"),
        ("lr = 1", "unknown key 'lr'"),
        ("[[layers]]\nunits = 3", "type is None"),
        ('[[layers]]\ntype = "dens"\nunits = 3', "did you mean 'dense'"),
        ('[[layers]]\ntype = "dense"', "layers[0]: units is missing"),
        ('[[layers]]\ntype = "dense"\nunits = "ten"', "units is 'ten'"),
        ('[[layers]]\ntype = "dense"\nunits = 10\nbiass = true', "did you mean 'bias'"),
        ('[[layers]]\ntype = "dense"\nunits = 10\nactivation = "rleu"', "did you mean 'relu'"),
        ('[[layers]]\ntype = "flatten"\n[[layers]]\ntype = "dense"\nunits = 9', "one number a class"),
        ('[[layers]]\ntype = "dense"\nunits = 10', "(8, 8, 1)"),
    ],
)
def test_impossible_models(refused, folder, text, message):
    (folder / "net.toml").write_text(text)
    assert message in refused("train", "--model", "net.toml")


def test_a_destination_that_is_taken(refused, folder, finished):
    (folder / "file").write_text("kept")
    assert "file is a file" in refused("train", "--out", "file")
    assert "is a file; file/run cannot be below it" in refused("train", "--out", "file/run")
    (folder / "full").mkdir()
    (folder / "full" / "kept").write_text("kept")
    assert "full is not empty" in refused("train", "--out", "full")
    shutil.copytree(finished, folder / "run")
    assert "run holds another run" in refused("train", "--out", "run")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser writes anywhere")
def test_a_destination_that_cannot_be_written(refused, folder):
    (folder / "locked").mkdir(mode=0o500)
    assert "locked is not writable" in refused("train", "--out", "locked/run")


# Run folders.


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_no_run_folder(refused, folder, command):
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    (folder / "empty").mkdir()
    extra = ["x.npy"] if command == "predict" else []
    assert "no such folder" in refused(command, "none", *extra)
    assert "not a folder" in refused(command, "x.npy", *extra)
    assert "empty is not a run folder: config.toml is missing" in refused(command, "empty", *extra)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.toml", lambda d: b"", "damaged"),
        ("config.toml", lambda d: d.replace(b"directions", b"direct1ons"), "unknown key 'direct1ons'"),
        ("config.toml", lambda d: d.replace(b"[run]", b"[other]"), "unknown key 'other'"),
        ("config.toml", lambda d: d.replace(b"units = 1024", b"units = 1023", 1), "(64, 1024); (64, 1023)"),
        ("model.safetensors", lambda d: d[:-4], "model.safetensors is damaged"),
        ("model.safetensors", lambda d: b"", "model.safetensors is damaged"),
        ("model.safetensors", lambda d: d.replace(b"1.bias", b"9.bias"), "unknown name '9.bias'"),
        ("model.safetensors", lambda d: d[:-4] + np.float32(np.nan).tobytes(), "is not finite"),
        ("metrics.jsonl", lambda d: b"{}\n", "metrics.jsonl is damaged"),
        ("metrics.jsonl", lambda d: d[:-9], "metrics.jsonl is damaged"),
        ("model.safetensors", None, "model.safetensors is missing"),
    ],
)
def test_damaged_run_folders(refused, folder, finished, name, change, message):
    shutil.copytree(finished, folder / "run")
    path = folder / "run" / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    assert message in refused("evaluate", "run")


def test_data_that_do_not_fit_the_run(refused, folder, finished):
    save(folder)
    assert "examples have shape (4,) and 2 classes" in refused("evaluate", finished, "--data", "data.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 63), np.float32), "shape (2, 63); (n, 8, 8, 1) with n >= 1"),
        (np.zeros((0, 64), np.float32), "n >= 1"),
        (np.float32(0), "shape ()"),
        (np.full((1, 64), np.nan), "nan at (0, 0)"),
        (np.zeros((1, 64), np.int64), "dtype int64; floating-point features"),
        (np.array([{}]), "a pickled array of Python objects"),
    ],
)
def test_inputs_that_do_not_fit_the_run(refused, folder, finished, array, message):
    np.save(folder / "x.npy", array, allow_pickle=True)
    assert message in refused("predict", finished, "x.npy", "--output", "p.npy")


def test_inputs_that_are_no_array(refused, folder, finished):
    assert "none.npy: No such file" in refused("predict", finished, "none.npy")
    (folder / "x.npy").write_bytes(b"not an array")
    assert "x.npy: not a readable .npy array" in refused("predict", finished, "x.npy")
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    assert "no/p.npy" in refused("predict", finished, "x.npy", "--output", "no/p.npy")


def test_commands_that_are_none(refused):
    assert refused("trian") == "unknown command 'trian' (did you mean 'train'?)"
    assert "RUN" in refused("evaluate")
    assert "INPUT.npy" in refused("predict", "run")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[{type = []}]", "type is []"),
        ('[{type = "dense", units = 10, activation = ["relu"]}]', "unknown activation ['relu']"),
        ('[{type = "dense", units = 1000000000000}]', "units is 1000000000000; a whole number from 1 to"),
        (
            '[{type = "dense", units = 100000000000000000000}]',
            "units is 100000000000000000000; a whole number from 1 to",
        ),
    ],
)
def test_layers_of_impossible_kinds_and_sizes(refused, folder, layers, message):
    (folder / "settings.toml").write_text(f"layers = {layers}")
    assert message in refused("train", "--config", "settings.toml")


def test_paths_that_are_none(refused, folder):
    (folder / "settings.toml").write_text('model = "a\\u0000.toml"')
    assert "null" in refused("train", "--config", "settings.toml")
    assert "--out is empty" in refused("train", "--out", "")
    assert "settings.toml" in refused("train", "--out", "settings.toml")
    assert "data is ''" in refused("train", "--data", "")


def test_the_current_folder_as_destination(refused):
    assert "the current folder" in refused("train", "--out", ".")


def test_inputs_that_float32_cannot_hold(refused, folder, finished):
    np.save(folder / "x.npy", np.full((1, 64), 1e39))
    assert "1e+39 at (0, 0); every feature must be a finite float32" in refused("predict", finished, "x.npy")


def test_inputs_whose_header_lies(refused, folder, finished):
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(content.replace(b"(1, 64), }      ", b"(9999999999, 64)}"[:16]))
    assert "x.npy: not a readable" in refused("predict", finished, "x.npy")
    (folder / "x.npy").write_bytes(content.replace(b"(1, 64), }         ", b"(9999999999, 64), }"))
    assert "x.npy: " in refused("predict", finished, "x.npy")


def test_output_that_is_no_file(refused, folder, finished):
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    (folder / "taken").mkdir()
    assert "taken is no file" in refused("predict", finished, "x.npy", "--output", "taken")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_output_that_is_a_pipe(fgtrain, folder, finished):
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    os.mkfifo(folder / "pipe")
    assert "pipe is no file" in fgtrain("predict", finished, "x.npy", "--output", "pipe").error
    assert (folder / "pipe").is_fifo()


def test_unknown_models_of_info(refused):
    assert "did you mean 'logreg'" in refused("info", "--model", "logerg")
