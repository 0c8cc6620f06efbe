"""Models as ONNX files and of them, run by ONNX Runtime where it is installed and else by ONNX's reference."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.errors import ConfigError, FgError, RunError
from fgnumba.interchange import onnx_file, onnx_out
from fgnumba.interchange.onnx_file import MAX_DESCRIPTION
from tests import tolerances_interchange as tolerances
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.hostile import mutations, refusal
from tests.interchange.networks import batch, first, random_chain, relative_difference, trained
from tests.robustness.test_hostile_files import little_memory
from tests.testing.own_layer import ScaleShift

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from tests.interchange.foreign import FOREIGN, REFUSED, WEIGHT, network, node  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None


def run(content, x):
    """Return what a file computes."""
    if onnxruntime is None:
        session = onnx.reference.ReferenceEvaluator(onnx.load_from_string(content))
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = onnx.load_from_string(content).graph.input[0].name
    return session.run(None, {name: x})[0]


def assert_round_trip(model, tmp_path):
    path = tmp_path / "model.onnx"
    fg.to_onnx(model, path)
    x = batch(model.input_shape, 1)
    expected = model(x)
    assert relative_difference(run(path.read_bytes(), first(x)), first(expected)) < tolerances.SAME_NETWORK
    back = fg.from_onnx(path, "cpu")
    assert back.input_shape == model.input_shape
    assert relative_difference(back(x), expected) < tolerances.SAME_NETWORK
    return back


@pytest.mark.parametrize("seed", range(100, 150))
def test_random_rows_of_layers_go_out_and_come_back(tmp_path, seed):
    assert_round_trip(random_chain(seed), tmp_path)


@pytest.mark.parametrize("name", WIRINGS)
def test_graphs_go_out_and_come_back(tmp_path, name):
    nodes, shape = WIRINGS[name]
    assert_round_trip(trained(fg.Graph(nodes, shape, device="cpu")), tmp_path)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_go_out_and_come_back(tmp_path, name):
    assert_round_trip(trained(fg.Sequential([CONVOLUTIONS[name]], (7, 6, 6), device="cpu")), tmp_path)


def test_what_is_in_a_file(tmp_path):
    model = fg.Sequential([fg.Flatten(), fg.Dense(3)], (5, 4, 2))
    model.classes = ("a", "b", "c")
    fg.to_onnx(model, tmp_path / "a.onnx")
    fg.to_onnx(model, str(tmp_path / "b.onnx"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    read = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(read)
    (x,), (y,) = read.graph.input, read.graph.output
    sizes = [[axis.dim_param or axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in (x, y)]
    assert (x.name, y.name, sizes) == ("input", "output", [["batch", 2, 5, 4], ["batch", 3]])
    assert json.loads({p.key: p.value for p in read.metadata_props}["classes"]) == ["a", "b", "c"]
    back = fg.from_onnx(tmp_path / "a.onnx")
    assert isinstance(back, fg.Sequential)
    assert (back.layers, back.classes) == (model.layers, ("a", "b", "c"))


@pytest.mark.parametrize("name", FOREIGN)
def test_files_from_elsewhere(tmp_path, name):
    nodes, constants, shape = FOREIGN[name]
    content = network(nodes, constants, shape)
    (tmp_path / "x.onnx").write_bytes(content)
    model = fg.from_onnx(tmp_path / "x.onnx", "cpu")
    last = "TensorFlow" in name
    x = batch(model.input_shape, 3, 1)
    found = model(x) if last else first(model(x))
    runnable = network(
        nodes, {k: v.astype(np.float32) if v.dtype == float else v for k, v in constants.items()}, shape
    )
    assert relative_difference(found, run(runnable, x if last else first(x))) < tolerances.SAME_NETWORK


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(tmp_path, name):
    nodes, constants, message = REFUSED[name]
    path = tmp_path / "x.onnx"
    path.write_bytes(network(nodes, constants))
    with pytest.raises(RunError, match=rf"x\.onnx: .*{message}") as caught:
        fg.from_onnx(path)
    assert len(str(caught.value).splitlines()) == 1


def test_networks_of_another_form(tmp_path):
    path = tmp_path / "x.onnx"
    gemm = [node("Gemm", "x w")]
    for content, message in (
        (network(gemm, WEIGHT, opset=7), "its version of the operators is 7; 9 to 26 are read"),
        (network(gemm, WEIGHT, inputs=2), "it has 2 inputs; one is required"),
        (network(gemm, WEIGHT, outputs=("y", "x")), "it has 2 outputs; one is required"),
        (network(gemm, WEIGHT, x=("batch", "width")), r"its input 'x' has the sizes \[0, 0\]"),
        (network(gemm, WEIGHT, x=(1, 2, 3)), r"its input 'x' has the sizes \[1, 2, 3\]"),
        (network(gemm, WEIGHT, x=("batch", 1 << 40, 1 << 40, 1)), "an example; this machine has"),
        (b"", "its version of the operators is none"),
        (b"\xff" * 100, "no ONNX file"),
        (b"\x0a\xff\xff\xff\xff\x0f", r"claims \d+ bytes; 0 are there"),
    ):
        path.write_bytes(content)
        with pytest.raises(RunError, match=message) as caught:
            fg.from_onnx(path)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RunError, match="no such file; an ONNX file is required"):
        fg.from_onnx(tmp_path / "missing")
    with pytest.raises(RunError, match="not a file; an ONNX file"):
        fg.from_onnx(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", "[null]", "[1e999]", "x"])
def test_names_of_classes_that_are_none(tmp_path, text):
    path = tmp_path / "x.onnx"
    fg.to_onnx(fg.Sequential([fg.Dense(3)], 5), path)
    model = onnx.load(path)
    helper.set_model_props(model, {"classes": text})
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=r"x\.onnx: "):
        fg.from_onnx(path)
    # What another program calls so is its own affair.
    model.producer_name = "other"
    path.write_bytes(model.SerializeToString())
    assert fg.from_onnx(path).classes is None


def lying(**changes):
    """Return a network whose one initializer is changed."""
    model = onnx.load_from_string(network([node("Gemm", "x w")], WEIGHT))
    for name, value in changes.items():
        if name == "dims":
            model.graph.initializer[0].dims[:] = value
        elif name == "external":
            entry = model.graph.initializer[0].external_data.add()
            entry.key, entry.value = "location", value
            model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        else:
            setattr(model.graph.initializer[0], name, value)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [1 << 40, 1 << 40]}, "needs .* bytes; 48 are there"),
        ({"dims": [-4, -3]}, r"shape \(-4, -3\)"),
        ({"dims": [0, 3]}, r"shape \(0, 3\)"),
        ({"dims": [1] * 60}, "at most 32 sizes"),
        ({"external": "/etc/passwd"}, "tensor 'w' lies in another file"),
        ({"data_type": 16}, "has type 16 of ONNX"),
        ({"raw_data": b""}, "needs 48 bytes; 0 are there"),
    ],
)
def test_tensors_that_lie(tmp_path, changes, message):
    path = tmp_path / "x.onnx"
    path.write_bytes(lying(**changes))
    with pytest.raises(RunError, match=message):
        fg.from_onnx(path)


def test_a_vast_image_that_is_flattened_takes_no_memory(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(
        network([node("Flatten", "x", "f"), node("Gemm", "f w")], WEIGHT, (1, 2, 1 << 12, 1 << 12))
    )
    with (
        little_memory(),
        pytest.raises(RunError, match=r"weight has shape \(3, 4\); \(N, 33554432\) is required"),
    ):
        fg.from_onnx(path)


def test_a_file_of_many_small_parts_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    def parsed(_):
        raise AssertionError("it was parsed")

    monkeypatch.setattr(onnx_file, "_parsed", parsed)
    path = tmp_path / "x.onnx"
    # Two bytes are a node, which takes a hundred in memory.
    nodes = b"\x0a\x00" * (MAX_DESCRIPTION // 2 + 1)
    size = len(nodes)
    head = bytes([0x3A, size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    path.write_bytes(head + nodes)
    with pytest.raises(RunError, match=r"its nodes and names take 41943.. bytes; at most 4194304 are read"):
        fg.from_onnx(path)
    monkeypatch.setattr(onnx_file, "physical_memory", lambda: 1 << 20)
    with pytest.raises(RunError, match=r"it has 4\.0 MiB; this machine has 1\.0 MiB"):
        fg.from_onnx(path)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "x.onnx"
    nodes, constants, shape = data.draw(st.sampled_from(list(FOREIGN.values())))
    path.write_bytes(data.draw(mutations(network(nodes, constants, shape))))
    message = refusal(lambda: fg.from_onnx(path, "cpu"))
    assert message is None or message.startswith(str(path))


def test_what_cannot_go_out(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="layer '1': a ScaleShift is not one of fgnumba's layers"):
        fg.to_onnx(fg.Sequential([fg.Dense(3), ScaleShift("")], 5), tmp_path / "x")
    with pytest.raises(ConfigError, match="model is a str; a Sequential or a Graph is required"):
        fg.to_onnx("model", tmp_path / "x")  # type: ignore[arg-type]
    model = fg.Sequential([fg.Dense(3)], 5)
    with pytest.raises(RunError, match="cannot be written"):
        fg.to_onnx(model, tmp_path / "missing" / "x")
    monkeypatch.setattr("fgnumba.interchange.onnx_out.MAX_BYTES", 70)
    with pytest.raises(ConfigError, match="the model has 72 bytes of parameters; an ONNX file holds less"):
        fg.to_onnx(model, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_file_that_disagrees_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(onnx_out.ACTIVATIONS, "tanh", ("Sigmoid", {}))
    with pytest.raises(ConfigError, match=r"to_onnx: the outputs for random inputs differ by"):
        fg.to_onnx(fg.Sequential([fg.Dense(3, "tanh")], 5), tmp_path / "x")
    monkeypatch.setitem(onnx_out.ACTIVATIONS, "tanh", ("Unknown", {}))
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: None)
    with pytest.raises(ConfigError, match=r"ONNX Runtime .* cannot run the network: .*Unknown"):
        fg.to_onnx(fg.Sequential([fg.Dense(3, "tanh")], 5), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_without_onnx_a_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    model = fg.Sequential([fg.Dense(3)], 5)
    for call in (lambda: fg.to_onnx(model, tmp_path / "x"), lambda: fg.from_onnx(tmp_path / "x")):
        with pytest.raises(FgError, match=r"needs onnx.*: pip install 'fgnumba\[onnx\]'"):
            call()
