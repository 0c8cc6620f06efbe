"""Transformers: ratios of a block, and a training step of the character transformer over reverse mode and PyTorch's."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure.timing import Contender, interleaved
from fgnumba.bench.measure.transformer_peers import torch_step
from fgnumba.model.directions import BY_NAME

SYMBOLS, LOSS = 65, fg.SoftmaxCrossEntropy()
BLOCKS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
SIZES = {"128 wide, 12 x 64": (4, 128, 64, 12), "512 wide, 4 x 256": (8, 512, 256, 4)}
"""Heads, channels, positions and examples."""


def text(batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, (batch, length + 1))
    return symbols[:, :-1], symbols[:, 1:]


def transformer(blocks: int, heads: int, width: int, length: int) -> fg.Sequential:
    layers = [
        fg.Embedding(SYMBOLS, width),
        fg.PositionalEmbedding(length),
        *[fg.TransformerBlock(heads, affine=False)] * blocks,
        fg.LayerNorm(),
        fg.Dense(SYMBOLS),
    ]
    return fg.Sequential(layers, (length,), device="cpu")


@pytest.mark.quick
@pytest.mark.benchmark(group="transformers")
@pytest.mark.parametrize("size", SIZES)
def test_ratios_of_a_block(benchmark, goal, size, threads):
    """Rf and Rb of one block between an embedding and a readout."""
    heads, width, length, batch = SIZES[size]
    model = transformer(1, heads, width, length)
    x, y = text(batch, length)
    x, y = x.astype(np.float32), y.reshape(-1)
    primal = model.plan(batch, loss=LOSS)
    dual = model.plan(batch, BY_NAME["rank1"].kind, 1, LOSS)
    backward = reverse.ReversePlan(model, batch, LOSS)
    timings = interleaved(
        {
            "f": lambda: primal.run(x, y),
            "forward": lambda: dual.run(x, y),
            "reverse": lambda: backward.run(x, y),
        }
    )
    benchmark.pedantic(lambda: dual.run(x, y), rounds=10, warmup_rounds=1)
    what = f"block, {size}, {threads} threads"
    goal(f"{what}: f", timings.seconds("f") * 1e3, unit="ms")
    goal(f"{what}: Rf", timings.ratio("forward", "f"), at_most=2.2)
    goal(f"{what}: Rb", timings.ratio("reverse", "f"))
    goal(f"{what}: Rf/Rb", timings.ratio("forward", "reverse"), at_most=1)


def step(estimator: fg.estimators.Estimator) -> Contender:
    """Return a function that takes a step of the character transformer."""
    model = transformer(BLOCKS, HEADS, WIDTH, CONTEXT)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(1e-7))
    x, y = text(BATCH, CONTEXT)
    return lambda: trainer.step(x, y)


@pytest.mark.quick
@pytest.mark.benchmark(group="transformers")
def test_step_of_the_character_transformer(benchmark, goal, threads):
    """Whole steps: block feedback, reverse mode within blocks and through everything, and PyTorch's."""
    contenders = {
        "block feedback": step(fg.BlockFeedback()),
        "within blocks": step(reverse.ReverseMode(within_blocks=True)),
        "through everything": step(reverse.ReverseMode()),
    }
    parameters = transformer(BLOCKS, HEADS, WIDTH, CONTEXT).parameters()
    theirs = torch_step(parameters, HEADS, *text(BATCH, CONTEXT), threads)
    if theirs is not None:
        contenders["PyTorch"] = theirs
    timings = interleaved(contenders)
    benchmark.pedantic(contenders["block feedback"], rounds=10, warmup_rounds=1)
    what = f"character transformer, {threads} threads"
    for name in contenders:
        goal(f"{what}: {name}", timings.seconds(name) * 1e3, unit="ms")
    goal(f"{what}: over reverse mode", timings.ratio("block feedback", "through everything"), at_most=1.2)
    goal(f"{what}: over reverse mode within blocks", timings.ratio("block feedback", "within blocks"))
    if theirs is not None:
        goal(f"{what}: over PyTorch's", timings.ratio("block feedback", "PyTorch"), at_most=1)
        ours = timings.ratio("through everything", "PyTorch")
        goal(f"{what}: reverse mode over PyTorch's", ours, at_most=1)
