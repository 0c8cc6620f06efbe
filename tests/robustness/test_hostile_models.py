"""Models that no machine can hold: refused on one line, before memory is allocated."""

import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.errors import ConfigError, FgError, ShapeError, did_you_mean, shown
from fgnumba.kernels.machine import memory
from fgnumba.kernels.machine.memory import aligned, physical_memory, readable
from fgnumba.kernels.rules.philox import MAX_PARAMETERS
from fgnumba.layers import Composite
from fgnumba.layers.tables import LAYERS
from fgnumba.model import sizes
from fgnumba.objects.code import EVERYTHING, trusting
from fgnumba.runs.assembly import written_model
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.presets import model_from
from fgnumba.runs.toml_file import MAX_TOML
from tests.hostile import refusal

SIDE = 1 << 20
IMAGE = (8, 8, 4)
DENSE, FLATTEN, MEAN = {"type": "dense", "units": 3}, {"type": "flatten"}, {"type": "global_average_pool2d"}


@pytest.fixture
def small_machine(monkeypatch):
    """Let there be a megabyte: what is drawn in spite of it is drawn at once."""
    for module in (sizes, memory):
        monkeypatch.setattr(module, "physical_memory", lambda: 1 << 20)


def model(*tables, shape=IMAGE):
    return model_from(tables, 3, "config", shape, device="cpu")


def conv(**settings):
    return {"type": "conv2d", "filters": 4, **settings}


BEYOND = {
    "units": (
        [FLATTEN, {"type": "dense", "units": 1 << 17}, DENSE],
        r"layers\[1\]: with its weight \(256, 131072\)",
    ),
    "two that are too many together": (
        [FLATTEN, {"type": "dense", "units": 300}, {"type": "dense", "units": 500}, DENSE],
        r"layers\[2\]: with its weight \(300, 500\), bias \(500,\) the parameters need 1\.\d MiB; this",
    ),
    "one column, packed as many": (
        [
            {"name": "a", **FLATTEN},
            {"name": "b", "type": "concatenate", "inputs": ["a"] * 40},
            {"name": "c", "type": "dense", "units": 1},
            {"name": "d", **DENSE},
        ],
        r"layer 'c': with its weight \(10240, 1\)",
    ),
    "a kernel": ([conv(kernel_size=SIDE, padding="same"), MEAN, DENSE], r"weight \(1048576, 1048576, 4, 4\)"),
    "padding": (
        [conv(padding=SIDE), MEAN, DENSE],
        r"layers\[0\]: the output has shape .*: 64\.0 TiB an example",
    ),
    "joined with itself": (
        [
            {"name": "a", **FLATTEN},
            {"name": "b", "type": "concatenate", "inputs": ["a"] * 999},
            {"name": "c", "type": "concatenate", "inputs": ["b"] * 999},
            {"name": "d", **DENSE},
        ],
        r"layer 'c': the output has shape \(255488256,\): 974\.6 MiB an example",
    ),
}


@pytest.mark.parametrize(("tables", "message"), BEYOND.values(), ids=BEYOND)
def test_models_beyond_memory(small_machine, tables, message):
    with pytest.raises(ShapeError, match=message):
        model(*tables)


def test_an_example_beyond_memory():
    for shape in ((SIDE, SIDE, 1), (1 << 62,), (10**4000,)):
        with pytest.raises(ShapeError, match=r"input_shape has shape .* an example; this machine has"):
            model(FLATTEN, DENSE, shape=shape)


def test_nothing_is_drawn_for_a_model_beyond_memory(small_machine, monkeypatch):
    def drawn(*_):
        raise AssertionError("parameters were drawn")

    monkeypatch.setattr(fg.Dense, "initial_parameters", drawn)
    with pytest.raises(ShapeError):
        model(FLATTEN, DENSE, {"type": "dense", "units": 1 << 20}, DENSE)


def test_a_buffer_beyond_memory():
    size = physical_memory() // 4 + 1
    with pytest.raises(MemoryError, match=r"a buffer of .* is asked for; this machine has"):
        aligned((size,))
    # NumPy's product of these is 0.
    with pytest.raises(MemoryError, match=r"64\.0 EiB"):
        aligned((1 << 32, 1 << 32))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 80, "more than 1024 EiB"),
    ],
)
def test_sizes_as_people_read_them(nbytes, text):
    assert readable(nbytes) == text


NUMBERS = ("stride", "dilation", "kernel_size")


@pytest.mark.parametrize("value", [SIDE + 1, 2**31, 2**63, 10**400, [1, 2**63]], ids=str)
@pytest.mark.parametrize("name", [*NUMBERS, "padding", "pool_size"])
def test_sizes_that_overflow(name, value):
    table = {"type": "max_pool2d"} if name == "pool_size" else conv()
    with pytest.raises(ConfigError, match=rf"layers\[0\]: .*{name} is .* required"):
        model({**table, name: value}, MEAN, DENSE)


@pytest.mark.parametrize("epsilon", [1e39, 1e308, 10**300, 10**400])
@pytest.mark.parametrize("kind", ["layer_norm", "group_norm"])
def test_an_epsilon_beyond_float32(kind, epsilon):
    with pytest.raises(ConfigError, match=r"epsilon is .* below"):
        model({"type": kind, "epsilon": epsilon}, FLATTEN, DENSE)


@pytest.mark.parametrize(
    "layer",
    [conv(stride=SIDE), conv(kernel_size=[1, 3], dilation=1000, padding="same"), conv(padding=[0, 1000])],
)
def test_the_largest_numbers_reach_the_kernels(layer):
    built = model(layer, MEAN, DENSE)
    assert np.isfinite(built(np.ones((1, *IMAGE), np.float32))).all()


def test_many_layers():
    deep = model(FLATTEN, *[{"type": "activation", "activation": "relu"}] * 5000, DENSE)
    assert len(deep.nodes) == 5002
    with pytest.raises(ShapeError, match=rf"layers\[{MAX_PARAMETERS // 2 + 1}\]: with it there are"):
        model(FLATTEN, *[DENSE] * MAX_PARAMETERS)


def test_files_of_layers_that_are_too_long(tmp_path):
    path = tmp_path / "net.toml"
    path.write_text('[[layers]]\ntype = "flatten"\n' * (MAX_TOML // 27))
    with pytest.raises(ConfigError, match="bytes; at most 1,048,576 are possible"):
        written_model(RunConfig(model=str(path)), 3)


@pytest.mark.parametrize("key", ["a." * 100_000 + "a", '"a" . ' * 100_000 + "a", "'a'." * 100_000 + "a"])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "layers = [{{{} = 1}}]"])
def test_keys_of_many_parts(tmp_path, form, key):
    path = tmp_path / "settings.toml"
    path.write_text(form.format(key))
    with pytest.raises(ConfigError, match="a key has more than 16 parts; no setting has so many"):
        RunConfig.from_toml(path)


def test_dots_that_are_no_keys(tmp_path):
    text = "decay = 0.5  # " + "a.b " * 100_000 + f"\ndata = '{'a/b..c' * 9}'\nwidths = [1, 2]"
    (tmp_path / "settings.toml").write_text(text)
    assert RunConfig.from_toml(tmp_path / "settings.toml").decay == 0.5


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**50, str(10**50)),
        (16**5000, "a number of 20001 bits"),
        ("a" * 10**6, "'aaa"),
        ([[1]] * 1000, "..."),
        (nested(10**5), "[[[[...]]]]"),
        (dict.fromkeys(range(1000)), "..."),
        ("line\nline", r"'line\nline'"),
    ],
    ids=range(7),
)
def test_what_messages_quote_is_short(value, text):
    quoted = shown(value)
    assert text in quoted
    assert len(quoted) < 250


def test_messages_are_one_line_without_what_a_terminal_obeys():
    assert str(FgError("a\nb\r\nc\x1b[2J\udcff ü")) == r"a b c\x1b[2J\udcff ü"
    long = str(ConfigError("where: " + "a" * 10**6 + "; this is required"))
    assert long.startswith("where: aaa")
    assert long.endswith("aaa; this is required")
    assert len(long) <= 800
    assert str(fg.DivergenceError("a\nb", kept=False)) == "a b"


def test_a_long_word_is_near_to_none():
    assert "did you mean" not in did_you_mean("name" * 1000 + "2", ["name" * 1000 + "1"])
    assert did_you_mean("nam", ["name"]) == " (did you mean 'name'?)"


KEYS = (
    "name inputs units filters kernel_size stride padding dilation groups epsilon rate pool_size activation bias heads "
    "mask rotary length"
)
keys = st.sampled_from([*KEYS.split(), "other"])
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 2, 2**31, 2**63, 10**30])
values = st.recursive(
    numbers
    | st.booleans()
    | st.text(max_size=5)
    | st.sampled_from(["same", "valid", "classes", "relu", "input", "0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
kinds = st.fixed_dictionaries({"type": st.sampled_from([*LAYERS, "other"])})
hostile = st.builds(
    lambda kind, more: {**kind, **more}, kinds, st.dictionaries(keys, values, max_size=2)
) | st.sampled_from([FLATTEN, DENSE, MEAN, conv()])


@settings(max_examples=300)
@given(layers=st.lists(hostile, max_size=4).map(lambda some: [*some, FLATTEN, DENSE]))
def test_tables_of_any_kind(layers):
    with pytest.MonkeyPatch.context() as patch:
        for module in (sizes, memory):
            patch.setattr(module, "physical_memory", lambda: 1 << 22)
        refusal(lambda: model(*layers))


@settings(max_examples=200)
@given(
    settings_=st.dictionaries(st.sampled_from([*RunConfig.__dataclass_fields__, "other"]), values, max_size=3)
)
def test_settings_of_any_kind(tmp_path_factory, settings_):
    import tomli_w

    text = tomli_w.dumps(settings_)
    path = tmp_path_factory.mktemp("hostile") / "settings.toml"
    path.write_text(text, encoding="utf-8")
    if refusal(lambda: RunConfig.from_toml(path)) is None:
        assert tomllib.loads(text).keys() <= RunConfig.__dataclass_fields__.keys()


@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_have_the_shapes_that_were_said(kind):
    settings_: dict[str, dict[str, Any]] = {
        "dense": {"units": 3},
        "conv2d": {"filters": 4, "groups": 2},
        "group_norm": {"groups": 2},
    }
    recurrent = ("elementwise_lstm", "min_gru", "linear_recurrent_unit", "lstm", "gru")
    settings_ |= {name: {"units": 5} for name in recurrent} | {"embedding": {"symbols": 3, "width": 5}}
    settings_ |= {"positional_embedding": {"length": 7}, "self_attention": {"heads": 2, "bias": True}}
    settings_["transformer_block"] = {"heads": 2}
    settings_["elementwise"] = {"function": "tests.own_functions:swish"}
    settings_["function"] = {"function": "tests.functions_of_examples:swish", "parameters": {"beta": [1]}}
    table = {"type": kind, **settings_.get(kind, {})} | (
        {"activation": "relu"} if kind == "activation" else {}
    )
    from fgnumba.runs.presets import layers_from

    with trusting([EVERYTHING]):
        (layer,) = layers_from([table], 3, "here")
    of_positions = ("positional_embedding", "rotary_embedding", "self_attention", "transformer_block")
    shape = (
        (6, 8) if kind in (*recurrent, *of_positions) else (8,) if kind in ("dense", "embedding") else IMAGE
    )
    some = [part.layer for part in layer.parts(shape)] if isinstance(layer, Composite) else [layer]
    for one in (*some, *([fg.Dense(3, bias=False)] if kind == "dense" else [])):
        drawn = one.initial_parameters([shape], np.random.default_rng(0))
        assert {name: array.shape for name, array in drawn.items()} == one.parameter_shapes([shape])
