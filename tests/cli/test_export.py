"""``fgtrain export``: files that other programs run."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances_interchange as tolerances
from tests.graph_cases import WIRINGS
from tests.interchange.networks import batch, first, relative_difference, trained


def imported(path, monkeypatch):
    """Import a file of Python as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module


def test_a_run_goes_to_pytorch(fgtrain, finished, folder, monkeypatch):
    torch = pytest.importorskip("torch")
    done = fgtrain("export", finished, "--format", "torch", "--output", "net.pt")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        "net.py, net.safetensors: input (batch, 1, 8, 8); PyTorch's outputs differ by "
    )
    assert sorted(path.name for path in folder.iterdir()) == ["net.py", "net.safetensors"]
    # Nothing of fgnumba is needed.
    assert "import fgnumba" not in (folder / "net.py").read_text(encoding="utf-8")
    model, network = fg.load(finished), imported(folder / "net.py", monkeypatch).load()
    x = batch(model.input_shape)
    with torch.no_grad():
        found = network(torch.from_numpy(first(x))).numpy()
    assert relative_difference(found, model(x)) < tolerances.SAME_NETWORK


@pytest.mark.parametrize("name", WIRINGS)
def test_every_wiring_goes_to_pytorch(fgtrain, folder, monkeypatch, name):
    torch = pytest.importorskip("torch")
    nodes, shape = WIRINGS[name]
    model = trained(fg.Graph(nodes, shape, device="cpu"))
    model.classes = ("a", 'b"\n', np.str_("c"), np.int64(1), 0.5)
    model.save("model.safetensors")
    assert fgtrain("export", "model.safetensors", "--format", "torch", "--output", "net").code == 0
    made = imported(folder / "net.py", monkeypatch)
    assert made.CLASSES == ["a", 'b"\n', "c", 1, 0.5]
    x = batch(shape)
    with torch.no_grad():
        found = made.load()(torch.from_numpy(first(x))).numpy()
    assert relative_difference(found, first(model(x))) < tolerances.SAME_NETWORK


def test_a_run_goes_to_onnx(fgtrain, finished, folder, monkeypatch):
    pytest.importorskip("onnx")
    done = fgtrain("export", finished, "--format", "onnx", "--output", "net.onnx")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("net.onnx: input (batch, 1, 8, 8); ")
    there = importlib.util.find_spec("onnxruntime") is not None
    assert ("ONNX Runtime's outputs differ by" in done.out) == there
    model = fg.load(finished)
    x = batch(model.input_shape)
    back = fg.from_onnx("net.onnx", "cpu")
    assert relative_difference(back(x), model(x)) < tolerances.SAME_NETWORK
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = fgtrain("export", finished, "--format", "onnx", "--output", "net.onnx")
    assert "not compared, because ONNX Runtime is not installed (pip install onnxruntime)" in done.out


def test_what_is_refused(fgtrain, finished, folder, monkeypatch):
    assert fgtrain("export", "missing", "--format", "onnx", "--output", "a").error == (
        "missing: no such file or folder; a run folder, or a file of model.save, is required"
    )
    assert "'tf' is not one of" in fgtrain("export", finished, "--format", "tf", "--output", "a").error
    assert "Missing option '--output'" in fgtrain("export", finished, "--format", "onnx").error
    done = fgtrain("export", finished, "--format", "onnx", "--output", "no/a")
    assert done.error == f"output: {folder.resolve()}/no/a: there is no folder {folder.resolve()}/no"
    (folder / "a.py").mkdir()
    assert "a.py is no file" in fgtrain("export", finished, "--format", "torch", "--output", "a").error
    for package in ("torch", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        done = fgtrain("export", finished, "--format", package, "--output", "b")
        assert f"pip install 'fgnumba[{package}]'" in done.error
    assert [path.name for path in folder.iterdir()] == ["a.py"]


def test_no_file_of_a_run_is_overwritten(fgtrain, folder, finished):
    run = shutil.copytree(finished, folder / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    np.save(folder / "x.npy", np.zeros((1, 64), np.float32))
    for arguments in (
        ("export", run, "--format", "torch", "--output", "run/model"),
        ("export", run, "--format", "onnx", "--output", "run/model.safetensors"),
        ("show", run, "--html", "run/config.toml"),
    ):
        assert "is a file of the run in that folder; name another file" in fgtrain(*arguments).error
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert fgtrain("predict", run, "x.npy", "--output", "run/p.csv").code == 0
    assert fgtrain("show", run, "--html", "run/report.html").code == 0
    # Such a name elsewhere is any file.
    for _ in range(2):
        assert fgtrain("show", run, "--html", "config.toml").code == 0
