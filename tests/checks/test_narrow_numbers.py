"""Computation with numbers of narrow types, such as np.uint8: the bits are those of Python's numbers."""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fgnumba
from fgnumba.bench import reverse
from fgnumba.kernels.layout.images import Border
from fgnumba.layers import Flatten
from fgnumba.validation import flag, real_number, several, whole_number
from tests import number_calls, number_cases
from tests.checks.test_numbers import assert_bits, assert_plain, refused

# What is given here is not what annotations ask for.
fg: Any = fgnumba
cases: Any = number_cases
calls: Any = number_calls


def numpys(values):
    """Return values as NumPy's: the narrowest kinds that hold them."""
    narrow = {bool: np.bool_, int: np.uint8, float: np.float16}

    def of(value):
        return tuple(map(of, value)) if isinstance(value, tuple) else narrow[type(value)](value)

    return {name: of(value) for name, value in values.items()}


@pytest.mark.parametrize("kind", cases.LAYER)
def test_a_layer_of_narrow_numbers_computes_the_same_bits(kind):
    values: dict[str, Any] = {**cases.LAYER[kind], **({"units": 200} if kind is fg.Dense else {})}

    def found(values):
        before = [fg.Flatten()] if kind is fg.Dense else []
        parts = [fg.Conv2d(6, 1), *before, kind(**values), fg.Flatten(), fg.Dense(4)]
        model = fg.Sequential(parts, (4, 4, 3), seed=1)
        v = fg.directions.Gaussian(2)
        return [
            model(cases.X),
            *fg.jvp(model, cases.LOSS, cases.X, cases.Y, v, training=True),
            fg.forward_gradient(model, cases.LOSS, cases.X, cases.Y, v),
        ]

    assert_bits(found(numpys(values)), found(values))


@pytest.mark.parametrize("kind", cases.SEQUENCE)
def test_a_layer_of_symbols_and_narrow_numbers_computes_the_same_bits(kind):
    x = np.random.default_rng(0).integers(0, 5, (3, 4)).astype(np.uint8)

    def found(values):
        model = fg.Sequential([kind(**values), fg.Dense(4)], (4,), seed=1)
        loss = fg.jvp(model, cases.LOSS, x, x % 4, fg.directions.Gaussian(2))
        return [model(x), *loss]

    assert_bits(found(numpys(cases.SEQUENCE[kind])), found(cases.SEQUENCE[kind]))


@pytest.mark.parametrize("kind", cases.OF_POSITIONS)
def test_a_layer_of_positions_and_narrow_numbers_computes_the_same_bits(kind):
    x, y = np.random.default_rng(0).standard_normal((3, 5, 8)), np.ones((3, 5), int)

    def found(values):
        model = fg.Sequential([fg.Dense(8), kind(**values), fg.Dense(4)], (5, 8), seed=1)
        return [model(x), *fg.jvp(model, cases.LOSS, x, y, fg.directions.Gaussian(2), training=True)]

    assert_bits(found(numpys(cases.OF_POSITIONS[kind])), found(cases.OF_POSITIONS[kind]))


@pytest.mark.parametrize(
    "layer",
    [
        *(fg.Conv2d(6, 3, padding="same"), fg.Dense(200), fg.Flatten(), fg.GlobalAveragePool2d()),
        *(fg.GroupNorm(3), fg.MaxPool2d(2), fg.AvgPool2d(2, padding=1), fg.Concatenate(), fg.Add()),
        *(fg.LayerNorm(), fg.RMSNorm(), fg.Dropout(), fg.Activation("relu")),
        *(fg.ElementwiseLSTM(200), fg.MinGRU(200), fg.LinearRecurrentUnit(200), fg.LSTM(200), fg.GRU(200)),
        *(fg.Embedding(200, 200), fg.LSTM(200, symbols=200)),
        *(fg.PositionalEmbedding(255), fg.RotaryEmbedding(heads=50), fg.SelfAttention(50, bias=True)),
        *(fg.SelfAttention(200, size=200, causal=True), fg.SelfAttention(200, 100, 150)),
    ],
    ids=lambda layer: layer.kind,
)
def test_a_layers_shapes_do_not_wrap(layer):
    shape: tuple[int, ...] = (28, 250, 3)
    if layer.kind == "Dense" or layer.symbols_read():
        shape = (200,)
    elif layer.counts_positions or layer.kind == "SelfAttention" or layer.state_width([(250, 200)]):
        shape = (250, 200)
    inputs = [shape, shape] if layer.inputs[0] > 1 else [shape]

    def found(inputs):
        return [
            layer.output_shape(*inputs),
            layer.parameter_shapes(inputs),
            layer.multiply_adds(inputs),
            layer.column_groups(inputs),
            layer.state_width(inputs),
            layer.border(inputs),
        ]

    narrow = [tuple(map(np.uint8, one)) for one in inputs]
    assert_bits(found(narrow), found(inputs))
    assert_bits(found([np.array(one) for one in inputs]), found(inputs))


@pytest.mark.parametrize("kind", cases.ESTIMATOR)
def test_an_estimator_of_narrow_numbers_takes_the_same_step(kind):
    values = cases.ESTIMATOR[kind]
    if kind is fg.RelayedFeedback:
        found = [step_of_vectors(kind(**given)) for given in (numpys(values), values)]
    elif kind in SEQUENTIAL:
        found = [sequential_step(kind(**given)) for given in (numpys(values), values)]
    else:
        found = [cases.after_a_step(cases.trainer(kind(**given))) for given in (numpys(values), values)]
    assert_bits(*found)


STREAM = [fg.Embedding(3, 4), fg.TransformerBlock(2)]
SEQUENTIAL = {
    fg.RealTimeRecurrentLearning: [fg.ElementwiseLSTM(4, symbols=3)],
    fg.BlockFeedback: STREAM,
    reverse.ReverseMode: STREAM,
}
"""The layers of models that these estimators train, with the settings that are tried."""


def step_of_vectors(estimator):
    """Return the loss, and the parameters after a step of a model whose layers write vectors."""
    layers = [fg.Flatten(), fg.Dense(5, "relu"), fg.Dense(4)]
    model = fg.Sequential(layers, cases.X.shape[1:], device="cpu")
    return cases.after_a_step(fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.125)))


def sequential_step(estimator):
    """Return the loss, the parameters and the estimator's own arrays after two steps of a model of sequences."""
    x = np.arange(12).reshape(2, 6) % 3
    model = fg.Sequential([*SEQUENTIAL[type(estimator)], fg.Dense(3)], (6,), device="cpu")
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(0.1))
    losses = [trainer.step(x, x).loss for _ in range(2)]
    return [*losses, *model.parameters().values(), *trainer.state.arrays.values()]


@pytest.mark.parametrize("kind", cases.OPTIMIZER)
def test_an_optimizer_of_narrow_numbers_takes_the_same_step(kind):
    values = cases.OPTIMIZER[kind]
    assert_bits(
        cases.after_a_step(cases.trainer(optimizer=kind(**numpys(values)))),
        cases.after_a_step(cases.trainer(optimizer=kind(**values))),
    )


def test_sizes_beyond_a_narrow_number_do_not_wrap():
    labels = np.arange(256, dtype=np.uint8)
    x = np.random.default_rng(1).standard_normal((256, 8)).astype(np.float32)

    def step(units, directions):
        model = fg.Sequential([fg.Dense(units), fg.Activation("relu"), fg.Dense(256)], 8)
        estimator = fg.WeightPerturbation(directions=directions)
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.125))
        return [trainer.step(x, labels), *model.parameters().values()]

    assert_bits(step(np.uint8(100), np.uint8(200)), step(100, 200))
    assert_bits(step(np.int8(127), np.int8(127)), step(127, 127))
    # 255 + 1 wraps before the layer is asked: to 0, which is no number of units.
    with np.errstate(over="ignore"), pytest.raises(fg.ConfigError, match=r"units is np\.uint8\(0\)"):
        fg.Dense(labels.max() + np.uint8(1))
    assert fg.Dense(np.uint8(100)) == fg.Dense(100)
    assert {fg.Dense(np.uint8(100)): 1}[fg.Dense(100)] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.uint8(200), (200,)),
        (np.array(200), (200,)),
        ([np.uint8(200), 200, np.int64(3)], (200, 200, 3)),
        (np.array([20, 20, 3], np.uint8), (20, 20, 3)),
        (range(3, 6), (3, 4, 5)),
    ],
)
def test_an_input_shape_is_of_pythons_numbers(given, expected):
    model = fg.Sequential([fg.Flatten(), fg.Dense(2)], given)
    assert model.input_shape == expected
    assert_plain(list(model.shapes.values()))
    assert model.parameters()["1.weight"].shape == (np.prod(expected, dtype=int), 2)


@pytest.mark.parametrize(
    "shape", [True, (3, True), (2.0,), "3", (), np.array([]), np.array([[3]]), (3, 0), None, -1]
)
def test_impossible_input_shapes(shape):
    with pytest.raises(fg.ShapeError, match=r"^input_shape is .*; whole numbers of at least 1 are required$"):
        fg.Sequential([fg.Flatten(), fg.Dense(2)], shape)


def test_a_layer_of_ones_own_may_say_its_shape_in_numpys_numbers():
    class Told(fg.Dense):
        def parameter_shapes(self, inputs):
            shapes = super().parameter_shapes(inputs)
            return {name: np.array(shape, np.uint8) for name, shape in shapes.items()}

    class Kept(Flatten):
        def output_shape(self, *inputs):
            return np.array([np.prod(inputs[0])], np.uint8)

    model = fg.Sequential([Kept(), Told(np.uint8(200))], (10, 10, 1))
    assert_plain(list(model.shapes.values()))
    assert model.parameters()["1.weight"].shape == (100, 200)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_windows_of_numpys_numbers(kind):
    three = kind(3)
    for given in ((three, three), [three, 3], np.array([3, 3], kind)):
        assert fg.Conv2d(4, given, stride=given, dilation=given) == fg.Conv2d(4, 3, stride=3, dilation=3)
        assert fg.MaxPool2d(given, given) == fg.MaxPool2d(3, 3)
        assert_plain(list(dataclasses.astuple(fg.AvgPool2d(given, given))))
    sides: Any = (
        np.array([[1, 0], [0, 2]], kind),
        ((kind(1), 0), [0, kind(2)]),
        Border(kind(1), 0, 0, kind(2)),
    )
    for given in sides:
        found = fg.Conv2d(4, padding=given)
        assert found == fg.Conv2d(4, padding=((1, 0), (0, 2)))
        assert_plain(list(found.padding))
    impossible: Any = ((3, True), (3, 2.5), np.array([3.0, 3.0]), (3, 3, 3), [], (1 << 70, 1))
    for bad in impossible:
        refused(lambda bad=bad: fg.Conv2d(4, bad))
        refused(lambda bad=bad: fg.MaxPool2d(3, bad))
        refused(lambda bad=bad: fg.AvgPool2d(3, padding=bad))


@pytest.mark.parametrize("kind", [np.uint64, np.array, int])
def test_seeds_up_to_the_greatest(kind):
    most = (1 << 64) - 1
    seed = np.array(most, np.uint64) if kind is np.array else kind(most)
    expected = cases.after_a_step(cases.trainer(seed=most))
    assert_bits(cases.after_a_step(cases.trainer(seed=seed)), expected)
    assert fg.directions.Gaussian(seed) == fg.directions.Gaussian(most)
    assert_bits(cases.model(seed=seed).parameters(), cases.model(seed=most).parameters())
    assert_bits(next(cases.DATA.batches(4, seed)), next(cases.DATA.batches(4, most)))
    # A seed is not rounded on the way to a generator.
    assert not np.array_equal(*(cases.model(seed=most - n).parameters()["3.weight"] for n in range(2)))
    steps = [
        cases.after_a_step(cases.trainer(fg.CoordinateDifferences(2), seed=most - n))[1:] for n in range(2)
    ]
    assert any(not np.array_equal(one, other) for one, other in zip(*steps, strict=True))
    for beyond in (most + 1, -1, np.int64(-1)):
        refused(lambda beyond=beyond: cases.trainer(seed=beyond))
        refused(lambda beyond=beyond: cases.DATA.batches(4, beyond))


@pytest.mark.parametrize(
    "value", [0.125, np.float32(0.125), np.float16(0.125), np.array(0.125), Fraction(1, 8)]
)
def test_a_schedule_may_return_any_real_number(value):
    expected = cases.after_a_step(cases.trainer(optimizer=fg.SGD(0.125)))
    for schedule in (lambda step: value, fg.schedules.Warmup(lambda step: value, 1)):
        assert type(fg.SGD(schedule).rate(0)) is float
        assert_bits(cases.after_a_step(cases.trainer(optimizer=fg.SGD(schedule))), expected)


@pytest.mark.parametrize(
    "value", [np.nan, np.float32(np.inf), -1.0, True, "0.1", None, np.array([0.1]), 10**400]
)
def test_a_schedule_that_returns_no_learning_rate(value):
    for schedule in (lambda step: value, fg.schedules.Warmup(lambda step: value, 3)):
        with pytest.raises(fg.ConfigError, match=r"the schedule's learning rate at step 0 is .* is required"):
            cases.trainer(optimizer=fg.SGD(schedule)).step(cases.X, cases.Y)


def test_a_step_that_would_wrap():
    for schedule in (
        fg.schedules.Exponential(1.0, 0.5),
        fg.schedules.Warmup(fg.schedules.Constant(1.0), 1000),
    ):
        assert schedule(np.uint8(255)) == schedule(255)
    assert fg.WeightPerturbation().relative_variance(np.uint8(255)) == 254


@pytest.mark.parametrize("batch", [1 << 62, 1 << 80, np.uint64(1 << 63)])
def test_a_batch_beyond_memory(batch):
    refused(lambda: cases.model().plan(batch))
    refused(lambda: cases.trainer().plan(batch))
    refused(lambda: cases.reverse.ReversePlan(cases.model(), batch, cases.LOSS))


@pytest.mark.parametrize("word", [np.array(["mean", "l2"]), np.array(["filter"]), ["cpu"], 3, None])
def test_words_are_text(word):
    for make in (
        lambda: fg.WeightPerturbation(word),
        lambda: fg.WeightPerturbation(combine=word),
        lambda: fg.Feedback(rule=word),
        lambda: fg.FrankWolfe(1.0, norm=word),
        lambda: cases.model(device=word),
        lambda: cases.configuration.RunConfig(device=word),
    ):
        with pytest.raises(fg.FgError) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_batch_size_is_always_a_number():
    with pytest.raises(fg.ConfigError, match="batch_size is None; a whole number"):
        cases.fitted(batch_size=None)


def test_a_search_takes_several_falls():
    assert cases.search.Search(falls=np.array([1.0, 2.0])) == cases.search.Search(falls=(1.0, 2.0))
    for bad in (4.0, "4", None, ()):
        refused(lambda bad=bad: cases.search.Search(falls=bad))


def test_configurations_say_the_same_in_toml(tmp_path):
    path = tmp_path / "c.toml"
    config = cases.configuration.RunConfig(
        seed=np.uint64(7), learning_rate=np.float32(0.5), widths=np.array([5, 6])
    )
    path.write_text(config.to_toml(), encoding="utf-8")
    assert cases.configuration.RunConfig.from_toml(path) == config
    path.write_text("nesterov = 1\n", encoding="utf-8")
    refused(lambda: cases.configuration.RunConfig.from_toml(path))


def test_checks_by_themselves():
    assert [type(whole_number("n", n)) for n in (5, np.uint8(5), np.array(5))] == [int] * 3
    assert [type(real_number("x", x)) for x in (5, 0.5, np.float16(0.5), Fraction(1, 2))] == [float] * 4
    assert [flag("f", f) for f in (True, np.True_, np.array(False))] == [True, True, False]
    # Rounded to a float they would be on the other side of a bound.
    nearly = 1 - Fraction(1, 1 << 80)
    refused(lambda: real_number("x", nearly, below=1))
    refused(lambda: real_number("x", Fraction(1, 10**400), above_zero=True))
    refused(lambda: real_number("x", Fraction(-1, 10**400)))
    assert several(5) is several(np.array(5)) is several("ab") is None
    with pytest.raises(
        fg.ConfigError, match=r"^n is 1180591620717411303424; .* and below 2\*\*63 is required$"
    ):
        whole_number("n", 1 << 70)
