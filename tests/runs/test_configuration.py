"""Configurations: written as TOML and read again, what overrides what, and what is refused."""

import dataclasses
import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgnumba import device, layers, optimizers
from fgnumba.cli.train import train
from fgnumba.errors import ConfigError
from fgnumba.kernels import DEVICES
from fgnumba.kernels.cuda import instructions
from fgnumba.kernels.emit.precision import AUTO, PRECISIONS
from fgnumba.kernels.rules import philox
from fgnumba.layers.tables import LAYERS as LAYER_TABLES
from fgnumba.model.directions import BY_NAME
from fgnumba.runs import configuration, presets
from fgnumba.runs.assembly import written_model
from fgnumba.runs.configuration import MAX_STEPS, RunConfig, read_settings

LAYERS = ({"type": "flatten"}, {"type": "dense", "units": 10, "activation": "relu", "bias": False})

configs = st.builds(
    RunConfig,
    model=st.sampled_from(["logreg", "mlp", "net.toml"]),
    widths=st.none() | st.lists(st.integers(1, 2048), min_size=1, max_size=3).map(tuple),
    layers=st.sampled_from([None, LAYERS]),
    data=st.text(min_size=1).filter(lambda text: "\r" not in text),
    augment=st.sampled_from([None, "none", "crop", "flip:0.25,crop:4"]),
    direction=st.sampled_from(["rank1", "rademacher", "gaussian"]),
    directions=st.integers(1, 1 << 20),
    steps=st.none() | st.integers(1, MAX_STEPS),
    learning_rate=st.none() | st.floats(1e-300, 1e300),
    decay=st.none() | st.floats(0, 1e300),
    momentum=st.none() | st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
)


@given(config=configs)
def test_toml_round_trip(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text(config.to_toml({"version": "1"}), encoding="utf-8")
    # A momentum of 0 and none that is given are the same.
    assert RunConfig.from_toml(path) == dataclasses.replace(config, momentum=config.momentum or None)


def test_zeros_that_earlier_runs_wrote_beside_every_optimizer_are_read_as_not_given(tmp_path):
    path = tmp_path / "config.toml"
    zeros = 'optimizer = "adam"\nmomentum = 0.0\nnesterov = false\n'
    path.write_text(zeros + '[run]\nversion = "0.1"\n', encoding="utf-8")
    assert RunConfig.from_toml(path) == RunConfig(optimizer="adam", precision="float32")
    path.write_text(zeros, encoding="utf-8")
    assert RunConfig.from_toml(path) == RunConfig(optimizer="adam", momentum=0.0, nesterov=False)
    # Another optimiser may be given beside the file of a run of sgd.
    path.write_text('momentum = 0.0\nnesterov = false\n[run]\nversion = "0.1"\n', encoding="utf-8")
    assert RunConfig.from_toml(path).updated({"optimizer": "adam"}) == RunConfig(
        optimizer="adam", precision="float32"
    )


@pytest.mark.parametrize(("optimizer", "left"), [("frank-wolfe", None), ("adamw", 0.0), ("sgd", 0.0)])
def test_a_weight_decay_of_zero_stays_where_it_says_anything(tmp_path, optimizer, left):
    path = tmp_path / "config.toml"
    path.write_text(
        f'optimizer = "{optimizer}"\nweight_decay = 0.0\n[run]\nversion = "0.1"\n', encoding="utf-8"
    )
    assert RunConfig.from_toml(path) == RunConfig(optimizer=optimizer, weight_decay=left, precision="float32")


def test_a_model_may_have_a_batch_size_of_its_own(tmp_path):
    assert configuration.configured(None, {"model": "vgg"}).batch_size == 32
    assert configuration.configured(None, {"model": "vgg", "batch_size": 7}).batch_size == 7
    assert configuration.configured(None, {"model": "cnn"}).batch_size == 64
    path = tmp_path / "settings.toml"
    path.write_text('model = "vgg"\n', encoding="utf-8")
    assert configuration.configured(path, {}).batch_size == 32
    path.write_text('model = "vgg"\nbatch_size = 9\n', encoding="utf-8")
    assert configuration.configured(path, {}).batch_size == 9


def test_a_configuration_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 1  # type: ignore[misc]


def test_a_new_duration_or_model_replaces_the_old_one():
    config = RunConfig(model="mlp", steps=5, layers=LAYERS)
    assert (config.updated({"epochs": 2}).epochs, config.updated({"epochs": 2}).steps) == (2, None)
    assert config.updated({"epochs": 2}).updated({"steps": 7}).epochs is None
    assert config.updated({"model": "logreg"}).layers is None
    assert config.updated({"widths": (3,)}).layers is None
    assert config.updated({"seed": 3}).layers == LAYERS


def test_a_new_precision_is_that_of_tangents_too():
    config = RunConfig(precision="bf16x3", tangent_precision="bf16")
    assert config.updated({"precision": "bf16x2"}) == RunConfig(precision="bf16x2")
    assert config.updated({"seed": 1}).tangent_precision == "bf16"
    both = {"precision": "bf16x2", "tangent_precision": "bf16"}
    assert config.updated(both).tangent_precision == "bf16"


def test_the_run_table_is_no_setting(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("steps = 3\n[run]\ndiverged_at_step = 2\nversion = '9.9'\n")
    # A run of a version that wrote no precision was in float32.
    assert read_settings(path) == {"steps": 3, "precision": "float32"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 0", "steps is 0; a whole number from 1 to 4294967296"),
        ("epochs = 4294967297", "epochs is 4294967297"),
        ("steps = nan", "steps is nan"),
        ("batch_size = 1.0", "batch_size is 1.0"),
        ("directions = false", "directions is False"),
        ("learning_rate = true", "learning_rate is True"),
        (f"learning_rate = 1{'0' * 400}", "learning_rate is a number of 1329 bits; a finite number above 0"),
        (f"seed = 0x{'f' * 5000}", "seed is a number of 20000 bits"),
        (f"seed = {'9' * 5000}", "Exceeds the limit"),
        ("decay = inf", "decay is inf"),
        ("momentum = -0.1", "momentum is -0.1"),
        ("data = ''", "data is ''; text is required"),
        ("direction = ['rank1']", "unknown direction ['rank1']"),
        ("data = 2020-01-01", "data is datetime.date"),
        ("a = " + "[" * 5000, "brackets are nested too deeply"),
        ("a = 1\na = 2", "overwrite"),
    ],
)
def test_refused_with_the_name_of_the_file(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_toml(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_a_byte_order_mark_is_no_setting(tmp_path, mark):
    path = tmp_path / "settings.toml"
    path.write_bytes(mark + "# é\nsteps = 3\n".encode())
    assert read_settings(path) == {"steps": 3}
    model = tmp_path / "model.toml"
    model.write_bytes(mark + b"[[layers]]\ntype = 'dense'\nunits = 'classes'\n")
    tables, _ = written_model(RunConfig(model=str(model)), 3)
    assert tables == [{"type": "dense", "units": "classes"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_text_of_another_encoding_is_one_line(tmp_path, encoding):
    path = tmp_path / "settings.toml"
    path.write_bytes("# é\nsteps = 3\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"settings\.toml: .*") as caught:
        RunConfig.from_toml(path)
    assert len(str(caught.value).splitlines()) == 1


def test_names_and_limits_that_are_written_without_the_library_are_its_own():
    """Options are checked before the library is imported, from lists of their own."""
    assert tuple(BY_NAME) == configuration.DIRECTIONS
    assert (*optimizers.OPTIMIZERS, optimizers.AUTO) == configuration.OPTIMIZERS
    assert configuration.MAX_DIRECTIONS == philox.MAX_DIRECTIONS
    assert configuration.MAX_STEPS == philox.MAX_STEP + 1
    assert ("auto", *DEVICES) == device.NAMES
    assert set(configuration.PRECISIONS) == {AUTO, *PRECISIONS, *instructions.PRECISIONS}
    assert {layer.__name__ for layer in LAYER_TABLES.values()} == set(layers.__all__) - {
        *("Composite", "Layer", "Perturbation", "Shape", "Site")
    }
    helps = {option.name: option.help for option in train.params if isinstance(option, click.Option)}
    for name, listed in (
        ("direction", configuration.DIRECTIONS),
        ("optimizer", configuration.OPTIMIZERS),
        ("device", device.NAMES),
        ("precision", configuration.PRECISIONS),
        ("model", presets.NAMES),
    ):
        assert not [one for one in listed if not re.search(rf"\b{one}\b", helps[name] or "")], name


def test_no_momentum_is_kept_of_a_run_whose_estimator_has_one_by_default(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        'estimator = "subspace-gauss-newton"\nmomentum = 0.0\n[run]\nversion = "0.1"\n', encoding="utf-8"
    )
    assert RunConfig.from_toml(path).momentum == 0
