"""Diagnosis of a divergence: it names the layer that failed, and changes nothing.

If the right answer does not follow from how a network is built, it comes from a forward pass in float64.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.estimators import recipe
from tests.recipes import GENERAL
from tests.references import graph_reference

MOST = float(np.finfo(np.float32).max)

# How far float64's values are from the greatest float32: much more than rounding, and partial sums, can make of it.
MARGIN = 4.0

BATCHES = [1, 5, 13]


def diverged(model, x, y, *, estimator=None, optimizer=None, loss=None, steps=1, seed=0):
    """Return the error that training ends with."""
    trainer = fg.Trainer(
        model, estimator=estimator, optimizer=optimizer or fg.SGD(1e-3), loss=loss, seed=seed
    )
    with np.errstate(all="ignore"):
        for _ in range(steps - 1):
            trainer.step(x, y)
        with pytest.raises(fg.DivergenceError) as raised:
            trainer.step(x, y)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) <= 400
    found = raised.value.diagnosis
    assert (str(found) in message) if found else ("first" not in message)
    return raised.value


def found_in(model, x, y, **more):
    """Return what the diagnosis names: the quantity and the layer."""
    found = diverged(model, x, y, **more).diagnosis
    assert found is not None
    return found.quantity, found.layer


def averaging(depth, width=4, activation="relu", scaled=None):
    """Return a perceptron whose layers hand the mean of their inputs on; the weights of layer `scaled` are huge."""
    layers = [fg.Dense(width, activation) for _ in range(depth - 1)]
    model = fg.Sequential([*layers, fg.Dense(width)], width)
    parameters = model.parameters()
    for name, array in parameters.items():
        if name.endswith("weight"):
            array[...] = 3e38 if name == f"{scaled}.weight" else 1 / width
    model.load_parameters(parameters)
    return model


def ones(batch, *shape):
    return np.ones((batch, *shape), np.float32), np.zeros(batch, np.int64)


def expected(model, x, tangents):
    """Return the quantity and the layer that are too large for float32 in float64; None where it is close."""
    parameters, first_tangent = model.parameters(), None
    for count in range(1, len(model.layers) + 1):
        prefix = fg.Sequential(model.layers[:count], model.input_shape)
        prefix.load_parameters({name: parameters[name] for name in prefix.parameters()})
        y, dy = (
            np.abs(one).max() / MOST
            for one in graph_reference.evaluated(prefix, x, {n: tangents[n] for n in prefix.parameters()})
        )
        if any(1 / MARGIN < one < MARGIN for one in (y, dy)):
            return None
        if y > 1:
            return "primal", str(count - 1)
        if dy > 1 and first_tangent is None:
            first_tangent = "tangent", str(count - 1)
    return first_tangent


def drawn(model, direction, count, seed=0):
    kind = fg.directions.BY_NAME[direction]
    each = [kind(seed, 0, t).materialize(model) for t in range(count)]
    return {name: np.stack([v[name] for v in each]) for name in each[0]}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", GENERAL)
def test_every_estimator_names_the_layer_whose_primal_overflows(name, batch):
    model = averaging(3, scaled=1)
    found = diverged(model, *ones(batch, 4), estimator=recipe(name).build(name, None, None)).diagnosis
    assert (found.quantity, found.layer, found.index, found.value) == ("primal", "1", (0, 0), np.inf)
    assert found.direction is None
    assert str(found).startswith(
        "layer 1 (Dense): its primal is the first that is not finite (inf, example 0, unit 0"
    )


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", GENERAL)
def test_every_estimator_names_the_parameter_that_is_not_finite(name, batch):
    model = averaging(3)
    parameters = model.parameters()
    parameters["1.weight"][3, 2] = np.nan
    # Written as if by a fault: parameters that are not finite are refused.
    model.packed_parameters["1.weight"].assign(parameters["1.weight"])
    error = diverged(model, *ones(batch, 4), estimator=recipe(name).build(name, None, None))
    found = error.diagnosis
    assert (found.quantity, found.layer, found.index) == ("parameter", "1", (3, 2))
    assert "layer 1 (Dense): 1.weight holds nan at (3, 2)" in str(error)


def silent(device="cpu"):
    """Return a perceptron whose primal is 0 from layer 1 on, and whose layer 2 multiplies tangents by 3e38."""
    model = fg.Sequential([fg.Dense(3), fg.Dense(3), fg.Dense(4), fg.Dense(4)], 3, device=device)
    parameters = model.parameters()
    parameters["0.weight"][...] = 1 / 3
    parameters["1.weight"][...] = 0
    # Whatever the signs of three tangents of one size, those of one of the units agree with them.
    parameters["2.weight"][...] = 3e38 * np.array([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1]])
    model.load_parameters(parameters)
    return model


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", [n for n in GENERAL if n not in ("spsa", "coordinates", "hybrid")])
def test_every_estimator_with_tangents_names_the_layer_whose_tangent_overflows(name, batch):
    searched = recipe(name)
    estimator = searched.build(name, None, 1 if "directions" in searched.takes else None)
    found = diverged(silent(), *ones(batch, 3), estimator=estimator, seed=3).diagnosis
    assert (found.quantity, found.layer) == ("tangent", "2")
    # Layer by layer, the noise of layer 0 has the first tangent, and that of layer 1 the second.
    assert found.direction == ("layerwise" in name)
    assert f"its tangent{' along direction 1' * found.direction} is the first" in str(found)
    assert "inputs at most 0, their tangents" in str(found)


@given(
    depth=st.integers(1, 5),
    position=st.integers(0, 4),
    batch=st.sampled_from([1, 2, 3, 7]),
    width=st.integers(2, 40),
    activation=st.sampled_from(["identity", "relu", "softplus", "elu"]),
    direction=st.sampled_from(sorted(fg.directions.BY_NAME)),
    count=st.integers(1, 5),
    quiet=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_layer_of_any_perceptron(
    depth, position, batch, width, activation, direction, count, quiet, seed
):
    position %= depth
    rng = np.random.default_rng(seed)
    model = fg.Sequential([fg.Dense(width, activation) for _ in range(depth)], width, seed=seed)
    # Without signs no sum overflows half-way to a value that a rectifier makes 0.
    parameters = {name: np.abs(array) for name, array in model.parameters().items()}
    parameters[f"{position}.weight"] *= np.float32(1e30)
    if quiet and position > 0:
        parameters[f"{position - 1}.weight"][...] = 0
    model.load_parameters(parameters)
    x, y = 1e15 * rng.random((batch, width), np.float32), rng.integers(0, width, batch)
    named = expected(model, x, drawn(model, direction, count, seed))
    assume(named is not None)
    assert found_in(model, x, y, estimator=fg.WeightPerturbation(direction, count), seed=seed) == named


@pytest.mark.parametrize("direction", ["rank1", "orthogonal", "rademacher", "gaussian"])
def test_one_of_sixteen_directions_overflows(direction):
    layers = [fg.Dense(1), fg.Dense(6), fg.Dense(3)]
    model = fg.Sequential(layers, 43, seed=1)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 43), np.float32), rng.integers(0, 3, 5)
    parameters = model.parameters()
    parameters["0.weight"][...] = 0
    parameters["2.weight"] *= np.float32(1e-30)
    model.load_parameters(parameters)
    hidden = fg.Sequential(layers[:1], 43)
    hidden.load_parameters({name: parameters[name] for name in hidden.parameters()})
    tangents = drawn(model, direction, 16, seed=4)
    _, dz = graph_reference.evaluated(hidden, x, {name: tangents[name] for name in hidden.parameters()})
    # One product a unit: it overflows along the greatest tangent, not along the next.
    sizes = np.abs(dz).max(axis=(1, 2))
    second, first = np.sort(sizes)[-2:]
    assert first > 1.001 * second
    parameters["1.weight"][...] = MOST / np.sqrt(first * second)
    model.load_parameters(parameters)
    found = diverged(model, x, y, estimator=fg.WeightPerturbation(direction, 16), seed=4).diagnosis
    assert (found.quantity, found.layer, found.direction) == ("tangent", "1", int(sizes.argmax()))
    assert found.index[0] == int(np.abs(dz[found.direction]).max(axis=1).argmax())
    assert f"tangent along direction {found.direction} is the first" in str(found)
    few = fg.WeightPerturbation(direction, 16)
    with pytest.MonkeyPatch.context() as patch:
        # As where all directions at once would take too much memory.
        patch.setattr("fgnumba.estimators.weight._INSPECTION_BYTES", 4 * 5 * 43 * 4)
        assert diverged(model, x, y, estimator=few, seed=4).diagnosis == found
        # All the others overflow in the layer after that: the earliest layer is named all the same.
        parameters["2.weight"][...] = 1e20
        model.load_parameters(parameters)
        again = diverged(model, x, y, estimator=few, seed=4).diagnosis
        assert (again.layer, again.direction, again.index) == (found.layer, found.direction, found.index)


def test_what_spoils_the_loss_goes_before_what_spoils_a_derivative():
    model = silent()
    parameters = model.parameters()
    parameters["2.bias"][...] = 1e30
    parameters["3.weight"][...] = 1e30
    model.load_parameters(parameters)
    assert found_in(model, *ones(5, 3), seed=3) == ("primal", "3")


def images(model, batch, loud, scale):
    """Return a batch in which example `loud` alone is large."""
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, *model.input_shape)).astype(np.float32)
    x[loud] *= np.float32(scale)
    return x, rng.integers(0, model.outputs, batch)


CONVOLUTIONS = {
    "filtered": (fg.Conv2d(16, 3, padding="same", activation="relu"), fg.Conv2d(16, 3, padding="same")),
    "strided": (fg.Conv2d(8, 5, stride=2, activation="relu"), fg.Conv2d(12, 2, padding=1)),
    "depthwise": (fg.Conv2d(8, 3, groups=4, activation="relu"), fg.Conv2d(8, 3, groups=8)),
}


@pytest.mark.parametrize("batch", [1, 7, 23])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize(
    "estimator", [fg.WeightPerturbation(directions=2), fg.ActivityPerturbation(), fg.SPSA()]
)
def test_convolutions_that_run_part_by_part(kind, batch, estimator):
    layers = [*CONVOLUTIONS[kind], fg.MaxPool2d(2), fg.Flatten(), fg.Dense(5)]
    model = fg.Sequential(layers, (28, 28, 4), seed=2)
    parameters = model.parameters()
    parameters["1.weight"] *= np.float32(1e20)
    model.load_parameters(parameters)
    loud = batch // 2
    x, y = images(model, batch, loud, 1e22)
    assert expected(model, x, drawn(model, "rank1", 1)) == ("primal", "1")
    found = diverged(model, x, y, estimator=estimator).diagnosis
    assert (found.quantity, found.layer, found.index[0]) == ("primal", "1", loud)
    assert len(found.index) == 4


def test_a_pixel_is_named_as_it_is_without_borders():
    layers = [*CONVOLUTIONS["strided"], fg.Flatten(), fg.Dense(3)]
    model = fg.Sequential(layers, (19, 17, 2), seed=2)
    parameters = model.parameters()
    parameters["0.weight"] *= np.float32(1e30)
    model.load_parameters(parameters)
    x, y = np.zeros((5, 19, 17, 2), np.float32), np.zeros(5, np.int64)
    x[3, 11, 10, 0] = 1e15
    z = graph_reference.correlate(x.astype(float), parameters["0.weight"].astype(float), layers[0])
    assert found_in(model, x, y) == ("primal", "0")
    assert diverged(model, x, y).diagnosis.index == tuple(np.argwhere(z > MOST)[0])


def test_both_branches_of_a_residual_block_are_looked_at():
    def graph(loud):
        nodes = [
            fg.Node("stem", fg.Conv2d(8, 3, padding="same", activation="relu")),
            fg.Node("body", fg.Conv2d(8, 3, padding="same")),
            fg.Node("norm", fg.GroupNorm(2)),
            fg.Node("skip", fg.Conv2d(8, 1), "stem"),
            fg.Node("sum", fg.Add(activation="relu"), ("norm", "skip")),
            fg.Node("wide", fg.Concatenate(), ("sum", "stem")),
            fg.Node("mean", fg.GlobalAveragePool2d()),
            fg.Node("head", fg.Dense(4)),
        ]
        model = fg.Graph(nodes, (6, 6, 2), seed=1)
        parameters = model.parameters()
        parameters[loud][...] = 3e38
        model.load_parameters(parameters)
        return model

    cases = {
        "stem.weight": "stem",
        "body.weight": "body",
        "norm.shift": "sum",
        "skip.weight": "skip",
        "head.weight": "head",
    }
    for loud, layer in cases.items():
        model = graph(loud)
        if loud == "norm.shift":
            parameters = model.parameters()
            # Each is finite, and their sum is not.
            parameters["skip.bias"][...] = 3e38
            model.load_parameters(parameters)
        x, y = np.full((3, 6, 6, 2), 10, np.float32), np.zeros(3, np.int64)
        for estimator in (None, fg.ActivityPerturbation()):
            assert found_in(model, x, y, estimator=estimator) == ("primal", layer)


def test_a_fused_activation_is_named_with_its_layer():
    model = fg.Sequential([fg.Dense(4), fg.Activation("relu"), fg.Dense(3)], 4)
    parameters = model.parameters()
    parameters["0.weight"][...] = 3e38
    model.load_parameters(parameters)
    found = diverged(model, *ones(2, 4)).diagnosis
    assert found.layer == "0+1"
    assert str(found).startswith("layer 0+1 (Dense+Activation): its primal")


@pytest.mark.parametrize("activation", ["softplus", "silu", "gelu", "elu"])
def test_activations_by_themselves(activation):
    # What the noise is added to is kept apart from what is made of it.
    model = averaging(3, activation=activation, scaled=1)
    for estimator in (
        fg.WeightPerturbation(),
        fg.ActivityPerturbation(),
        fg.ActivityPerturbation(layerwise=True),
    ):
        assert found_in(model, *ones(3, 4), estimator=estimator) == ("primal", "1")


@pytest.mark.parametrize("norm", [fg.LayerNorm(), fg.GroupNorm(2)])
@pytest.mark.parametrize("estimator", [None, fg.ActivityPerturbation(), fg.SPSA()])
def test_a_norm_whose_variance_overflows(norm, estimator):
    layers = [fg.Dense(8), norm, fg.Dense(3)]
    model = fg.Sequential(layers, 5, seed=1)
    parameters = model.parameters()
    parameters["0.weight"] *= np.float32(1e25)
    parameters["1.shift"][...] = 3e38
    parameters["1.scale"][...] = 3e38
    model.load_parameters(parameters)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5), np.float32), rng.integers(0, 3, 3)
    quantity, layer = found_in(model, x, y, estimator=estimator)
    assert (layer, quantity) in {("1", "primal"), ("2", "primal")}


@pytest.mark.parametrize("norm", [fg.LayerNorm(), fg.GroupNorm(2)])
def test_a_norm_whose_scale_overflows(norm):
    model = fg.Sequential([fg.Dense(8), norm, fg.Dense(3)], 5, seed=1)
    parameters = model.parameters()
    parameters["1.scale"][...] = 3e38
    parameters["1.shift"][...] = 3e38
    model.load_parameters(parameters)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5), np.float32), rng.integers(0, 3, 3)
    assert found_in(model, x, y) == ("primal", "1")


@pytest.mark.parametrize("estimator", [fg.WeightPerturbation(), fg.ActivityPerturbation(), fg.SPSA()])
def test_dropout_drops_the_same_units_again(estimator):
    # One unit alone makes the last layer overflow, in the examples in which it is not dropped.
    model = fg.Sequential([fg.Dense(6), fg.Dropout(0.7), fg.Dense(3)], 4)
    parameters = model.parameters()
    parameters["0.weight"][...] = 1e10
    parameters["2.weight"][...] = 0
    parameters["2.weight"][4] = 1e30
    model.load_parameters(parameters)
    x, y = ones(17, 4)
    plan = model.plan(17, training=True)
    model.processor.assign(plan.perturbation.stream, fg.directions.RankOne(9).stream())
    with model.lock:
        plan.run(x)
    wrong = np.flatnonzero(~np.isfinite(plan.output[0][:, 0]))
    assert 0 < len(wrong) < 17
    assert wrong[0] > 0
    found = diverged(model, x, y, estimator=estimator, seed=9).diagnosis
    assert (found.layer, found.index[0]) == ("2", wrong[0])
