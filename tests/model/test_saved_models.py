"""Models that are saved to one file and loaded again, and files that are none."""

import errno
import json
import os
import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

import fgnumba as fg
from fgnumba.errors import ConfigError, RunError
from fgnumba.layers.tables import LAYERS, layer_of, table_of
from fgnumba.model.described import KEY
from fgnumba.objects.code import EVERYTHING, trusting
from fgnumba.storage.safetensors import read_header
from tests import functions_of_examples, own_functions
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.hostile import mutations, refusal
from tests.testing.own_layer import ScaleShift

OTHERS = [
    fg.Dense(3, "gelu", bias=False),
    fg.Activation("silu"),
    fg.Dropout(0.1),
    fg.LayerNorm(1e-3),
    fg.GroupNorm(3, 1e-12),
    fg.MaxPool2d((2, 3), 1, "same"),
    fg.AvgPool2d(3, padding=((1, 0), (2, 1))),
    fg.GlobalAveragePool2d(),
    fg.Add("tanh"),
    fg.Concatenate(),
    fg.Flatten(),
    fg.RMSNorm(1e-3),
    fg.LayerNorm(affine=False),
    fg.GroupNorm(3, 1e-12, False),
    fg.RMSNorm(1e-3, affine=False),
    fg.Embedding(65, 33),
    fg.ElementwiseLSTM(7, symbols=5),
    fg.MinGRU(3),
    fg.LinearRecurrentUnit(4, complex=False),
    fg.LSTM(5, 65),
    fg.GRU(6),
    fg.PositionalEmbedding(64),
    fg.RotaryEmbedding(500.0, 3),
    fg.SelfAttention(6, 2, 10, True, True, fg.RotaryEmbedding(100.0), None, 0.25, 0.5),
    fg.SelfAttention(2, mask=np.tri(3) > 0),
    fg.SelfAttention(2, mask=np.where(np.tri(3) > 0, 0.5, -np.inf) * np.ones((2, 1, 1))),
    fg.TransformerBlock(4, 13, "tanh", "rms_norm", True, False, 2, fg.RotaryEmbedding(), 0.5),
    fg.layers.Elementwise(own_functions.swish),
    fg.layers.Function(functions_of_examples.swish, {"beta": (2,)}),
]


@pytest.mark.parametrize("layer", [*CONVOLUTIONS.values(), *OTHERS], ids=repr)
def test_a_table_says_all_of_a_layer(layer):
    table = table_of(layer)
    assert table is not None
    with trusting([EVERYTHING]):
        assert layer_of(json.loads(json.dumps(table)), "here") == layer


def test_tables_describe_every_layer_of_the_library():
    assert {type(layer) for layer in (*CONVOLUTIONS.values(), *OTHERS)} == set(LAYERS.values())


def model_of(name):
    nodes, shape = WIRINGS[name]
    return fg.Graph(nodes, shape, seed=3)


def assert_same(found, expected):
    assert type(found) is type(expected)
    assert (found.nodes, found.input_shape, found.output) == (
        expected.nodes,
        expected.input_shape,
        expected.output,
    )
    assert (found.seed, found.classes) == (expected.seed, expected.classes)
    theirs = expected.parameters()
    assert list(found.parameters()) == list(theirs)
    for name, array in found.parameters().items():
        assert array.tobytes() == theirs[name].tobytes()


@pytest.mark.parametrize("name", WIRINGS)
def test_a_graph_comes_back_as_it_was(tmp_path, name):
    model = model_of(name)
    model.save(tmp_path / "model.safetensors")
    loaded = fg.load(tmp_path / "model.safetensors", device="cpu")
    assert_same(loaded, model)
    x = np.random.default_rng(0).standard_normal((3, *model.input_shape)).astype(np.float32)
    assert np.array_equal(loaded(x), model(x))


def sequential():
    return fg.Sequential([fg.Flatten(), fg.Dense(4, "relu"), fg.Dense(3)], (2, 2, 1), seed=7)


def test_a_sequence_comes_back_as_a_sequence(tmp_path):
    model = sequential()
    model.classes = ("cat", 7, 0.5)
    model.save(str(tmp_path / "a"))
    model.save(tmp_path / "b")
    loaded = fg.load(str(tmp_path / "a"))
    assert_same(loaded, model)
    # The same model is the same bytes.
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_file(tmp_path / "a").keys() == model.parameters().keys()


def test_a_graph_whose_output_is_not_its_last_node(tmp_path):
    nodes = [fg.Node("a", fg.Dense(4)), fg.Node("b", fg.Dense(4), "a"), fg.Node("c", fg.Add(), ("a", "b"))]
    model = fg.Graph([*nodes, fg.Node("d", fg.Dense(4), "c"), fg.Node("e", fg.Add(), ("c", "d"))], 6)
    model.save(tmp_path / "model")
    assert_same(fg.load(tmp_path / "model"), model)


def test_names_that_are_numbers_are_no_sequence(tmp_path):
    model = fg.Graph(
        [fg.Node("0", fg.Dense(3)), fg.Node("1", fg.Dense(3), "input"), fg.Node("2", fg.Add(), ("0", "1"))], 5
    )
    model.save(tmp_path / "model")
    assert_same(fg.load(tmp_path / "model"), model)


def test_a_run_folder_is_loaded(finished):
    loaded = fg.load(finished)
    assert_same_parameters = load_file(finished / "model.safetensors")
    for name, array in loaded.parameters().items():
        assert np.array_equal(array, assert_same_parameters[name])


def test_a_run_folder_gives_the_names_of_its_classes(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    text = (folder / "config.toml").read_text(encoding="utf-8")
    names = [f"digit {number}" for number in range(10)]
    for labels in (names, names[:3]):
        (folder / "config.toml").write_text(
            text.replace("[run]", f"[run]\nlabels = {labels}"), encoding="utf-8"
        )
        if labels is names:
            assert fg.load(folder).classes == tuple(names)
    with pytest.raises(RunError, match="a list of 10 names is required"):
        fg.load(folder)


def test_a_layer_of_ones_own_is_named(tmp_path):
    class Nowhere(ScaleShift):
        """A class that cannot be imported."""

    nothing: Any = object()
    for layer in (Nowhere(""), ScaleShift(nothing)):
        model = fg.Sequential([fg.Dense(3), layer], 5)
        message = rf"layer '1': a {layer.kind} is not one of .* save model\.parameters\(\) with safetensors"
        with pytest.raises(ConfigError, match=message):
            model.save(tmp_path / "model")
        assert not list(tmp_path.iterdir())


def test_a_layer_of_ones_own_that_can_be_imported_is_loaded_where_it_is_trusted(tmp_path):
    model = fg.Sequential([fg.Dense(3), ScaleShift("")], 5)
    model.save(tmp_path / "model")
    name = "tests.testing.own_layer:ScaleShift"
    assert_same(fg.load(tmp_path / "model", trust_code=name), model)
    with pytest.raises(fg.CodeError, match=f"type is '{name}', code that"):
        fg.load(tmp_path / "model")


@pytest.mark.parametrize("classes", [(), ("a", None), (float("nan"),), "ab", (True,)])
def test_classes_that_are_none(tmp_path, classes):
    model = sequential()
    model.classes = classes
    with pytest.raises(ConfigError, match="classes"):
        model.save(tmp_path / "model")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        sequential().save(tmp_path / "missing" / "model")


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model"
    model = sequential()
    model.save(path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    other = fg.Sequential([fg.Dense(2)], 3)
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(RunError, match="model cannot be written: No space left on device"):
                other.save(path)
        assert [one.name for one in tmp_path.iterdir()] == ["model"]
        assert_same(fg.load(path), model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="not a regular file"):
        fg.load(tmp_path / "pipe")


def test_what_is_not_there_or_no_model(tmp_path):
    with pytest.raises(RunError, match=r"no such file or folder; a run folder, or a file of model\.save"):
        fg.load(tmp_path / "missing")
    with pytest.raises(RunError, match=r"is not a run folder: config\.toml is missing"):
        fg.load(tmp_path)
    save_file(sequential().parameters(), tmp_path / "tensors")
    with pytest.raises(RunError, match=r"no description of a model.*model\.load_parameters"):
        fg.load(tmp_path / "tensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RunError, match="text is damaged"):
        fg.load(tmp_path / "text")


def changed(tmp_path, **changes):
    """Write a model whose description is changed, and return the path."""
    path = tmp_path / "changed"
    model = sequential()
    model.save(path)
    text = json.loads(read_header(path).metadata[KEY])
    text = {key: value for key, value in {**text, **changes}.items() if value != "gone"}
    path.write_bytes(save(model.parameters(), {KEY: json.dumps(text)}))
    return path


FALSE = {
    "a later format": ({"format": 2}, "format is 2; this version of fgnumba reads up to 1"),
    "no format": ({"format": "gone"}, "format is None"),
    "a key too many": ({"more": 1}, "unknown key 'more'"),
    "no layers": ({"layers": "gone"}, "layers is missing"),
    "layers that are none": ({"layers": 3}, "layers is 3; a list"),
    "an unknown layer": ({"layers": [{"type": "mamba"}]}, r"layers\[0\]: type is 'mamba'"),
    "a layer of another size": (
        {"layers": [{"type": "flatten"}, {"type": "dense", "units": 3}]},
        "unknown name",
    ),
    "a vast layer": (
        {"layers": [{"type": "flatten"}, {"type": "dense", "units": 1 << 31}]},
        "units is 2147483648",
    ),
    "a shape": ({"input_shape": [1 << 40, 1 << 40, 1]}, "an example; this machine has"),
    "no shape": ({"input_shape": []}, r"input_shape is \[\]"),
    "a seed": ({"seed": -1}, "seed is -1"),
    "an output": ({"output": "7"}, "output: no layer is called '7'"),
    "an output that is no name": ({"output": [1]}, r"output is \[1\]"),
    "inputs": ({"layers": [{"type": "flatten", "inputs": 3}]}, "inputs is 3"),
    "a name": ({"layers": [{"type": "dense", "units": 3, "name": "../a"}]}, "name is '../a'"),
    "classes": ({"classes": [None]}, r"classes\[0\] is None"),
}


@pytest.mark.parametrize(("changes", "message"), FALSE.values(), ids=FALSE)
def test_descriptions_that_are_false(tmp_path, changes, message):
    with pytest.raises(RunError, match=f"changed is damaged: .*{message}") as caught:
        fg.load(changed(tmp_path, **changes))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "3", '{"format": ' + "9" * 5000 + "}", " " * (1 << 23)])
def test_descriptions_that_are_no_objects(tmp_path, text):
    path = tmp_path / "model"
    path.write_bytes(save(sequential().parameters(), {KEY: text}))
    with pytest.raises(RunError, match="model is damaged"):
        fg.load(path)


def test_no_parameters_are_drawn_for_a_file_that_holds_fewer(tmp_path, monkeypatch):
    path = changed(tmp_path, layers=[{"type": "flatten"}, {"type": "dense", "units": 1 << 20}])

    def drawn(*_):
        raise AssertionError("parameters were drawn")

    monkeypatch.setattr(fg.Dense, "initial_parameters", drawn)
    with pytest.raises(RunError, match=r"unknown name|has shape"):
        fg.load(path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "model"
    model_of("dense middle joins").save(path)
    path.write_bytes(data.draw(mutations(path.read_bytes())))
    message = refusal(lambda: fg.load(path, "cpu"))
    assert message is None or message.startswith(str(path))
