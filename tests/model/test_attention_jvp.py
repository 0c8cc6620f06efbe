"""JVPs of attention, positions and transformer blocks against float64 NumPy that shares no code with ours."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from tests import tolerances
from tests.model.test_recurrent_jvp import OfThreads, check, inputs_of, losses, moved, passes
from tests.references.graph_reference import evaluated

DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian", "explicit")
ROTARY = fg.RotaryEmbedding(base=100.0)
RNG = np.random.default_rng(0)


def hidden(length, *heads):
    """Return numbers that are added to scores, many of them -inf, among them a whole row."""
    mask = np.where(
        RNG.random((*heads, length, length)) < 0.4, -np.inf, RNG.standard_normal((length, length))
    )
    mask[..., length // 2, :] = -np.inf
    return mask


BLOCKS: dict[str, Any] = {
    "sequential": fg.TransformerBlock(3, hidden=13, rotary=ROTARY),
    "parallel": fg.TransformerBlock(2, parallel=True, normalization="rms_norm", causal=False, hidden=5),
    "grouped": fg.TransformerBlock(6, key_heads=2, activation="tanh", normalization="rms_norm"),
}
CASES: dict[str, tuple[Any, tuple[int, int]]] = {
    "one number": (fg.SelfAttention(1), (1, 1)),
    "one position": (fg.SelfAttention(3, causal=True, bias=True), (1, 6)),
    "causal": (fg.SelfAttention(4, causal=True), (13, 12)),
    "grouped": (fg.SelfAttention(6, 2, size=5, bias=True), (7, 7)),
    "rotary": (fg.SelfAttention(3, 1, size=34, causal=True, rotary=ROTARY, scale=0.3), (11, 31)),
    "mask": (fg.SelfAttention(2, mask=np.random.default_rng(1).random((5, 5)) < 0.5), (5, 6)),
    "nothing is seen": (fg.SelfAttention(2, mask=np.zeros((3, 3), bool), bias=True), (3, 6)),
    "added": (fg.SelfAttention(2, mask=hidden(7, 2), causal=True), (7, 10)),
    "positions": (fg.PositionalEmbedding(17), (13, 33)),
    "turns": (fg.RotaryEmbedding(heads=3), (7, 18)),
    **{f"block, {name}": (block, (5, 12)) for name, block in BLOCKS.items()},
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CASES)
def test_jvps_of_each_layer(name, direction):
    layer, shape = CASES[name]
    check(
        fg.Sequential([layer, fg.Dense(3)], shape, seed=1, device="cpu"),
        3,
        direction,
        5,
        direction == "rank1",
    )


@pytest.mark.parametrize("direction", ["rank1", "gaussian", "explicit"])
def test_what_attention_drops_is_that_of_the_primal(direction):
    layers = [
        fg.Embedding(5, 12),
        fg.TransformerBlock(3, dropout=0.4),
        fg.SelfAttention(4, 2, dropout=0.2),
        fg.Dense(3),
    ]
    check(fg.Sequential(layers, (7,), seed=1, device="cpu"), 3, direction, 5, training=True)


def test_nothing_is_dropped_in_evaluation():
    found = [
        fg.Sequential([fg.SelfAttention(2, dropout=d)], (5, 4), seed=1, device="cpu") for d in (0.0, 0.5)
    ]
    x, y = np.random.default_rng(0).standard_normal((3, 5, 4)), np.zeros((3, 5), int)
    np.testing.assert_array_equal(found[0](x), found[1](x))
    v = fg.directions.RankOne(seed=1)
    one, other = (fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, v) for model in found)
    assert one == other
    assert one != fg.jvp(found[1], fg.SoftmaxCrossEntropy(), x, y, v, training=True)


@st.composite
def graphs(draw):
    """Draw one to three layers that mix positions, with what may stand before and between them."""
    length, size = draw(st.sampled_from([1, 2, 7, 31])), draw(st.sampled_from([2, 6, 10]))
    heads = draw(st.sampled_from([1, 2, 6]))
    width = heads * size
    nodes: list[fg.Node] = []

    def add(layer, *inputs):
        nodes.append(fg.Node(f"n{len(nodes)}", layer, inputs or None))
        return nodes[-1].name

    shape: tuple[int, ...] = (length, width)
    if draw(st.booleans()):
        shape = (length,)
        add(fg.Embedding(draw(st.sampled_from([1, 7])), width))
    if draw(st.booleans()):
        add(fg.PositionalEmbedding(length + draw(st.integers(0, 3))))
    rotary = draw(st.sampled_from([None, ROTARY]))
    groups = draw(st.sampled_from([None, 1, heads]))
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["attention", "residual", "block", "parallel", "mixed"]))
        before = nodes[-1].name if nodes else "input"
        causal = draw(st.booleans())
        if kind == "mixed":
            add(fg.GRU(width))
            add(fg.RotaryEmbedding(heads=heads))
        elif kind in ("block", "parallel"):
            norm = draw(st.sampled_from(["layer_norm", "rms_norm"]))
            add(
                fg.TransformerBlock(
                    heads,
                    draw(st.sampled_from([None, 5])),
                    "tanh",
                    norm,
                    parallel=kind == "parallel",
                    causal=causal,
                    key_heads=groups,
                    rotary=rotary,
                )
            )
        else:
            bias, own = draw(st.booleans()), draw(st.sampled_from([None, 2 * size]))
            mask = (
                np.random.default_rng(length).random((length, length)) < 0.7 if draw(st.booleans()) else None
            )
            last = add(fg.SelfAttention(heads, groups, own, causal, bias, rotary, mask))
            if kind == "residual":
                add(fg.Add(), before, last)
    add(fg.Dense(draw(st.integers(2, 7))))
    return nodes, shape, draw(st.sampled_from([1, 3]))


@settings(max_examples=12, deadline=None)
@given(
    graph=graphs(), direction=st.sampled_from(DIRECTIONS), seed=st.integers(0, 2**16), masked=st.booleans()
)
def test_jvps_of_random_graphs(graph, direction, seed, masked):
    nodes, shape, batch = graph
    check(fg.Graph(nodes, shape, seed=seed, device="cpu"), batch, direction, seed, masked)


@pytest.mark.parametrize("directions", [1, 3])
@pytest.mark.parametrize("name", BLOCKS)
def test_several_directions_on_any_number_of_threads(name, directions):
    layers, batch, length = [fg.PositionalEmbedding(17), BLOCKS[name], fg.Dense(4)], 20, 17
    found = []
    for threads in (1, 2):
        model = fg.Sequential(layers, (length, 12), seed=1, device=OfThreads(threads))
        rng = np.random.default_rng(2)
        moved(model, rng)
        x, y = inputs_of(model, batch, rng), rng.integers(0, 4, (batch, length))
        found.append((model, *passes(model, batch, directions, x, y)))
    (model, values, output, v), (_, others, outputs, _) = found
    np.testing.assert_array_equal(values, others)
    np.testing.assert_array_equal(output[..., :4], outputs[..., :4])
    expected, derivatives = losses(model, x, y, v)
    norms = [np.sqrt(sum(float((array[t] ** 2).sum()) for array in v.values())) for t in range(directions)]
    tolerances.GRAPH_LOSS.check(values[0], expected)
    largest = np.abs(derivatives / norms).max() * np.array(norms)
    np.testing.assert_array_less(np.abs(values[1:] - derivatives), tolerances.DERIVATIVE * largest * 10)


@pytest.mark.parametrize("name", ["rotary", "added", "positions", "block, sequential", "block, parallel"])
def test_inputs_move_too(name):
    layer, shape = CASES[name]
    model = fg.Sequential([layer], shape, seed=1, device="cpu")
    rng = np.random.default_rng(0)
    x, dx = (rng.standard_normal((2, *shape)).astype(np.float32) for _ in range(2))
    y, dy = fg.jvp(model, (x,), (dx,))
    still = {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}
    expected, derivative = evaluated(model, x, still, dx=dx[None])
    tolerances.GRAPH_LOSS.check(y.reshape(2, -1), expected)
    tolerances.GRAPH_LOSS.check(dy.reshape(2, -1), derivative[0])
