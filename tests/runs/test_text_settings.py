"""Settings of runs on texts: what counts as one, what suits it, and what is refused."""

import math
from typing import Any

import pytest

from fgnumba.datasets import Dataset, load
from fgnumba.errors import ConfigError, RunError
from fgnumba.optimizers.schedules import Cosine, Warmup
from fgnumba.runs.assembly import _optimizer, written_model
from fgnumba.runs.configuration import RunConfig, configured
from fgnumba.runs.data import load_data
from fgnumba.runs.presets import model_from, tables
from fgnumba.runs.texts import read_alphabet, write_alphabet
from tests import tolerances
from tests.texts import sentences, write

OWN = """
[[layers]]
type = "embedding"
symbols = "classes"
width = 8
[[layers]]
type = "{kind}"
{given}
[[layers]]
type = "dense"
units = "classes"
"""
SUITED = {
    "model": "char-lstm",
    "context": 64,
    "symbols": "characters",
    "batch_size": 32,
    "schedule": "cosine",
}


@pytest.mark.parametrize(
    ("given", "differ"),
    [
        ({"data": "a.txt"}, {}),
        ({"data": "b.TXT", "context": 5}, {"context": 5}),
        ({"data": "code.py", "symbols": "bytes"}, {"symbols": "bytes"}),
        ({"data": "code.py", "model": "char-lstm", "batch_size": 64}, {"batch_size": 64}),
        ({"data": "a.txt", "model": "net.toml", "schedule": "exponential"}, {"model": "net.toml"}),
    ],
)
def test_what_suits_a_text_is_set_where_nothing_is_given(given, differ):
    config = configured(None, given)
    expected = {**SUITED, **differ, **given}
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("kind", "given", "batch"),
    [
        ("self_attention", "heads = 2", 12),
        ("transformer_block", "heads = 2", 12),
        ("positional_embedding", "length = 64", 12),
        ("min_gru", "units = 4", 32),
        ("no_such_layer", "", 32),
    ],
)
def test_the_layers_decide_what_suits(tmp_path, kind, given, batch):
    path = write(tmp_path / "net.toml", OWN.format(kind=kind, given=given))
    assert configured(None, {"data": "a.txt", "model": str(path)}).batch_size == batch
    config = write(tmp_path / "c.toml", 'data = "t.txt"\nmodel = "net.toml"\n')
    write(tmp_path / "t.txt", sentences(500))
    assert configured(config, {}).batch_size == batch


@pytest.mark.parametrize("content", ["layers = 3", "layers = [3, {type = 4}]", "[[layers]", b"\xff", None])
def test_a_file_of_layers_that_cannot_be_read_is_no_model_of_windows(tmp_path, content):
    path = tmp_path / "net.toml"
    if content is not None:
        write(path, content)
    assert configured(None, {"data": "a.txt", "model": str(path)}).batch_size == 32


def test_the_transformer_of_texts():
    config = configured(None, {"data": "a.txt", "model": "char-transformer"})
    assert (config.context, config.batch_size, config.schedule) == (64, 12, "cosine")
    found = tables("char-transformer", 65)
    assert [table["type"] for table in found] == [
        "embedding",
        "positional_embedding",
        *["transformer_block"] * 4,
        "layer_norm",
        "dense",
    ]
    assert (found[0]["width"], found[1]["length"], found[-1]["units"]) == (128, 64, 65)
    written = written_model(configured(None, {"data": "a.txt", "model": "char-transformer", "context": 7}), 9)
    assert written[0][1]["length"] == 7
    model = model_from(tables("char-transformer", 9, (8, 8), 6), 9, "here", (6,), device="cpu")
    assert (model.output_shape, model.reads_windows) == ((6, 9), True)


def test_a_learning_rate_rises_before_it_falls():
    falling: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.02, "decay": 4 / 100}
    cosine = _optimizer(RunConfig(**falling, schedule="cosine", warmup=20))
    assert isinstance(cosine.schedule, Warmup)
    assert cosine.rate(0) == Cosine(0.02, 100, 0.002)(0) / 20
    assert cosine.rate(30) == Cosine(0.02, 100, 0.002)(30)
    exponential = _optimizer(RunConfig(**falling, warmup=4))
    tolerances.EXACT_SCHEDULE.check(exponential.rate(1), 0.02 * math.exp(-0.04) / 2)
    tolerances.EXACT_SCHEDULE.check(exponential.rate(9), 0.02 * math.exp(-0.36))
    for warmup in (None, 0):
        assert _optimizer(RunConfig(**falling, warmup=warmup)).rate(0) == 0.02


@pytest.mark.parametrize("given", [{}, {"data": "a.csv", "target": "k"}, {"data": "a.txt", "target": "k"}])
def test_other_data_keep_their_settings(given):
    assert configured(None, given) == RunConfig(**given)


def test_a_file_of_settings_says_that_data_are_a_text(tmp_path):
    write(tmp_path / "t.txt", sentences(500))
    path = write(tmp_path / "c.toml", 'data = "t.txt"\ncontext = 9\n')
    config = configured(path, {"batch_size": 7})
    assert (config.model, config.context, config.batch_size, config.schedule) == ("char-lstm", 9, 7, "cosine")
    assert load_data(config).input_shape == (9,)


def test_the_model_of_texts():
    assert tables("char-lstm", 65) == [
        {"type": "elementwise_lstm", "units": 512, "symbols": 65},
        {"type": "dense", "units": 65},
    ]
    assert tables("char-lstm", 9, [20])[0]["units"] == 20
    model = model_from(tables("char-lstm", 9, [20, 8]), 9, "here", (4,), device="cpu")
    assert model.output_shape == (4, 9)
    assert {name: array.shape for name, array in model.parameters().items() if "weight" in name} == {
        "0.weight": (9, 40),
        "1.weight": (20, 16),
        "2.weight": (8, 9),
    }


def test_a_cosine_falls_to_a_tenth_over_the_run():
    config = RunConfig(optimizer="adam", learning_rate=0.02, decay=4 / 77, schedule="cosine")
    schedule = _optimizer(config).schedule
    assert isinstance(schedule, Cosine)
    assert (schedule(0), schedule(77), schedule(900)) == (0.02, 0.002, 0.002)
    assert schedule(38) > 0.011 > schedule(39)
    constant = _optimizer(RunConfig(optimizer="adam", learning_rate=0.02, decay=0.0, schedule="cosine"))
    assert constant.rate(50) == 0.02
    falling = _optimizer(RunConfig(optimizer="adam", learning_rate=0.02, decay=0.1))
    tolerances.EXACT_SCHEDULE.check(falling.rate(5), 0.02 * math.exp(-0.5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"symbols": "words"}, "symbols: unknown symbols"),
        ({"schedule": "linear"}, "schedule: unknown schedule"),
        ({"context": 0}, "context is 0"),
        ({"warmup": 2.5}, "warmup is 2.5"),
        ({"context": 1 << 30}, "context is 1073741824"),
        ({"target": "k", "context": 8}, "target is 'k' beside symbols or context"),
    ],
)
def test_impossible_settings(given, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**given)


def test_a_text_model_needs_a_text(tmp_path):
    with pytest.raises(ConfigError, match=r"model char-lstm reads a text: the path of one is required"):
        load_data(RunConfig(model="char-lstm"))


def test_the_alphabet_is_kept_for_texts_alone(tmp_path):
    write_alphabet(tmp_path, load("digits"))
    assert read_alphabet(tmp_path, RunConfig(), 10) is None
    config = RunConfig(data="t.txt", model="char-lstm")
    with pytest.raises(RunError, match=r"text\.json is missing; fgtrain train --resume"):
        read_alphabet(tmp_path, config, 10)
    data = load(write(tmp_path / "t.txt", sentences(500)), context=9)
    assert isinstance(data, Dataset)
    write_alphabet(tmp_path, data)
    assert read_alphabet(tmp_path, config, data.outputs) == data.coding
