"""Reverse mode that computes layers again: the same bits in less memory, and no more work than the formula says."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.reverse import checkpoints
from tests.model.test_graph_jvp import graphs, randomized

LOSS = fg.SoftmaxCrossEntropy()


@cache
def fewest(length, room, size=1):
    """Return R(L, c) by trying every division of every part."""
    if length == 1 or length * size <= room + 1:
        return length
    if room == 0:
        return math.inf
    return min(k + fewest(length - k, room - 1, size) + fewest(k, room, size) for k in range(1, length))


@pytest.mark.parametrize("size", [1, 3])
def test_a_chain_is_divided_so_that_the_fewest_links_are_computed(size):
    for length in range(1, 13):
        for room in range(1, size * length + 1):
            links, k = checkpoints.division(length, room, size)
            assert links == fewest(length, room, size)
            assert (k == 0) == (length == 1 or length * size <= room + 1)
            if k:
                assert links == k + fewest(length - k, room - 1, size) + fewest(k, room, size)


def test_work_of_one_output_and_of_the_square_root():
    for length in (2, 3, 10, 64, 100):
        assert checkpoints.division(length, 1).links == max(2, length * (length + 1) // 2 - 1)
    for length in range(1, 120, 7):
        assert checkpoints.division(length, checkpoints.square_root(length)).links <= 2 * length


def gradients(plan, x, y):
    value = plan.run(x, y)
    return {"loss": np.array(value), **{name: array.copy() for name, array in plan.gradients.items()}}


def assert_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


CHAINS: dict[str, Any] = {
    "dense": ([fg.Dense(24, activation) for activation in ("relu", "tanh", "gelu") * 4], 12),
    "images": (
        [
            *(fg.Conv2d(8, 3, padding="same", activation="relu"), fg.GroupNorm(2), fg.MaxPool2d(2)),
            *(fg.Conv2d(8, 3, padding=1, activation="tanh"), fg.LayerNorm(), fg.Dropout(0.5)),
            *(fg.Flatten(), fg.Dense(9, "tanh")),
        ],
        (12, 12, 2),
    ),
}


@pytest.mark.parametrize("kind", CHAINS)
def test_the_same_bits_with_any_number_of_outputs_kept(kind):
    layers, shape = CHAINS[kind]
    model = fg.Sequential([*layers, fg.Dense(5)], shape, seed=1, device="cpu")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((17, *model.input_shape)).astype(np.float32), rng.integers(0, 5, 17)
    whole = reverse.ReversePlan(model, 17, LOSS, training=True)
    expected, work = gradients(whole, x, y), []
    for kept in (1, 2, 3, len(layers), len(layers) + 1, 1000):
        plan = reverse.ReversePlan(model, 17, LOSS, training=True, checkpoint=True, kept=kept)
        assert_bits(gradients(plan, x, y), expected)
        work.append(plan.multiply_adds)
    assert work == sorted(work, reverse=True)
    assert work[0] > work[-1] == whole.multiply_adds


@settings(max_examples=10)
@given(graphs(), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_same_bits_in_any_graph(graph, batch, kept, seed):
    nodes, shape = graph
    model, rng = fg.Graph(nodes, shape, seed=seed, device="cpu"), np.random.default_rng(seed)
    randomized(model, rng)
    x, y = (
        rng.standard_normal((batch, *model.input_shape)).astype(np.float32),
        rng.integers(0, model.outputs, batch),
    )
    whole = reverse.ReversePlan(model, batch, LOSS)
    plan = reverse.ReversePlan(model, batch, LOSS, checkpoint=True, kept=kept)
    assert_bits(gradients(plan, x, y), gradients(whole, x, y))


def deep():
    return fg.Sequential([*(fg.Dense(32, "relu") for _ in range(30)), fg.Dense(4)], 32, seed=2, device="cpu")


def trained(estimator, optimizer=None):
    """Return the bytes of a step, and the parameters after three."""
    model, rng = deep(), np.random.default_rng(1)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=optimizer or fg.SGD(0.01), seed=0)
    for _ in range(3):
        trainer.step(rng.standard_normal((64, 32)).astype(np.float32), rng.integers(0, 4, 64))
    return trainer.bind(64).nbytes, model.parameters()


@pytest.mark.parametrize("optimizer", [fg.SGD(0.01), fg.Adam(0.001)], ids=["fused", "stored"])
def test_steps_within_a_limit_of_memory(optimizer):
    most, expected = trained(reverse.ReverseMode(), optimizer)
    kind: Any = np.int64
    for limit in (most, most - 1, most // 2, most // 4):
        nbytes, parameters = trained(reverse.ReverseMode(memory_limit=kind(limit)), optimizer)
        assert nbytes <= limit
        assert_bits(parameters, expected)
    assert trained(reverse.ReverseMode(memory_limit=most), optimizer)[0] == most


def test_impossible_limits_are_refused_in_one_line():
    with pytest.raises(
        fg.ConfigError, match=r"memory_limit is 1000; reverse mode needs \d+ bytes or more here"
    ):
        trained(reverse.ReverseMode(memory_limit=1000))
    with pytest.raises(fg.ConfigError, match="checkpoint is True, False is required"):
        reverse.ReverseMode(checkpoint=True, memory_limit=1000)
    impossible: list[Any] = [0, -1, 2.5, True]
    with pytest.raises(fg.ConfigError, match="kept is 2; without checkpoint=True"):
        reverse.ReverseMode(kept=2)
    for bad in impossible:
        with pytest.raises(fg.ConfigError, match="kept is"):
            reverse.ReverseMode(checkpoint=True, kept=bad)
        with pytest.raises(fg.ConfigError, match="memory_limit is"):
            reverse.ReverseMode(memory_limit=bad)
    with pytest.raises(fg.ConfigError, match="kept is 2; without checkpoint=True"):
        reverse.ReversePlan(deep(), 4, LOSS, kept=2)
    recurrent = fg.Sequential([fg.ElementwiseLSTM(4), fg.Dense(3)], (5, 2), device="cpu")
    with pytest.raises(fg.ConfigError, match="memory_limit: the model is recurrent"):
        fg.Trainer(recurrent, estimator=reverse.ReverseMode(memory_limit=10**6), optimizer=fg.SGD(0.1)).bind(
            3
        )


def test_residual_blocks_are_computed_again_as_a_whole():
    nodes, last = [fg.Node("in", fg.Dense(32, "relu"))], "in"
    for i in range(12):
        nodes += [
            fg.Node(f"up{i}", fg.Dense(32, "relu"), (last,)),
            fg.Node(f"down{i}", fg.Dense(32), (f"up{i}",)),
            fg.Node(f"sum{i}", fg.Add(), (last, f"down{i}")),
        ]
        last = f"sum{i}"
    model = fg.Graph([*nodes, fg.Node("out", fg.Dense(4), (last,))], 32, seed=0, device="cpu")
    whole = reverse.ReversePlan(model, 64, LOSS, update=True)
    plans = [
        reverse.ReversePlan(model, 64, LOSS, update=True, checkpoint=True, kept=kept) for kept in (1, 2, 4, 8)
    ]
    # A cut within a block would keep the block's input as well, and more outputs would need fewer bytes.
    sizes = [plan.nbytes for plan in plans]
    assert sizes == sorted(set(sizes))
    # 14 links, of which a block is two layers. A layer has three products, the first one two.
    products, readout = 64 * 32 * 32, 3 * 64 * 32 * 4
    assert whole.multiply_adds == 3 * 24 * products + 2 * products + readout
    again = (plans[0].multiply_adds - whole.multiply_adds) / (2 * products)
    assert 0 < again <= checkpoints.division(14, 1, 3).links - 14
