"""Layers that are functions of one example and of parameters, against float64 and beside the layers of the library."""

import copy
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.layers import Function
from fgnumba.layers.tables import layer_of, table_of
from fgnumba.objects.code import trusting
from fgnumba.testing import check_layer
from tests import functions_of_examples, tolerances
from tests.places import ROOT
from tests.tolerances_function_layers import TRAINED

DIGITS = fg.datasets.load("digits")
SHAPES = {"weight": (16, 10), "bias": (10,)}


def test_it_passes_the_check_where_its_input_is_changed_in_place():
    check_layer(
        Function(functions_of_examples.in_place, {"scale": (7,)}),
        7,
        lambda x, scale: scale * x,
        tolerance=tolerances.CHECKED_LAYER,
    )


def test_parameters_begin_as_they_are_given():
    layer = Function(
        functions_of_examples.affine,
        {"weight": lambda rng: rng.uniform(1, 2, (4, 3)), "bias": np.array([1.0, -2.0, 3.0])},
    )
    model = fg.Sequential(
        [layer, Function(functions_of_examples.affine, {"weight": (3, 2), "bias": 0.5})], 4, seed=1
    )
    found = model.parameters()
    assert found["0.bias"].tolist() == [1.0, -2.0, 3.0]
    assert found["0.weight"].shape == (4, 3)
    assert found["0.weight"].min() >= 1
    assert found["1.bias"].tolist() == [0.5]
    assert 0 < np.abs(found["1.weight"]).max() < 4
    assert {name: v.tolist() for name, v in found.items()} == {
        name: v.tolist() for name, v in copy.deepcopy(model).parameters().items()
    }
    assert "Function" in model.summary()
    assert model.parameter_count == 4 * 3 + 3 + 3 * 2 + 1


def test_a_shape_is_that_of_a_call_with_zeros():
    assert Function(functions_of_examples.energy).output_shape((4, 3)) == (1,)
    assert Function(functions_of_examples.patches, {"weight": (2, 2, 3, 5)}).output_shape((8, 6, 3)) == (
        4,
        3,
        5,
    )


def model_of(own, seed=0):
    if own:
        layers = [fg.Flatten(), fg.Dense(16, "tanh"), Function(functions_of_examples.affine, SHAPES)]
    else:
        layers = [fg.Flatten(), fg.Dense(16, "tanh"), fg.Dense(10)]
    return fg.Sequential(layers, (8, 8, 1), seed=seed, device="cpu")


def trained(own, estimator, steps=6):
    model = model_of(own)
    model.load_parameters(model_of(False, 3).parameters())
    trainer = fg.Trainer(model, loss="cross-entropy", estimator=estimator, optimizer=fg.Adam(3e-3))
    return trainer.fit(DIGITS.x_train[:70], DIGITS.y_train[:70], steps=steps, batch_size=35).final.loss


@pytest.mark.parametrize(
    "estimator",
    [
        *(
            fg.WeightPerturbation(kind, directions=3)
            for kind in ("rank1", "orthogonal", "rademacher", "gaussian")
        ),
        *("projected", "control-variate", "spsa", "hybrid", "feedback", "activity"),
    ],
    ids=str,
)
def test_an_affine_function_trains_as_a_dense_layer_does(estimator):
    TRAINED.check(trained(True, estimator), trained(False, estimator))


def test_hidden_layers_get_gradients_from_noise():
    """Of activity perturbation with noise on the function's own outputs, and on images."""

    def made(own):
        hidden: list[Any]
        if own:
            hidden = [Function(functions_of_examples.patches, {"weight": (2, 2, 1, 3)})]
        else:
            hidden = [fg.Conv2d(3, 2, stride=2, bias=False)]
        layers = [*hidden, fg.Activation("relu"), fg.Flatten(), fg.Dense(10)]
        return fg.Sequential(layers, (8, 8, 1), seed=1, device="cpu")

    found = []
    for own in (True, False):
        model = made(own)
        model.load_parameters(made(False).parameters())
        trainer = fg.Trainer(model, estimator="activity", optimizer=fg.SGD(1e-2), seed=2)
        found.append(trainer.estimate(DIGITS.x_train[:30], DIGITS.y_train[:30])["0.weight"])
    tolerances.ALONG_NOISE.check(found[0], found[1])


def test_a_function_without_parameters_carries_noise_on():
    layers = [fg.Flatten(), fg.Dense(12), Function(functions_of_examples.shifted), fg.Dense(10)]
    beside = [fg.Flatten(), fg.Dense(12), fg.Activation("softplus"), fg.Dense(10)]
    found = []
    for chosen in (layers, beside):
        model = fg.Sequential(chosen, (8, 8, 1), seed=1, device="cpu")
        trainer = fg.Trainer(model, estimator="feedback", optimizer=fg.Adam(3e-3))
        history = trainer.fit("digits", steps=300)
        found.append(history.final.test_accuracy)
    assert min(found) > 0.8


def test_it_trains_the_digits_from_a_notebook():
    cell = "import numpy as np\ndef layer(x, scale, shift):\n    return np.tanh(scale * x) + shift\n"
    space = {"__name__": "__main__"}
    exec(cell, space)
    layer = Function(space["layer"], {"scale": np.ones(32), "shift": (32,)})
    model = fg.Sequential([fg.Flatten(), fg.Dense(32), layer, fg.Dense(10)], (8, 8, 1), device="cpu")
    trainer = fg.Trainer(model, estimator="feedback", optimizer=fg.Adam(3e-3))
    history = trainer.fit("digits", steps=300)
    assert history.final.test_accuracy > 0.85
    with pytest.raises(
        fg.ConfigError, match=r"layer .*cannot be imported by a name, and a file cannot"
    ) as raised:
        model.save("nowhere")
    assert "\n" not in str(raised.value)


def test_models_are_saved_and_read_by_who_trusts_the_code(tmp_path):
    model, file = model_of(True), tmp_path / "model.safetensors"
    model.save(file)
    with pytest.raises(fg.FgError, match="runs only if you trust it"):
        fg.load(file)
    with trusting(["tests.functions_of_examples:affine"]):
        found = fg.load(file, device="cpu")
    x = DIGITS.x_test[:5]
    assert found(x).tobytes() == model(x).tobytes()
    assert found.nodes == model.nodes


def test_a_table_says_all_of_it():
    layer = Function(functions_of_examples.affine, SHAPES)
    table = json.loads(json.dumps(table_of(layer)))
    assert table == {
        "type": "function",
        "function": "tests.functions_of_examples:affine",
        "parameters": {"weight": [16, 10], "bias": [10]},
    }
    with trusting(["tests.functions_of_examples:affine"]):
        assert layer_of(table, "here") == layer
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert layer != Function(functions_of_examples.affine, {"weight": (16, 9), "bias": (10,)})


def test_checkpoints_continue_bit_for_bit(tmp_path):
    data = DIGITS.x_train[:64], DIGITS.y_train[:64]

    def of():
        return fg.Trainer(model_of(True), estimator="weight-perturbation", optimizer=fg.Adam(1e-3))

    whole, first, further = of(), of(), of()
    whole.fit(*data, steps=6, batch_size=32)
    first.fit(*data, steps=4, batch_size=32, checkpoints=fg.Checkpoints(tmp_path, every=2))
    further.fit(*data, steps=6, batch_size=32, checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True)
    for name, values in whole.model.parameters().items():
        assert values.tobytes() == further.model.parameters()[name].tobytes()


@pytest.mark.parametrize("name", ["fails", "of_two_shapes"])
def test_a_function_that_fails_or_changes_shape_gives_nan_and_a_step_names_the_layer(name):
    layer = Function(getattr(functions_of_examples, name))
    model = fg.Sequential([fg.Dense(2), layer, fg.Dense(2)], 2, device="cpu")
    identity = {"0.weight": np.eye(2), "0.bias": np.zeros(2)}
    model.load_parameters({**model.parameters(), **identity})
    good, bad = np.full((1, 2), -1, np.float32), np.ones((1, 2), np.float32)
    if name == "fails":
        assert np.isfinite(model(good)).all()
        assert np.isnan(model(np.concatenate([good, bad]))).tolist() == [[False] * 2, [True] * 2]
    trainer = fg.Trainer(model, estimator="weight-perturbation", optimizer=fg.SGD(1e-3))
    with pytest.raises(fg.DivergenceError, match=r"layer 1 \(Function\): its primal is the first"):
        trainer.step(bad, np.array([0]))


@pytest.mark.parametrize("function", [functions_of_examples.larger, functions_of_examples.ranks])
def test_whole_numbers_and_truth_values_have_the_derivative_zero(function):
    model = fg.Sequential([fg.Dense(3), Function(function)], 4, device="cpu")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    y, dy = fg.jvp(model, (x,), (np.ones_like(x),))
    expected = [np.reshape(function(z), -1) for z in fg.Sequential([fg.Dense(3)], 4, device="cpu")(x)]
    np.testing.assert_array_equal(y, expected)
    assert not dy.any()


def _any(value: Any) -> Any:
    """Return a value of which the type checker knows nothing."""
    return value


REFUSED: dict[str, Any] = {
    "no function": (lambda: Function(_any(3)), "Function: function is 3; "),
    "arguments": (
        lambda: Function(functions_of_examples.affine, {"weight": (2, 2)}),
        "takes 3 arguments; 2 are required",
    ),
    "parameters": (lambda: Function(functions_of_examples.swish, _any([1])), "parameters is .*a mapping"),
    "name": (lambda: Function(functions_of_examples.swish, {"1": (2,)}), "the name '1'; a word is required"),
    "shape": (
        lambda: Function(functions_of_examples.swish, {"beta": (0,)}),
        "parameters\\['beta'\\] is 0; a whole number",
    ),
    "dimensions": (lambda: Function(functions_of_examples.swish, {"beta": (1,) * 5}), "a shape of 1 to 4"),
    "text": (
        lambda: Function(functions_of_examples.swish, _any({"beta": "ones"})),
        "beta.*an array, a shape, a number",
    ),
    "nan": (lambda: Function(functions_of_examples.swish, {"beta": np.array([np.nan])}), "has nan"),
    "initial": (
        lambda: Function(functions_of_examples.swish, {"beta": lambda rng: 1 / 0}),
        "raised ZeroDivisionError",
    ),
    "initial shape": (
        lambda: Function(
            functions_of_examples.swish, {"beta": lambda rng: rng.random(rng.integers(9) + 1)}
        ).initial_parameters([], np.random.default_rng(1)),
        "returned an array of shape .* before; one shape is required",
    ),
    "memory": (
        lambda: Function(functions_of_examples.swish, {"beta": (1 << 30, 1 << 30)}).output_shape((3,)),
        "swish .*has parameters of 12.0 EiB",
    ),
    "untrusted": (lambda: Function("tests.functions_of_examples:affine"), "runs only if you trust it"),
    "writes": (
        lambda: Function(functions_of_examples.writes_to_a_parameter, {"scale": (3,)}).output_shape((3,)),
        "writes_to_a_parameter .*it writes to a parameter",
    ),
    "raises": (
        lambda: Function(functions_of_examples.always_fails).output_shape((3,)),
        "always_fails .*raised ValueError for zeros of shape \\(3,\\): never",
    ),
    "unknown": (
        lambda: Function(functions_of_examples.unknown, {"y": (1,)}).output_shape((3,)),
        "cannot be compiled: .*nonsense",
    ),
    "no array": (
        lambda: Function(functions_of_examples.text).output_shape((3,)),
        "returned .*; an array of real",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_layer_is_refused_in_one_line(name):
    make, message = REFUSED[name]
    with pytest.raises(fg.FgError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_too_many_dimensions_are_refused():
    with pytest.raises(fg.ShapeError, match="1 to 4 dimensions"):
        Function(functions_of_examples.energy).output_shape((1, 2, 3, 4, 5))


def test_the_reverse_mode_baseline_refuses_it_in_one_line():
    with pytest.raises(fg.ConfigError, match="layer '2': Function has no reverse pass"):
        reverse.value_and_grad(
            model_of(True), fg.SoftmaxCrossEntropy(), DIGITS.x_train[:4], DIGITS.y_train[:4]
        )


CACHED = """
import numpy as np
import fgnumba as fg
from fgnumba.kernels.machine.compile import on_compile
from tests.functions_of_examples import squared, swish

compiled = []
on_compile(compiled.append)
model = fg.Sequential([fg.layers.Function(swish, {"beta": 1.5})], 3, device="cpu")
x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
loss = fg.Loss.from_function(squared)
found = fg.jvp(model, loss, x, y, fg.directions.RankOne(1))
print(found, sorted(name for name in compiled if name.startswith(("function", "own"))))
"""


def test_another_process_finds_the_kernels_on_disk(tmp_path):
    environment = {**os.environ, "FGNUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", CACHED],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    values, names = said[0].split(") ")
    assert names.strip() == "['function-dual', 'function-parameters', 'own-loss']"
    assert said[1] == f"{values}) []\n"
