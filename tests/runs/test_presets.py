"""Models by name and as tables, and the default learning rate."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError, ShapeError
from fgnumba.estimators import recipe
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.runs.assembly import assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.presets import NAMES, layers_from, model_from, tables
from fgnumba.training.defaults import default_learning_rate
from tests import tolerances


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (5, 7, 2)], ids=str)
def test_every_named_model_is_a_classifier_of_images(name, classes, shape):
    model = model_from(tables(name, classes), classes, name, shape)
    assert model.output_shape == (classes,)
    assert model(np.zeros((2, *shape))).shape == (2, classes)


def test_the_convolutional_network_is_the_papers():
    model = model_from(tables("cnn", 10), 10, "cnn", (28, 28, 1))
    weights = [p.shape for p in model.packed_parameters.values() if len(p.shape) > 1]
    assert weights == [(3, 3, 1, 64), *[(3, 3, 64, 64)] * 3, (3136, 1024), (1024, 10)]


def test_the_network_for_colour_images_has_no_parameters_between_its_convolutions():
    model = model_from(tables("vgg", 10), 10, "vgg", (32, 32, 3))
    weights = [p.shape for p in model.packed_parameters.values() if len(p.shape) > 1]
    assert weights == [(3, 3, 3, 64), (3, 3, 64, 128), (3, 3, 128, 256), (1024, 10)]
    assert model.parameter_count == sum(np.prod(shape) + shape[-1] for shape in weights)


def test_widths_are_filters():
    layers = layers_from(tables("vgg", 10, widths=(8, 16)), 10, "")
    assert [layer.filters for layer in layers if isinstance(layer, fg.Conv2d)] == [8, 16]
    with pytest.raises(ConfigError, match="widths: model 'cnn' has no hidden layers to choose"):
        tables("cnn", 10, widths=(8, 16))


def test_the_network_for_colour_images_learns_them_by_local_losses():
    rng, labels = np.random.default_rng(3), np.arange(96) % 3
    # Noise, to which the colour of its class is added.
    images = rng.random((96, 8, 8, 3), np.float32) + np.eye(3, dtype=np.float32)[labels][:, None, None]
    data = fg.datasets.Dataset("colours", images[:72], labels[:72], images[72:], labels[72:], classes=3)
    ready = assemble(RunConfig(model="vgg", device="cpu", steps=30, batch_size=24), data)
    feedback = fg.Feedback(rate=1.0, control=0.0, cells=4, every=4)
    assert ready.trainer.estimator == fg.ActivityPerturbation(
        feedback=feedback, local=fg.LocalLosses(cells=4)
    )
    history = ready.trainer.fit(data, steps=30, batch_size=24, augment=augmentation_of("flip,crop:1"))
    assert history.final.test_accuracy == 1
    # Another model has the recipe's own.
    other = recipe("local-feedback").build("local-feedback", None, None, "cnn")
    own = fg.Feedback(rate=1.0, control=0.0, every=8, warmup=64, follow=True)
    assert other == fg.ActivityPerturbation(feedback=own, local=fg.LocalLosses())


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("cnn", (64,), "cnn: layers[0]: Conv2d: the input's shape is (64,); an image (H, W, C) is required"),
        (
            "cnn",
            (3, 8, 1),
            "cnn: layers[5]: MaxPool2d: the input's shape is (1, 4, 64); its window covers 2 x 2 pixels",
        ),
        ("resnet", (64,), "resnet: layer 'stem': Conv2d: the input's shape is (64,)"),
    ],
)
def test_images_that_a_model_cannot_take(name, shape, message):
    with pytest.raises(ShapeError) as caught:
        model_from(tables(name, 10), 10, name, shape)
    assert message in str(caught.value)


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
        ({"type": "dense", "units": 10, "activation": ["relu"]}, "unknown activation ['relu']"),
        ({"type": "dense", "units": 10, "bias": {}}, "bias is {}"),
        ({"type": "dense", "units": 10, "bias": 1}, "bias is 1; true or false"),
        ({"type": "dense", "units": True}, "units is True"),
        ({"type": "dense", "units": MAX_COLUMNS + 1}, f"a whole number from 1 to {MAX_COLUMNS}"),
        ({"type": "flatten", "units": 10}, "unknown key 'units'"),
    ],
)
def test_impossible_tables(table, message):
    with pytest.raises(ConfigError) as caught:
        layers_from([table, {"type": "dense", "units": 10}], 10, "net")
    assert str(caught.value).startswith("net: layers[0]")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "dense"}, "units is missing"),
        ({"type": "conv2d", "kernel_size": 3}, "filters is missing"),
        ({"type": "conv2d", "filters": 8, "kernel_size": [3, 3, 3]}, "kernel_size is [3, 3, 3]"),
        ({"type": "conv2d", "filters": 8, "padding": "full"}, "padding is 'full'"),
        ({"type": "conv2d", "filters": 8, "groups": 3}, "8 filters cannot be cut into 3 equal groups"),
        ({"type": "max_pool2d", "pool_size": 2, "padding": 2}, "padding is 2; less than the window, 2 x 2"),
        ({"type": "dropout", "rate": 1.0}, "rate is 1.0"),
        ({"type": "group_norm", "epsilon": 0}, "epsilon is 0"),
        ({"type": "layer_norm", "epsilon": 1e-40}, "epsilon is 1e-40; at least 7.9e-31 is required"),
        ({"type": "conv3d"}, "type is 'conv3d' (did you mean 'conv2d'?)"),
    ],
)
def test_impossible_layers(table, message):
    with pytest.raises(ConfigError) as caught:
        layers_from([table], 10, "net")
    assert message in str(caught.value)


def test_tables_with_names_are_a_graph():
    written: list[Any] = [
        {"name": "a", "type": "conv2d", "filters": 4, "padding": [[1, 1], [0, 2]]},
        {"name": "b", "type": "conv2d", "filters": 4, "kernel_size": [1, 3], "padding": "same"},
        {"type": "add", "inputs": ["a", "b"]},
        {"type": "flatten"},
        {"name": "head", "type": "dense", "units": "classes"},
    ]
    model = model_from(written, 3, "net", (5, 5, 1))
    assert [node.name for node in model.nodes] == ["a", "b", "2", "3", "head"]
    assert model.nodes[2].inputs == ("a", "b")
    assert model.output_shape == (3,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inputs": ["nowhere"]}, "layer 'head' reads 'nowhere', but no earlier layer has that name"),
        ({"inputs": []}, "inputs is []; the name of a layer, or a list of names, is required"),
        ({"inputs": ["a", "input"]}, "layer 'head': Dense is given 2 inputs (a, input); it takes 1"),
        ({"inputs": "input"}, "layer 'a' feeds no other layer"),
        ({"name": "a"}, "layer 'a': the name is taken"),
        ({"name": "a.b"}, "name is 'a.b'; letters, digits, _ and - are required"),
    ],
)
def test_impossible_wiring(table, message):
    written: list[Any] = [
        {"name": "a", "type": "dense", "units": 4},
        {"name": "head", "type": "dense", "units": 3} | table,
    ]
    with pytest.raises(ConfigError) as caught:
        model_from(written, 3, "net", (5,))
    assert message in str(caught.value)


def test_a_model_ends_in_a_number_a_class():
    for last, shape in (({"type": "dense", "units": 9}, "(9,)"), ({"type": "layer_norm"}, "(5, 5, 1)")):
        with pytest.raises(ConfigError) as caught:
            model_from([last], 10, "net", (5,) if last["type"] == "dense" else (5, 5, 1))
        assert f"net: the output's shape is {shape}; (10,), one number a class" in str(caught.value)


def test_default_learning_rate():
    tolerances.EXACT_SCHEDULE.check(default_learning_rate(2410, 64), 0.08 * 2410**0.5 * 64 / 2475)
    tolerances.COUNTED.check(default_learning_rate(2410, 64, 0.9), default_learning_rate(2410, 64) / 10)
    assert default_learning_rate(10**6, 16) < default_learning_rate(10**6, 17)
