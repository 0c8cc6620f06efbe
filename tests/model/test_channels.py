"""Images whose channels seem to come first: refused where a layer would take them for rows, and built where meant."""

from typing import Any

import pytest

import fgnumba as fg
from fgnumba.runs.presets import model_from, tables

FIRST = [(1, 28, 28), (3, 32, 32), (1, 8, 8)]
LAYERS = [fg.Conv2d(2, 3, padding="same"), fg.Flatten(), fg.Dense(3)]


@pytest.mark.parametrize("shape", FIRST)
@pytest.mark.parametrize(
    "layer", [fg.Conv2d(2, 3, padding="same"), fg.MaxPool2d((1, 2)), fg.AvgPool2d((1, 2))]
)
def test_a_sequence_asks_whether_the_channels_come_last(shape, layer):
    channels, height, width = shape
    with pytest.raises(fg.ShapeError) as caught:
        fg.Sequential([fg.Activation("relu"), layer, fg.Flatten(), fg.Dense(3)], shape)
    message = str(caught.value)
    assert message.startswith(f"input_shape is {shape}; do the channels come first?")
    assert f"as ({height}, {width}, {channels})" in message
    assert "fgnumba.Graph" in message


@pytest.mark.parametrize("shape", FIRST)
def test_a_graph_is_the_way_out(shape):
    nodes = [fg.Node(str(index), layer) for index, layer in enumerate(LAYERS)]
    assert fg.Graph(nodes, shape).input_shape == shape


@pytest.mark.parametrize("shape", [(28, 28, 1), (3, 32, 16), (2, 8, 8), (3, 4, 4), (8, 8, 8)])
def test_other_shapes_are_built(shape):
    assert fg.Sequential(LAYERS, shape).input_shape == shape


@pytest.mark.parametrize("shape", FIRST)
def test_a_perceptron_reads_pixels_in_any_order(shape):
    assert fg.Sequential([fg.Flatten(), fg.Dense(3)], shape).outputs == 3


def test_named_models_ask_and_saved_runs_are_read():
    with pytest.raises(
        fg.ShapeError, match=r"model cnn: input_shape is .3, 32, 32.; do the channels come first"
    ):
        model_from(tables("cnn", 3), 3, "model cnn", (3, 32, 32))
    written: list[dict[str, Any]] = [
        {"type": "conv2d", "filters": 2, "padding": "same"},
        {"type": "flatten"},
        {"type": "dense", "units": 3},
    ]
    model = model_from(written, 3, "config.toml", (3, 8, 8), saved=True)
    assert set(model.parameters()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
