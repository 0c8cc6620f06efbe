"""Reverse mode of attention, positions and transformer blocks against forward mode in float64 NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.reverse import cotangents
from fgnumba.kernels.machine import threads
from fgnumba.kernels.rules.philox import set_stream
from fgnumba.model.jvp import checked_targets
from tests import tolerances
from tests.model.test_attention_jvp import CASES, graphs
from tests.model.test_recurrent_jvp import inputs_of, losses, moved

LOSS = fg.SoftmaxCrossEntropy()
PROBES = 4


def check(model, batch, seed, checkpoint=False, training=False):
    rng = np.random.default_rng(seed)
    moved(model, rng)
    x, y = inputs_of(model, batch, rng), rng.integers(0, model.outputs, (batch, model.positions))
    shapes = {name: array.shape for name, array in model.parameters().items()}
    # Probes of all parameters together, then of each array alone: a wrong one cannot hide behind a large one.
    probes = {name: np.zeros((PROBES + len(shapes), *shape)) for name, shape in shapes.items()}
    for index, (name, shape) in enumerate(shapes.items()):
        probes[name][:PROBES] = rng.standard_normal((PROBES, *shape))
        probes[name][PROBES + index] = rng.standard_normal(shape)
    expected, derivatives = losses(model, x, y, probes, stream=(seed, 3) if training else None)
    plan = reverse.ReversePlan(model, batch, LOSS, training=training, checkpoint=checkpoint)
    set_stream(plan.stream, seed, 3)
    value = plan.run(model.checked_input(x), checked_targets(model, LOSS, x, y))
    packed = model.packed_parameters
    gradient = {name: packed[name].array(array) for name, array in plan.gradients.items()}
    tolerances.GRAPH_LOSS.check(value, expected)
    norm = np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in gradient.values()))
    for index, derivative in enumerate(derivatives):
        length = np.sqrt(sum(float((v[index] ** 2).sum()) for v in probes.values()))
        found = sum(float((gradient[name] * v[index]).sum()) for name, v in probes.items())
        which = "all" if index < PROBES else list(shapes)[index - PROBES]
        bound = (tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]) * length
        assert abs(found - derivative) <= bound, f"{which}: {found:.7g} for {derivative:.7g}"


def both(monkeypatch, by_rows):
    """Let dense layers of few rows go through panels of features, or through panels of examples."""
    monkeypatch.setattr(cotangents, "MANY_ROWS", 1 if by_rows else 1000)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_each_layer(name, by_rows, monkeypatch):
    both(monkeypatch, by_rows)
    layer, shape = CASES[name]
    check(fg.Sequential([fg.Dense(shape[1]), layer, fg.Dense(3)], shape, seed=1, device="cpu"), 3, 5)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_heads_that_fill_a_panel(bias, checkpoint):
    attention = fg.SelfAttention(3, 1, size=32, causal=True, bias=bias)
    check(fg.Sequential([attention, fg.Dense(3)], (9, 7), seed=1, device="cpu"), 4, 2, checkpoint)


def test_gradients_of_what_attention_does_not_drop():
    layers = [
        fg.Embedding(5, 12),
        fg.TransformerBlock(3, dropout=0.4),
        fg.SelfAttention(2, 1, size=32, dropout=0.2),
        fg.Dense(3),
    ]
    check(fg.Sequential(layers, (7,), seed=1, device="cpu"), 3, 5, training=True)


@settings(max_examples=25, deadline=None)
@given(graphs(), st.integers(0, 2**31 - 1), st.booleans())
def test_gradients_of_any_graph(graph, seed, checkpoint):
    nodes, shape, batch = graph
    check(fg.Graph(nodes, shape, seed=seed, device="cpu"), batch, seed, checkpoint)


def language_model(length=40):
    layers = [
        fg.Embedding(7, 64),
        fg.PositionalEmbedding(50),
        fg.TransformerBlock(2),
        fg.TransformerBlock(4, 48, normalization="rms_norm", rotary=fg.RotaryEmbedding()),
        fg.LayerNorm(),
        fg.Dense(7),
    ]
    return fg.Sequential(layers, (length,), device="cpu")


def test_a_step_is_the_gradient_times_the_learning_rate():
    rng = np.random.default_rng(0)
    model = language_model()
    x = rng.integers(0, 7, (8, 41))
    before = model.parameters()
    value, gradient = reverse.value_and_grad(model, LOSS, x[:, :-1], x[:, 1:])
    assert reverse.ReverseTrainer(model, 0.25).step(x[:, :-1], x[:, 1:]) == value
    for name, array in model.parameters().items():
        tolerances.GRADIENT_STEP.check(array, before[name] - 0.25 * gradient[name], name)


def test_gradients_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    x = np.random.default_rng(0).integers(0, 7, (8, 41))
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        found.append(reverse.value_and_grad(language_model(), LOSS, x[:, :-1], x[:, 1:])[1])
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_a_trainer_learns_to_repeat():
    rng = np.random.default_rng(0)
    model = language_model(16)
    trainer = fg.Trainer(model, estimator=reverse.ReverseMode(), optimizer=fg.Adam(3e-3))
    losses_of = []
    for _ in range(60):
        x = rng.integers(0, 7, (16, 16))
        losses_of.append(trainer.step(x, np.concatenate([x[:, :1], x[:, :-1]], 1)).loss)
    assert losses_of[-1] < 0.6 * losses_of[0]
