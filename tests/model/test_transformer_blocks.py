"""Transformer blocks: models write them out as nodes, and keep what was given for copies, files and messages."""

import copy
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.layers.composite import SOURCE, Composite, Part
from fgnumba.model.saved_model import graph_of
from fgnumba.runs.presets import layers_from
from tests import tolerances

NAMES = ["_norm", "_attention", "_sum", "_norm2", "_hidden", "_project", ""]
ROTARY = fg.RotaryEmbedding(base=100.0)


def model_of(*layers, length=5, channels=12):
    return fg.Sequential([*layers, fg.Dense(3)], (length, channels), seed=1, device="cpu")


def examples(length=5, channels=12):
    return np.random.default_rng(length).standard_normal((2, length, channels)).astype(np.float32)


SMALL: Any = {"deviation": 0.02}


def test_a_block_is_written_out():
    block = fg.TransformerBlock(3, hidden=7, activation="tanh", rotary=ROTARY, dropout=0.25, key_heads=1)
    model = model_of(block)
    assert [node.name for node in model.nodes] == [*(f"0{name}" for name in NAMES), "1"]
    assert [node.inputs for node in model.nodes[:-1]] == [
        *(("input",), ("0_norm",), ("input", "0_attention")),
        *(("0_sum",), ("0_norm2",), ("0_hidden",), ("0_sum", "0_project")),
    ]
    assert [node.layer for node in model.nodes] == [
        *(
            fg.LayerNorm(),
            fg.SelfAttention(3, 1, causal=True, rotary=ROTARY, dropout=0.25, **SMALL),
            fg.Add(),
        ),
        *(fg.LayerNorm(), fg.Dense(7, "tanh"), fg.Dense(12, **SMALL), fg.Add(), fg.Dense(3)),
    ]
    assert model.layers == (block, fg.Dense(3))
    assert model.parameters()["0_attention.weight"].shape == (12, 20)


def test_a_parallel_block_is_written_out():
    block = fg.TransformerBlock(3, normalization="rms_norm", parallel=True, causal=False)
    model = fg.Graph([fg.Node("a", fg.Dense(12)), fg.Node("b", block)], (5, 4), device="cpu")
    assert [(node.name, node.inputs) for node in model.nodes[1:]] == [
        *(("b_norm", ("a",)), ("b_attention", ("b_norm",)), ("b_hidden", ("b_norm",))),
        *(("b_project", ("b_hidden",)), ("b", ("a", "b_attention", "b_project"))),
    ]
    assert [node.layer for node in model.nodes[1:]] == [
        *(fg.RMSNorm(), fg.SelfAttention(3, **SMALL), fg.Dense(48, "gelu")),
        *(fg.Dense(12, **SMALL), fg.Add()),
    ]


def test_a_block_computes_what_its_parts_do():
    model = model_of(fg.TransformerBlock(3))
    parts = fg.Graph(model.nodes, (5, 12), seed=1, device="cpu")
    np.testing.assert_array_equal(parts(examples()), model(examples()))


def test_models_of_blocks_are_copied_and_saved(tmp_path):
    model = model_of(fg.TransformerBlock(3, rotary=ROTARY), fg.TransformerBlock(2, parallel=True, hidden=5))
    named = fg.Graph([fg.Node("b", fg.TransformerBlock(3)), fg.Node("c", fg.Dense(2))], (5, 12), device="cpu")
    for one in (model, named):
        one.save(tmp_path / "model")
        for found in (copy.deepcopy(one), fg.load(tmp_path / "model", device="cpu")):
            assert type(found) is type(one)
            assert (found.given, found.nodes) == (one.given, one.nodes)
            np.testing.assert_array_equal(found(examples()), one(examples()))
    assert fg.load(tmp_path / "model").given[0].layer == fg.TransformerBlock(3)
    assert repr(model).startswith("Sequential([TransformerBlock(heads=3")
    assert "b=TransformerBlock" in repr(named)


def test_a_table_says_a_block():
    rotary = {"type": "rotary_embedding", "base": 100.0}
    tables: list[dict[str, Any]] = [
        {"type": "embedding", "symbols": "classes", "width": 12},
        {"type": "transformer_block", "heads": 3, "rotary": rotary},
        {"type": "dense", "units": "classes"},
    ]
    layers = layers_from(tables, 7, "here")
    assert layers[1] == fg.TransformerBlock(3, rotary=ROTARY)
    model = graph_of(tables, layers, (5,), device="cpu")
    assert isinstance(model, fg.Sequential)
    assert model(np.zeros((2, 5))).shape == (2, 5, 7)
    # Numbers in narrow tables stand for other tables nowhere else.
    for wrong in (
        {"type": "dense", "units": 3},
        {"base": 100.0},
        {"type": "self_attention", "rotary": rotary},
    ):
        with pytest.raises(fg.ConfigError, match=r"here: layers\[0\]: rotary: type is .* 'rotary_embedding'"):
            layers_from([{**tables[1], "rotary": wrong}], 7, "here")


def test_a_block_takes_any_length():
    layers = [fg.PositionalEmbedding(9), fg.TransformerBlock(3), fg.TransformerBlock(2, rotary=ROTARY)]
    model = model_of(*layers)
    for length in (1, 9):
        view = model.at_length(length)
        np.testing.assert_array_equal(
            view(examples(length))[:, :1], model_of(*layers, length=1)(examples(length)[:, :1])
        )
    with pytest.raises(fg.ShapeError, match=r"the input's shape is \(10, 12\); at most 9 positions"):
        model.at_length(10)


def test_blocks_share_the_memory_inside_their_attention():
    found = []
    for blocks in (3, 4):
        model = model_of(*[fg.TransformerBlock(3, normalization="rms_norm")] * blocks)
        found.append(model.plan(2, fg.directions.RankOne.kind, 1).buffer_nbytes)
    assert found[0] == found[1]


def test_a_trained_block_learns():
    layers = [fg.Embedding(5, 16), fg.PositionalEmbedding(6), fg.TransformerBlock(2, hidden=16, dropout=0.1)]
    model = fg.Sequential([*layers, fg.LayerNorm(), fg.Dense(5)], (6,), seed=1, device="cpu")
    x = np.random.default_rng(0).integers(0, 5, (32, 6))
    trainer = fg.Trainer(
        model, estimator=fg.WeightPerturbation("orthogonal", 16), optimizer=fg.Adam(3e-3), seed=1
    )
    # The symbol before, and at the beginning the first one.
    y = np.concatenate([x[:, :1], x[:, :-1]], axis=1)
    losses = [trainer.step(x, y).loss for _ in range(150)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.15
    assert np.isfinite(trainer.fit(x, y, steps=2, batch_size=8).final.loss)


def test_a_forward_gradient_is_its_derivative_times_the_direction():
    model, v = model_of(fg.TransformerBlock(3)), fg.directions.Gaussian(seed=1)
    y = np.zeros((2, 5), int)
    value, estimate = fg.forward_gradient(model, fg.SoftmaxCrossEntropy(), examples(), y, v)
    same, derivative = fg.jvp(model, fg.SoftmaxCrossEntropy(), examples(), y, v)
    assert value == same
    for name, array in v.materialize(model).items():
        tolerances.SAME_LOSS.check(estimate[name], derivative * array)


def refusing(make):
    with pytest.raises(fg.FgError) as caught:
        make()
    return f"{type(caught.value).__name__}: {caught.value}"


REFUSED: dict[str, tuple[Any, str]] = {
    "no heads": (lambda: fg.TransformerBlock(0), "ConfigError: TransformerBlock: heads is 0"),
    "key heads": (
        lambda: fg.TransformerBlock(6, key_heads=4),
        "ConfigError: TransformerBlock: key_heads is 4",
    ),
    "a normalisation": (
        lambda: fg.TransformerBlock(2, normalization="batch_norm"),
        "ConfigError: TransformerBlock: unknown normalization 'batch_norm' (choose from layer_norm, rms_norm)",
    ),
    "an activation": (
        lambda: fg.TransformerBlock(2, activation="gelo"),
        "ConfigError: TransformerBlock: unknown activation 'gelo' (did you mean 'gelu'?)",
    ),
    "turns": (
        lambda: fg.TransformerBlock(2, rotary=True),  # type: ignore[arg-type]
        "TransformerBlock: rotary is True; RotaryEmbedding()",
    ),
    "turns of other heads": (
        lambda: fg.SelfAttention(4, rotary=fg.RotaryEmbedding(heads=2)),
        "ConfigError: SelfAttention: rotary has 2 heads",
    ),
    "turns of odd heads": (
        lambda: model_of(fg.TransformerBlock(4, rotary=ROTARY)),
        "layers[0], 0_attention: SelfAttention: the input's shape is (5, 12), so that a head has 3 elements",
    ),
    "an odd size": (lambda: fg.SelfAttention(4, size=3, rotary=ROTARY), "SelfAttention: size is 3; an even"),
    "a base": (lambda: fg.RotaryEmbedding(0.5), "RotaryEmbedding: base is 0.5; a number of at least 1"),
    "odd elements": (lambda: model_of(ROTARY, channels=7), "its 7 elements cannot be cut into pairs"),
    "uneven elements": (
        lambda: model_of(fg.RotaryEmbedding(heads=4)),
        "its 12 elements cannot be cut into 4 heads of pairs",
    ),
    "uneven heads": (
        lambda: model_of(fg.TransformerBlock(5)),
        "ShapeError: layers[0], 0_attention: SelfAttention: the input's shape is (5, 12); its 12 elements cannot be "
        "cut into 5 equal heads",
    ),
    "a large head": (
        lambda: model_of(fg.SelfAttention(1), channels=257),
        "a head has 257 elements; at most 256",
    ),
    "a vector": (
        lambda: fg.Graph([fg.Node("b", fg.TransformerBlock(2))], 12),
        "ShapeError: layer 'b': TransformerBlock: the input's shape is (12,); a sequence (L, C) is required",
    ),
    "hidden units": (
        lambda: model_of(fg.TransformerBlock(2), channels=1 << 24),
        "ConfigError: layers[0]: Dense: units is 67108864",
    ),
    "a name that is taken": (
        lambda: fg.Graph([fg.Node("b_sum", fg.Dense(12)), fg.Node("b", fg.TransformerBlock(2))], (5, 12)),
        "ConfigError: layer 'b_sum': the name is that of a part of 'b', a TransformerBlock; another is required",
    ),
    "no position": (lambda: fg.PositionalEmbedding(0), "PositionalEmbedding: length is 0"),
    "a stream of positions": (
        lambda: model_of(fg.PositionalEmbedding(9)).stream(),
        "layer '0': PositionalEmbedding counts the positions of a sequence from its beginning; a stream requires",
    ),
    "a stream of blocks": (
        lambda: model_of(fg.TransformerBlock(2)).stream(),
        "layer '0_attention': SelfAttention reads all positions of a sequence at once; a stream requires",
    ),
    "second derivatives": (
        lambda: fg.laplacian(model_of(fg.TransformerBlock(2))),
        "layer '0_norm': second derivatives in the input are of dense layers; LayerNorm is none",
    ),
    "a check of a block": (
        lambda: fg.testing.check_layer(fg.TransformerBlock(2), (5, 12)),  # type: ignore[arg-type]
        "layer is TransformerBlock(heads=2",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(make, message):
    assert message in refusing(make)


class Doubled(Composite):
    """A composite of one's own: a dense layer twice."""

    def parts(self, shape):
        return Part("first", fg.Dense(shape[-1]), (SOURCE,)), Part("", fg.Dense(2), ("first",))


def test_a_composite_of_ones_own():
    model = fg.Sequential([Doubled(), Doubled()], 3, device="cpu")
    assert {name: array.shape for name, array in model.parameters().items() if "weight" in name} == {
        "0_first.weight": (3, 3),
        "0.weight": (3, 2),
        "1_first.weight": (2, 2),
        "1.weight": (2, 2),
    }
