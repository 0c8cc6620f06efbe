"""Activations and layers that are made of functions: values, derivatives, where they may stand, what is refused."""

import copy
import json
import math
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.errors import CodeError, ConfigError
from fgnumba.functions.scalar_names import ARITY, FUNCTIONS
from fgnumba.functions.scalar_source import values
from fgnumba.layers.tables import layer_of, table_of
from fgnumba.objects.code import EVERYTHING, trusting
from tests import own_functions, tolerances_own_activations
from tests.places import ROOT


def at(activation, *z):
    """Return a(z) and a'(z) as the rule computes them in Python."""
    with np.errstate(all="ignore"):
        return np.transpose([activation.rule(np.float32(one)) for one in z])


def test_it_is_the_activation_of_the_same_formula():
    x = np.random.default_rng(0).standard_normal((33, 9)).astype(np.float32)
    own, ours = (
        fg.Sequential([fg.Dense(40, activation=one), fg.Dense(3)], 9, seed=1, device="cpu")
        for one in (fg.activation(own_functions.swish), "silu")
    )
    tolerances_own_activations.SAME_FORMULA.check(own(x), ours(x))
    loss, targets = fg.MeanSquaredError(), np.zeros((33, 3), np.float32)
    v = fg.directions.Gaussian(seed=1, step=0)
    (_, found), (_, right) = (fg.jvp(model, loss, x, targets, v) for model in (own, ours))
    tolerances_own_activations.SAME_FORMULA.check(found, right)


@pytest.mark.parametrize("layer", ["activation", "elementwise", "dense", "conv2d", "add"])
def test_it_may_stand_wherever_an_activation_may(layer):
    own = fg.activation(own_functions.swish)
    places: dict[str, Any] = {
        "activation": lambda a: [fg.Conv2d(4, 3), fg.MaxPool2d(2), fg.Activation(a)],
        "elementwise": lambda a: [
            fg.Conv2d(4, 3),
            fg.MaxPool2d(2),
            fg.layers.Elementwise(own_functions.swish) if a is own else fg.Activation(a),
        ],
        "dense": lambda a: [fg.Flatten(), fg.Dense(8, activation=a)],
        "conv2d": lambda a: [fg.Conv2d(5, 3, activation=a)],
        "add": lambda a: [],
    }
    x = np.random.default_rng(1).standard_normal((6, 8, 8, 2)).astype(np.float32)
    models = []
    for activation in (own, "silu"):
        if layer == "add":
            nodes = [
                fg.Node("a", fg.Conv2d(3, 3)),
                fg.Node("b", fg.Conv2d(3, 3), ("input",)),
                fg.Node("sum", fg.Add(activation), ("a", "b")),
            ]
            models.append(fg.Graph(nodes, (8, 8, 2), seed=2, device="cpu"))
        else:
            models.append(fg.Sequential(places[layer](activation), (8, 8, 2), seed=2, device="cpu"))
    tolerances_own_activations.SAME_FORMULA.check(models[0](x), models[1](x))


@pytest.mark.parametrize("name", ["feedback", "activity", "weight-perturbation", "local-feedback", "spsa"])
def test_every_family_of_estimators_trains_with_it(name):
    digits = fg.datasets.load("digits")
    finals = []
    for activation in (fg.activation(own_functions.swish), "silu"):
        model = fg.Sequential(
            [fg.Flatten(), fg.Dense(32, activation=activation), fg.Dense(10)], (8, 8, 1), device="cpu"
        )
        trainer = fg.Trainer(model, estimator=name, optimizer=fg.Adam(1e-3))
        finals.append(trainer.fit(digits, steps=20).final.loss)
    tolerances_own_activations.TRAINED.check(finals[0], finals[1])


@pytest.mark.parametrize(
    ("function", "z", "value", "slope"),
    [
        (lambda z: abs(z), 0.0, 0.0, 1.0),
        (lambda z: max(z, 0.0), 0.0, 0.0, 0.5),
        (lambda z: min(z, 0.0), 0.0, 0.0, 0.5),
        (lambda z: z if z > 0 else 0.0, 0.0, 0.0, 0.0),
        (lambda z: math.sqrt(z), 0.0, 0.0, math.inf),
        (lambda z: z**0, 0.0, 1.0, 0.0),
        (lambda z: math.floor(z), 1.5, 1.0, 0.0),
        (lambda z: z // 2 + z % 2, 5.0, 3.0, 1.0),
        (lambda z: 3.0, 2.0, 3.0, 0.0),
        (lambda z: (z > 0) * z, -1.0, 0.0, 0.0),
        (lambda z: z if not (z < 0 or z > 2) else 2 * z, 1.0, 1.0, 1.0),
        (lambda z: 2.0**z, 3.0, 8.0, 8 * math.log(2)),
        (lambda z: math.copysign(2.0, z) * z, -3.0, 6.0, -2.0),
    ],
)
def test_values_and_slopes_at_kinks_are_those_of_the_branch_taken(function, z, value, slope):
    found = at(fg.activation(function), z)[:, 0]
    tolerances_own_activations.ONE_OPERATION.check(found, [value, slope])


def test_a_product_of_zero_and_infinity_is_zero_where_the_formula_overflows():
    activation = fg.activation(own_functions.swish)
    value, slope = at(activation, -1e4, -100.0, -89.0, 100.0)
    tolerances_own_activations.UNDERFLOWN.check(value, [0, 0, 0, 100])
    tolerances_own_activations.UNDERFLOWN.check(slope, [0, 0, 0, 1])


@pytest.mark.parametrize("name", own_functions.FUNCTIONS)
def test_each_derivative_is_that_of_the_one_before(name):
    activation = fg.activation(own_functions.FUNCTIONS[name])
    graph, z, step = activation.graph, np.linspace(-3.03, 3.01, 200), 1e-5
    second = graph.derivative(activation.outputs[1])
    expected = []
    for node in (activation.outputs[1], second):
        after, before = values([node], z + step)[0], values([node], z - step)[0]
        expected.append((after - before) / (2 * step))
    with np.errstate(all="ignore"):
        found = np.transpose(
            [activation.curvature(one, *activation.rule(one)) for one in z.astype(np.float32)]
        )
    for bend, right in zip(found, expected, strict=True):
        smooth = np.abs(right) < 1000
        tolerances_own_activations.DIFFERENCED.check(bend[smooth], right[smooth])


def test_a_laplacian_goes_through_it():
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    own, ours = (
        fg.Sequential([fg.Dense(12, one), fg.Dense(1)], 3, seed=1, device="cpu")
        for one in (fg.activation(own_functions.swish), "silu")
    )
    tolerances_own_activations.SAME_FORMULA.check(fg.laplacian(own)(x), fg.laplacian(ours)(x))


def test_a_function_is_written_again_where_its_constants_change(monkeypatch):
    first = fg.activation(own_functions.scaled)
    assert fg.activation(own_functions.scaled) == first
    assert fg.Dense(3, activation=first) == fg.Dense(3, activation=fg.activation(own_functions.scaled))
    factor = 2.0

    def times(z):
        return factor * z

    once = fg.activation(times)
    factor = 3.0
    again = fg.activation(times)
    assert once != again
    assert (at(once, 1.0)[0, 0], at(again, 1.0)[0, 0]) == (2.0, 3.0)


def test_copies_are_the_same_activation():
    activation = fg.activation(own_functions.swish)
    layer = fg.Dense(3, activation=activation)
    for copied in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied == layer
        kept: Any = copied.activation
        assert kept.rule is activation.rule
    assert (
        repr(layer)
        == "Dense(units=3, activation=fg.activation(tests.own_functions:swish), bias=True, deviation=None)"
    )
    assert activation(2.0) == own_functions.swish(2.0)
    assert "def activation_swish(z):" in activation.tangent_source()


def test_a_layer_of_a_function_is_fused_into_the_one_before():
    model = fg.Sequential(
        [fg.Dense(4), fg.layers.Elementwise(own_functions.swish), fg.Dense(2)], 3, device="cpu"
    )
    rows = model.plan(5, fg.directions.RankOne.kind, 1).rows
    assert [row.layer for row in rows][:2] == ["0+1", "2"]
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    loss, y = fg.MeanSquaredError(), np.zeros((5, 2), np.float32)
    other = fg.Sequential([fg.Dense(4, "silu"), fg.Dense(2)], 3, device="cpu")
    names = zip(other.parameters(), model.parameters().values(), strict=True)
    other.load_parameters(dict(names))
    gradients = [list(reverse.value_and_grad(one, loss, x, y)[1].values()) for one in (model, other)]
    for found, right in zip(*gradients, strict=True):
        tolerances_own_activations.SAME_FORMULA.check(found, right)
    directions = {name: np.ones_like(array) for name, array in model.parameters().items()}
    derivative = fg.jvp(model, loss, x, y, directions)[1]
    tolerances_own_activations.SUMMED.check(derivative, sum(one.sum() for one in gradients[0]))


def test_a_model_says_its_name():
    model = fg.Sequential(
        [
            fg.Dense(3, activation=fg.activation(own_functions.swish)),
            fg.layers.Elementwise(own_functions.selu),
        ],
        4,
    )
    assert re.search(r"Dense swish +3 ", model.summary())
    assert re.search(r"Elementwise selu +3 ", model.summary())


def test_a_saved_model_names_its_functions_and_is_loaded_where_they_are_trusted(tmp_path):
    layers = [
        fg.Dense(3, activation=fg.activation(own_functions.swish)),
        fg.layers.Elementwise(own_functions.selu),
        fg.Activation(own_functions.softened),
    ]
    model = fg.Sequential(layers, 4, device="cpu")
    path = tmp_path / "m.safetensors"
    model.save(path)
    names = [f"tests.own_functions:{name}" for name in ("swish", "selu", "softened")]
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_array_equal(fg.load(path, "cpu", trust_code=names)(x), model(x))
    with pytest.raises(
        CodeError, match=r"^.*m\.safetensors: layers\[2\]: activation is 'tests.own_functions:softened'"
    ):
        fg.load(path, trust_code=names[:2])
    with pytest.raises(CodeError, match=r"trust_code='tests.own_functions:swish'"):
        fg.load(path)


def test_a_table_names_only_what_can_be_imported():
    layer = fg.layers.Elementwise(own_functions.scaled)
    table = table_of(layer)
    assert table == {"type": "elementwise", "function": "tests.own_functions:scaled"}
    with trusting([EVERYTHING]):
        assert layer_of(json.loads(json.dumps(table)), "here") == layer
        with pytest.raises(ConfigError, match=r"^here: activation is 'math:pi', which is 3.14"):
            layer_of({"type": "dense", "units": 3, "activation": "math:pi"}, "here")

    def inner(z):
        return z

    with pytest.raises(ConfigError, match=r"^the activation inner cannot be imported by a name"):
        table_of(fg.layers.Elementwise(inner))


def test_a_table_names_layers_of_ones_own():
    with trusting([EVERYTHING]):
        layer = layer_of({"type": "tests.testing.own_layer:ScaleShift"}, "here")
        assert type(layer).__name__ == "ScaleShift"
        assert table_of(layer) == {"type": "tests.testing.own_layer:ScaleShift"}
        for wrong in ("tests.own_functions:swish", "math:pi"):
            with pytest.raises(ConfigError, match=f"^here: type is '{wrong}', which is .* is required$"):
                layer_of({"type": wrong}, "here")
        with pytest.raises(ConfigError, match=r"here: unknown key 'units'"):
            layer_of({"type": "tests.testing.own_layer:ScaleShift", "units": 3}, "here")
    with pytest.raises(CodeError, match=r"^here: type is 'tests.testing.own_layer:ScaleShift', code that"):
        layer_of({"type": "tests.testing.own_layer:ScaleShift"}, "here")


def test_every_function_has_a_rule():
    for function, name in FUNCTIONS.items():
        graph, node = _of(name)
        assert graph is not None
        assert np.isfinite(values([node], np.array([0.5]))[0]) or name == "arccosh", function


def _of(name):
    from fgnumba.functions.scalar_graph import Graph
    from fgnumba.layers import own_activation

    graph = Graph(False, 100, lambda: None)
    arguments = [graph.argument, graph.number(1.75)][: ARITY.get(name, 1)]
    node = graph.call(name, *arguments)
    text = own_activation.source_of("activation_of_one", (node, graph.derivative(node)))
    assert own_activation._compiled("activation_of_one", text) is not None
    return graph, node


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
import fgnumba as fg
from fgnumba.kernels.machine.compile import on_compile
from tests.own_functions import swish
compiled = []
on_compile(compiled.append)
model = fg.Sequential([fg.Dense(5, activation=fg.activation(swish))], 3, device="cpu")
model(np.zeros((2, 3), np.float32))
print(len([name for name in compiled if "swish" in name]))
"""


def test_its_kernels_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT)), encoding="utf-8")
    found = [
        subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert found == ["1", "0"]
