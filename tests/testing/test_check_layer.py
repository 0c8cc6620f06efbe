"""The check of a layer: every layer of the library passes it, and each fault that a layer can have fails it."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba import layers
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine.threads import most_threads
from fgnumba.testing import check_layer
from tests import functions_of_examples, own_functions, tolerances
from tests.graph_cases import CONVOLUTIONS
from tests.kernels.test_activations import REFERENCES
from tests.references import recurrent_reference as recurrent
from tests.references.graph_reference import correlate, normalized, pooled
from tests.testing.own_layer import FAULTS, ScaleShift, reference


def dense(layer):
    return lambda x, weight, bias=0.0: REFERENCES[layer.activation].value(x @ weight + bias)


def convolution(layer):
    return lambda x, weight, bias=0.0: REFERENCES[layer.activation].value(correlate(x, weight, layer) + bias)


def pool(layer):
    return lambda x: pooled((x, np.zeros((1, *x.shape))), layer, isinstance(layer, fg.MaxPool2d))[0]


def normalization(layer):
    def value(x, **p):
        zeros = {name: np.zeros((1, *array.shape)) for name, array in p.items()}
        groups = getattr(layer, "groups", None)
        return normalized((x, np.zeros((1, *x.shape))), groups, layer.epsilon, p, zeros)[0]

    return value


def sequence(layer):
    return lambda x, **parameters: recurrent.applied(layer, parameters, x)


def of(layer, reference):
    return layer, reference(layer)


CASES = {
    "dense": (*of(fg.Dense(7), dense), 9),
    "dense-wide": (*of(fg.Dense(131, activation="gelu"), dense), 67),
    "dense-relu": (*of(fg.Dense(33, activation="relu", bias=False), dense), 31),
    "dense-one": (*of(fg.Dense(1), dense), 1),
    "filtered": (*of(fg.Conv2d(32, 3, padding="same"), convolution), (9, 8, 16)),
    **{f"conv-{name}": (*of(layer, convolution), (9, 8, 6)) for name, layer in CONVOLUTIONS.items()},
    "max-pool": (*of(fg.MaxPool2d(3, 2, "same"), pool), (7, 6, 5)),
    "average-pool": (*of(fg.AvgPool2d(3, 1, 1), pool), (7, 6, 5)),
    "global-average": (fg.GlobalAveragePool2d(), lambda x: x.mean((1, 2)), (5, 3, 7)),
    "layer-norm": (*of(fg.LayerNorm(1e-2), normalization), (3, 2, 11)),
    "group-norm": (*of(fg.GroupNorm(3, 1e-2), normalization), (3, 5, 6)),
    "layer-norm-alone": (*of(fg.LayerNorm(1e-2, False), normalization), (3, 2, 11)),
    "group-norm-alone": (*of(fg.GroupNorm(3, 1e-2, False), normalization), (3, 5, 6)),
    "activation": (fg.Activation("silu"), REFERENCES["silu"].value, (5, 4, 3)),
    "elementwise": (layers.Elementwise(own_functions.swish), REFERENCES["silu"].value, (5, 4, 3)),
    "add": (fg.Add("tanh"), lambda *x: np.tanh(sum(x)), [(5, 4, 3)] * 3),
    "concatenate": (fg.Concatenate(), lambda *x: np.concatenate(x, axis=-1), [(5, 4, 3), (5, 4, 2)]),
    "function": (
        layers.Function(functions_of_examples.swish, {"beta": 1.5}),
        lambda x, beta: x / (1 + np.exp(-beta * x)),
        (5, 4, 3),
    ),
    "function-matrix": (
        layers.Function(functions_of_examples.affine, {"weight": (67, 35), "bias": (35,)}),
        lambda x, weight, bias: x @ weight + bias,
        67,
    ),
    "function-number": (
        layers.Function(functions_of_examples.energy),
        lambda x: (x**2).sum((1, 2))[:, None] / 2,
        (4, 3),
    ),
    "function-of-images": (
        layers.Function(functions_of_examples.patches, {"weight": (2, 2, 3, 5)}),
        lambda x, weight: np.einsum("bricjm,ijmn->brcn", x.reshape(len(x), 3, 2, 4, 2, 3), weight),
        (6, 8, 3),
    ),
    "rms-norm": (*of(fg.RMSNorm(1e-2), sequence), (3, 2, 11)),
    "rms-norm-alone": (*of(fg.RMSNorm(1e-2, False), sequence), (3, 2, 11)),
    "embedding": (*of(fg.Embedding(5, 33), sequence), 7),
    "elementwise-lstm": (*of(fg.ElementwiseLSTM(33), sequence), (5, 4)),
    "elementwise-lstm-symbols": (*of(fg.ElementwiseLSTM(7, symbols=5), sequence), 6),
    "min-gru": (*of(fg.MinGRU(31), sequence), (7, 3)),
    "linear-recurrent-unit": (*of(fg.LinearRecurrentUnit(33), sequence), (5, 3)),
    "linear-recurrent-unit-real": (*of(fg.LinearRecurrentUnit(5, complex=False), sequence), (7, 2)),
    "lstm": (*of(fg.LSTM(33), sequence), (3, 4)),
    "gru": (*of(fg.GRU(17), sequence), (4, 3)),
    "positional-embedding": (*of(fg.PositionalEmbedding(9), sequence), (7, 33)),
    "rotary-embedding": (*of(fg.RotaryEmbedding(50.0, 3), sequence), (5, 18)),
    "self-attention": (*of(fg.SelfAttention(4, causal=True, bias=True), sequence), (7, 12)),
    "self-attention-grouped": (
        *of(fg.SelfAttention(6, 2, 10, rotary=fg.RotaryEmbedding(100.0), scale=0.5), sequence),
        (5, 7),
    ),
    "self-attention-masked": (*of(fg.SelfAttention(2, mask=np.tri(5, k=-1) > 0), sequence), (5, 6)),
    "flatten": (fg.Flatten(), lambda x: x.reshape(len(x), -1), (5, 4, 3)),
    "dropout": (fg.Dropout(0.4), lambda x: x, (5, 4, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_layer_passes(name):
    layer, reference, shape = CASES[name]
    check_layer(layer, shape, reference, tolerance=tolerances.CHECKED_LAYER)


def test_every_kind_of_layer_is_among_the_cases():
    public = [getattr(layers, name) for name in layers.__all__]
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, layers.Layer)}
    assert {type(layer) for layer, _, _ in CASES.values()} == kinds - {layers.Layer}


@pytest.mark.parametrize("name", ["dense", "filtered", "max-pool", "group-norm", "add"])
def test_a_layer_passes_without_a_reference(name):
    layer, _, shape = CASES[name]
    check_layer(layer, shape)


@pytest.mark.parametrize("name", vector.executable())
def test_a_layer_passes_on_every_instruction_set(name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    for case in ("dense-wide", "filtered", "conv-uneven", "group-norm"):
        layer, reference, shape = CASES[case]
        check_layer(layer, shape, reference, tolerance=tolerances.CHECKED_LAYER)


def test_dropout_passes_while_it_drops():
    check_layer(fg.Dropout(0.4), (5, 4, 3), training=True)
    check_layer(fg.SelfAttention(4, 2, causal=True, dropout=0.3), (7, 12), training=True)


def test_a_layer_of_ones_own_passes():
    check_layer(ScaleShift(), (3, 2, 5), reference)
    check_layer(ScaleShift(), (3, 2, 5))


MESSAGES = {
    "value": r"ScaleShift, 1 examples: value\[.*\] is .*; .* is expected \(error .*, allowed .*\)",
    "slope": r"with a tangent of input 0 and parameters that move: tangent 0\[",
    "no parameter tangent": r"with a tangent of input 0 and parameters that move: tangent 0\[",
    "symbolic zero": r"with a tangent of no input and parameters that move: tangent 0\[",
    "draws": r"rank1 directions drawn by the layer: tangent 0\[",
    "first direction alone": r"parameters that move: tangent 1\[",
    "square of the tangent": r"parameters that move: tangent 0\[",
    "in place": r"input 0 once the layer has run\[",
    "number of the example": r"examples 1 to 1 alone, beside a batch of 13: result\[",
    "what was there": r"run again: result\[",
    "shape": r"output_shape returned array\(.*\); a tuple of whole numbers",
    "ignores the activation": r"with tanh fused into it: value\[",
}


@pytest.mark.parametrize("fault", MESSAGES)
def test_a_fault_fails(fault):
    with pytest.raises(AssertionError, match=MESSAGES[fault]):
        check_layer(ScaleShift(fault), (3, 2, 5), reference)


@pytest.mark.skipif(most_threads() < 2, reason="one thread has all parts")
def test_what_depends_on_the_part_of_a_batch_fails():
    with pytest.raises(
        AssertionError, match=r"examples (on 2 threads beside one|, beside them alone).*result\["
    ):
        check_layer(ScaleShift("number of the part"), (3, 2, 5), reference)


def test_every_fault_is_tried():
    assert set(FAULTS) == {"", "number of the part", *MESSAGES}


@pytest.mark.parametrize("fault", ["no parameter tangent", "symbolic zero", "first direction alone"])
def test_a_fault_of_tangents_fails_without_a_reference(fault):
    with pytest.raises(AssertionError, match="tangent"):
        check_layer(ScaleShift(fault), (3, 2, 5))


class Unseeded(ScaleShift):
    def initial_parameters(self, inputs, generator):
        values = np.random.default_rng().standard_normal(inputs[0][-1]).astype(np.float32)
        return {"scale": values, "shift": values}


class Wide(ScaleShift):
    def initial_parameters(self, inputs, generator):
        return {
            name: values.astype(np.float64)
            for name, values in super().initial_parameters(inputs, generator).items()
        }


class Renamed(ScaleShift):
    def parameter_shapes(self, inputs):
        return {"gain": (int(inputs[0][-1]),)}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unseeded, r"initial parameter 'scale', drawn again from the same seed,\["),
        (Wide, r"initial parameter 'scale' is float64; finite float32 is expected"),
        (Renamed, r"parameter_shapes returned {'gain': \(5,\)}, and initial_parameters has shapes {'scale'"),
    ],
)
def test_what_a_layer_states_is_checked(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_layer(kind(), (3, 2, 5), reference)


def test_a_reference_of_another_shape_is_refused():
    with pytest.raises(
        AssertionError, match=r"the reference has shape \(1, 30\); \(1, 3, 2, 5\) is expected"
    ):
        check_layer(ScaleShift(), (3, 2, 5), lambda x, scale, shift: (x * scale + shift).reshape(len(x), -1))


def test_a_function_without_derivatives_is_refused():
    with pytest.raises(AssertionError, match=r"the function has no derivative at 100% of its outputs"):
        # Parameters and inputs at a kink of every output.
        check_layer(
            fg.Dense(4, activation="relu"),
            3,
            dense(fg.Dense(4, activation="relu")),
            parameters={"weight": np.zeros((3, 4)), "bias": np.zeros(4)},
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": 3}, "layer is 3; a Layer is required"),
        ({"reference": 3}, "reference is 3; a function is required"),
        ({"parameters": 3}, "parameters is 3; a mapping from names to arrays is required"),
        ({"parameters": {"scale": [["a"]]}}, "parameters: 'scale' is .*; an array of numbers is required"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        check_layer(**{"layer": ScaleShift(), "input_shape": 5} | given)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("a", "reference returned 'a'; an array of numbers is expected"),
        ([[1, 2], [3]], "reference returned .*; an array of numbers is expected"),
    ],
)
def test_a_reference_that_returns_something_else_fails(result, message):
    with pytest.raises(AssertionError, match=message):
        check_layer(ScaleShift(), 5, lambda x, scale, shift: result)
