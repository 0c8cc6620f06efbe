"""Graphs: wiring, fusion, plans, errors; convolutions on any number of threads."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine import threads
from fgnumba.kernels.machine.compile import compiled_count
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.layers import Perturbation
from fgnumba.model.plan import Plan
from tests import tolerances

LOSS = fg.SoftmaxCrossEntropy()


def residual(seed=0):
    return fg.Graph(
        [
            fg.Node("stem", fg.Conv2d(6, 3, padding="same")),
            fg.Node("stem_relu", fg.Activation("relu")),
            fg.Node("norm", fg.GroupNorm(3)),
            fg.Node("body", fg.Conv2d(6, 3, padding="same")),
            fg.Node("sum", fg.Add(), ("body", "stem_relu")),
            fg.Node("sum_relu", fg.Activation("relu")),
            fg.Node("drop", fg.Dropout(0.3)),
            fg.Node("both", fg.Concatenate(), ("drop", "input")),
            fg.Node("depthwise", fg.Conv2d(8, 3, groups=8, stride=2, padding="same", activation="tanh")),
            fg.Node("layer_norm", fg.LayerNorm()),
            fg.Node("pool", fg.MaxPool2d(2)),
            fg.Node("flat", fg.Flatten()),
            fg.Node("head", fg.Dense(4)),
        ],
        input_shape=(9, 10, 2),
        seed=seed,
    )


def examples(count, shape=(9, 10, 2), classes=4):
    rng = np.random.default_rng(3)
    return rng.standard_normal((count, *shape), np.float32), rng.integers(0, classes, count)


def test_parameters_are_named_by_node():
    shapes = {name: array.shape for name, array in residual().parameters().items()}
    assert shapes == {
        "stem.weight": (3, 3, 2, 6),
        "stem.bias": (6,),
        "norm.scale": (6,),
        "norm.shift": (6,),
        "body.weight": (3, 3, 6, 6),
        "body.bias": (6,),
        "depthwise.weight": (3, 3, 1, 8),
        "depthwise.bias": (8,),
        "layer_norm.scale": (8,),
        "layer_norm.shift": (8,),
        "head.weight": (2 * 2 * 8, 4),
        "head.bias": (4,),
    }


@pytest.mark.parametrize("filters", [1, 6, 32, 40, 64])
@pytest.mark.parametrize("groups", [1, 2, 3, 6, 12])
def test_parameters_of_groups_load_back(filters, groups):
    model = fg.Sequential([fg.Conv2d(filters * groups, 3, groups=groups, padding=1)], (4, 4, 12))
    rng = np.random.default_rng(0)
    new = {name: rng.standard_normal(a.shape).astype(np.float32) for name, a in model.parameters().items()}
    model.load_parameters(new)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, new[name])


def test_a_sequence_is_a_graph_of_numbered_nodes():
    layers = [fg.Conv2d(5, 3, padding="same", activation="relu"), fg.MaxPool2d(2), fg.Flatten(), fg.Dense(4)]
    sequence = fg.Sequential(layers, (9, 10, 2), seed=7)
    graph = fg.Graph([fg.Node(str(i), layer) for i, layer in enumerate(layers)], (9, 10, 2), seed=7)
    x, _ = examples(3)
    np.testing.assert_array_equal(sequence(x), graph(x))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same_and_go_their_own_way(duplicate):
    model = residual()
    twin = duplicate(model)
    x, y = examples(5)
    np.testing.assert_array_equal(twin(x), model(x))
    fg.Trainer(twin, optimizer=fg.SGD(0.01)).step(x, y)
    assert not np.array_equal(twin(x), model(x))


def rows(model, batch=8, count=1, training=True):
    perturbation = Perturbation(directions.RANK1, count, np.zeros(1, STREAM))
    return Plan(model, batch, perturbation, LOSS, training).rows


def test_activations_fuse_into_what_has_none():
    names = [row.layer for row in rows(residual())]
    assert "stem+stem_relu" in names
    assert "sum+sum_relu" in names
    # Another layer reads what is before the activation.
    forked = fg.Graph(
        [
            fg.Node("a", fg.Dense(4)),
            fg.Node("relu", fg.Activation("relu")),
            fg.Node("sum", fg.Add(), ("a", "relu")),
        ],
        5,
    )
    assert [row.layer for row in rows(forked)] == ["a", "relu", "sum"]
    twice = [fg.Dense(4, activation="tanh"), fg.Activation("relu")]
    assert [row.layer for row in rows(fg.Sequential(twice, 5))] == ["0", "1"]


def test_dropout_is_in_the_plan_of_training_alone():
    assert "drop" in [row.layer for row in rows(residual())]
    assert "drop" not in [row.layer for row in rows(residual(), training=False)]


def test_a_plan_prints_what_runs():
    model = residual()
    plan = model.plan(8, loss=LOSS)
    lines = str(plan).splitlines()
    assert len(lines) == len(plan.rows) + 2
    assert lines[0].split()[:3] == ["layer", "operation", "input"]
    assert lines[-1].startswith("total")
    stem = next(row for row in plan.rows if row.layer.startswith("stem+"))
    assert stem.primal == 8 * 9 * 10 * 9 * 2 * 6
    assert (stem.inputs, stem.output) == (((9, 10, 2),), (9, 10, 6))


def test_buffers_of_parts_do_not_grow_with_the_batch():
    model = fg.Sequential(
        [fg.Conv2d(32, 3, padding="same"), fg.Conv2d(32, 3), fg.GlobalAveragePool2d()], (28, 28, 1)
    )
    small, large = (model.plan(batch, loss=LOSS).buffer_nbytes for batch in (32, 320))
    assert large - small < 300 * 200


@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
@pytest.mark.parametrize("count", [1, 3])
def test_threads_change_no_bit(direction, count, monkeypatch):
    """On parts cut for one thread and for two, the same steps."""
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    monkeypatch.setattr("fgnumba.kernels.machine.work.THREAD_WORK", 1)
    x, y = examples(11)
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        model = residual()
        trainer = fg.Trainer(
            model, estimator=fg.WeightPerturbation(direction, count), optimizer=fg.SGD(0.01, momentum=0.5)
        )
        for _ in range(3):
            trainer.step(x, y)
        found.append(model.parameters())
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


@pytest.mark.parametrize("kind", ["rank1", "rademacher", "gaussian"])
@pytest.mark.parametrize("count", [4, 7, 35])
def test_directions_that_share_a_primal_are_those_that_have_one_each(kind, count):
    model = residual()
    x, y = examples(7)
    direction = fg.directions.BY_NAME[kind]
    stream = np.zeros(1, STREAM)
    set_stream(stream, 5, 2)
    plan = Plan(model, len(x), Perturbation(direction.kind, count, stream), LOSS)
    plan.run(x, y)
    for t in range(count):
        value, d = fg.jvp(model, LOSS, x, y, direction(seed=5, step=2, index=t))
        tolerances.SAME_LOSS.check(plan.values[0], value)
        tolerances.REPEATED.check(plan.values[1 + t], d)


@pytest.mark.parametrize("kind", ["none", "rank1", "rademacher", "gaussian"])
def test_nothing_is_read_before_it_is_written(kind):
    """Buffers and scratch memory full of NaN change no bit of the result."""
    x, y = examples(7)
    number = {"none": directions.NONE, **{n: d.kind for n, d in fg.directions.BY_NAME.items()}}[kind]
    plan = Plan(
        residual(), 7, Perturbation(number, 0 if kind == "none" else 2, np.zeros(1, STREAM)), LOSS, True
    )
    plan.run(x, y)
    before = plan.output[:, :, :4].copy()
    assert np.isfinite(before).all()
    plan._local[...] = np.nan
    for array in plan._arrays.values():
        array[...] = np.nan
    assert isinstance(plan._program, Program)
    plan._program.scratch.view(np.float32)[...] = np.nan
    plan.run(x, y)
    np.testing.assert_array_equal(plan.output[:, :, :4], before)


def test_an_input_is_left_alone_and_read_to_its_end_only():
    model = fg.Sequential([fg.Conv2d(5, 1, groups=5), fg.MaxPool2d(2), fg.Flatten(), fg.Dense(3)], (4, 4, 5))
    x, _ = examples(3, (4, 4, 5))
    before = x.copy()
    expected = model(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(model(x[::-1])[::-1], expected)
    tolerances.CARRIED.check(model(x.astype(np.float64)), expected)
    assert rows(model, 3)[0].operation == "copy"


def test_the_second_step_compiles_and_allocates_nothing():
    x, y = examples(16)
    trainer = fg.Trainer(residual(), optimizer=fg.SGD(1e-4))
    trainer.step(x, y)
    trainer.step(x, y)
    before = compiled_count()
    tracemalloc.start()
    try:
        trainer.step(x, y)
        base, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(10):
            trainer.step(x, y)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert compiled_count() == before
    assert after - base < 1024
    assert peak - base < 8192


def test_training_lowers_the_loss():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    x = (0.3 * rng.standard_normal((120, 6, 6, 1))).astype(np.float32)
    for i, label in enumerate(y):
        x[i, 2 * label : 2 * label + 2] += 1
    layers = [fg.Conv2d(8, 3, padding="same", activation="relu"), fg.MaxPool2d(2), fg.Flatten(), fg.Dense(3)]
    trainer = fg.Trainer(
        fg.Sequential(layers, (6, 6, 1)), estimator=fg.WeightPerturbation("rank1", 8), optimizer=fg.SGD(0.01)
    )
    losses = [trainer.step(x, y).loss for _ in range(300)]
    assert np.mean(losses[-20:]) < 0.5 * losses[0]


# Errors.

IMAGE = (8, 8, 3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([fg.Dense(3)], "layers[0]: Dense: the input's shape is (8, 8, 3); (K,) is required"),
        (
            [fg.Conv2d(4, 9)],
            "layers[0]: Conv2d: the input's shape is (8, 8, 3); its kernel covers 9 x 9 pixels",
        ),
        (
            [fg.Conv2d(4, 5, dilation=3, padding=1)],
            "layers[0]: Conv2d: the input's shape is (8, 8, 3), padded to 10 x 10; its kernel covers 13 x 13",
        ),
        (
            [fg.Conv2d(4, 3, groups=2)],
            "layers[0]: Conv2d: the input's shape is (8, 8, 3); its channels cannot",
        ),
        ([fg.MaxPool2d(9)], "layers[0]: MaxPool2d: the input's shape is (8, 8, 3); its window covers 9 x 9"),
        ([fg.GroupNorm(2)], "layers[0]: GroupNorm: the input's shape is (8, 8, 3); its channels cannot"),
        ([fg.Flatten(), fg.AvgPool2d()], "layers[1]: AvgPool2d: the input's shape is (192,); an image"),
        (
            [fg.Flatten(), fg.GlobalAveragePool2d()],
            "layers[1]: GlobalAveragePool2d: the input's shape is (192,)",
        ),
    ],
)
def test_shapes_that_do_not_fit(layers, message):
    with pytest.raises(fg.ShapeError) as caught:
        fg.Sequential(layers, IMAGE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_joining_shapes_that_do_not_fit():
    wide, narrow = fg.Node("wide", fg.Conv2d(4, 3), "input"), fg.Node("narrow", fg.Conv2d(4, 1), "input")
    for layer, message in (
        (
            fg.Add(),
            "layer 'join': Add: the inputs' shapes are (6, 6, 4) and (8, 8, 4); one shape is required",
        ),
        (
            fg.Concatenate(),
            "layer 'join': Concatenate: the inputs' shapes are (6, 6, 4) and (8, 8, 4); shapes",
        ),
    ):
        with pytest.raises(fg.ShapeError) as caught:
            fg.Graph([wide, narrow, fg.Node("join", layer, ("wide", "narrow"))], IMAGE)
        assert str(caught.value).startswith(message)


DENSE = fg.Dense(3)


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        (
            [fg.Node("a", DENSE, "b"), fg.Node("b", DENSE)],
            None,
            "layer 'a' reads 'b', but no earlier layer has that name",
        ),
        ([fg.Node("a", DENSE), fg.Node("a", DENSE)], None, "layer 'a': the name is taken"),
        ([fg.Node("input", DENSE)], None, "layer 'input': the name is taken"),
        (
            [fg.Node("a", DENSE), fg.Node("b", DENSE, "input")],
            None,
            "layer 'a' feeds no other layer, and is not",
        ),
        (
            [fg.Node("a", fg.Add(), "input")],
            None,
            "layer 'a': Add is given 1 inputs (input); it takes at least 2",
        ),
        ([fg.Node("a", DENSE)], "c", "output: no layer is called 'c'"),
        ([fg.Node("", DENSE)], None, "nodes[0]: name is ''"),
        ([DENSE], None, "nodes[0] is Dense(units=3"),
        ([], None, "layers: at least one that computes"),
    ],
)
def test_impossible_wiring(nodes, output, message):
    with pytest.raises(fg.ConfigError) as caught:
        fg.Graph(nodes, 5, output=output)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sequence_joins_nothing():
    with pytest.raises(fg.ConfigError, match=r"layers\[1\]: Add joins several inputs; use a Graph"):
        fg.Sequential([fg.Dense(3), fg.Add()], 5)


def test_a_model_without_parameters_cannot_be_trained():
    model = fg.Sequential([fg.MaxPool2d(2), fg.GlobalAveragePool2d()], (4, 4, 3))
    x, y = examples(2, (4, 4, 3), 3)
    assert model(x).shape == (2, 3)
    with pytest.raises(fg.ConfigError, match="no parameters"):
        fg.Trainer(model, optimizer=fg.SGD(0.1)).step(x, y)


def test_shapes_follow_the_convolution_arithmetic():
    for layer, expected in (
        (fg.Conv2d(4, 3, padding="same"), (9, 7, 4)),
        (fg.Conv2d(4, 3, stride=2, padding="same"), (5, 4, 4)),
        (fg.Conv2d(4, (2, 5)), (8, 3, 4)),
        (fg.Conv2d(4, 3, dilation=(2, 3), padding=((1, 0), (2, 1))), (6, 4, 4)),
        (fg.MaxPool2d(2), (4, 3, 2)),
        (fg.MaxPool2d(3, 2, "same"), (5, 4, 2)),
        (fg.AvgPool2d((1, 7)), (9, 1, 2)),
    ):
        assert fg.Sequential([layer], (9, 7, 2)).output_shape == expected
