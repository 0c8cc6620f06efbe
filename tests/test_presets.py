"""Models by name and as tables, and the default learning rate."""

import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from fgnumba.kernels.philox import MAX_COLUMNS
from fgnumba.presets import NAMES, default_learning_rate, layers_from, tables


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 2, 10])
def test_every_named_model_is_a_classifier_of_images(name, classes):
    model = fg.Sequential(layers_from(tables(name, classes), classes, name), (8, 8, 1))
    assert model.output_shape == (classes,)


def test_logistic_regression_has_one_layer():
    assert layers_from(tables("logreg", 10), 10, "") == [fg.Flatten(), fg.Dense(10)]


def test_widths_are_hidden_layers():
    layers = layers_from(tables("mlp", 10, widths=(7, 5)), 10, "")
    assert [layer.units for layer in layers if isinstance(layer, fg.Dense)] == [7, 5, 10]


def test_tables_say_all_of_a_layer():
    table = {"type": "dense", "units": "classes", "activation": "gelu", "bias": False}
    assert layers_from([table], 3, "net") == [fg.Dense(3, activation="gelu", bias=False)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": []}, "type is []"),
        ({"units": 10}, "type is None"),
        ({"type": "dense", "units": 10, "activation": ["relu"]}, "activation is ['relu']; a single value"),
        ({"type": "dense", "units": 10, "bias": {}}, "bias is {}"),
        ({"type": "dense", "units": 10, "bias": 1}, "bias is 1; true or false"),
        ({"type": "dense", "units": True}, "units is True"),
        ({"type": "dense", "units": MAX_COLUMNS + 1}, f"at most {MAX_COLUMNS} are possible"),
        ({"type": "flatten", "units": 10}, "unknown key 'units'"),
    ],
)
def test_impossible_tables(table, message):
    with pytest.raises(ConfigError) as caught:
        layers_from([table, {"type": "dense", "units": 10}], 10, "net")
    assert str(caught.value).startswith("net: layers[0]")
    assert message in str(caught.value)


def test_a_model_ends_in_a_class_each():
    for last in ([], [{"type": "flatten"}], [{"type": "dense", "units": 9}]):
        with pytest.raises(ConfigError, match="the last layer must be dense with 10 units"):
            layers_from(last, 10, "net")


def test_default_learning_rate():
    assert default_learning_rate(2410, 64) == pytest.approx(0.16 * 2410**0.5 * 64 / 2475, rel=1e-14)
    assert default_learning_rate(2410, 64, 0.9) == pytest.approx(default_learning_rate(2410, 64) / 10)
    assert default_learning_rate(10**6, 16) < default_learning_rate(10**6, 17)
