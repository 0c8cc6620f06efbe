"""Reverse mode within blocks: each block's gradient is that of a model that ends with the block's own head."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.reverse import cotangents
from fgnumba.model.jvp import checked_targets
from tests import tolerances
from tests.model.test_recurrent_jvp import inputs_of, losses, moved

LOSS = fg.SoftmaxCrossEntropy()
OUTPUTS, PROBES = 5, 3
BLOCKS = {
    "sequential": (fg.TransformerBlock(2, 13), fg.TransformerBlock(2, 13, rotary=fg.RotaryEmbedding())),
    "parallel": (fg.TransformerBlock(2, parallel=True), fg.TransformerBlock(1, parallel=True)),
    "unlike": (fg.TransformerBlock(3), fg.TransformerBlock(2, parallel=True), fg.TransformerBlock(2)),
}
ENDS = {"layer norm": [fg.LayerNorm()], "rms norm": [fg.RMSNorm()], "no norm": []}


def model_of(blocks, end, length=7, channels=12):
    layers = [fg.Embedding(6, channels), fg.PositionalEmbedding(9), *blocks, *end, fg.Dense(OUTPUTS)]
    return fg.Sequential(layers, (length,), seed=1, device="cpu")


def ended(model, name, norm, head):
    """Return the model up to the node `name`, with a head of its own there, and the gradients' names in it."""
    count = [node.name for node in model.nodes].index(name) + 1
    layers = [fg.Node("norm", norm[0], (name,))] if norm else []
    nodes = [*model.nodes[:count], *layers, fg.Node("head", fg.Dense(OUTPUTS))]
    made = fg.Graph(nodes, model.input_shape, device="cpu")
    known = model.parameters()
    given = {n: known[n] for n in made.parameters() if n in known}
    if norm:
        shapes = {n: a.shape for n, a in made.parameters().items() if n.startswith("norm.")}
        given |= {n: np.full(shape, float(n == "norm.scale"), np.float32) for n, shape in shapes.items()}
    made.load_parameters({**given, **{f"head.{part}": array for part, array in head.items()}})
    return made


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients_are_those_of_the_local_losses(kind, end, by_rows, monkeypatch):
    monkeypatch.setattr(cotangents, "MANY_ROWS", 1 if by_rows else 1000)
    rng = np.random.default_rng(0)
    model = model_of(BLOCKS[kind], ENDS[end])
    moved(model, rng)
    heads = reverse.ReverseMode(within_blocks=True).own_parameters(model, 3)
    x, y = inputs_of(model, 3, rng), rng.integers(0, OUTPUTS, (3, model.positions))
    plan = reverse.ReversePlan(model, 3, LOSS, heads=heads)
    value = plan.run(model.checked_input(x), checked_targets(model, LOSS, x, y))
    tolerances.SAME_LOSS.check(value, reverse.value_and_grad(model, LOSS, x, y)[0])
    parameters = {**model.packed_parameters, **heads}
    gradient = {name: parameters[name].array(array) for name, array in plan.gradients.items()}
    seen = 0
    first = ("0", "1", "2")
    for number in range(len(BLOCKS[kind])):
        name, last = str(number + 2), number == len(BLOCKS[kind]) - 1
        head = {} if last else {part: heads[f"head.{name}.{part}"].array() for part in ("weight", "bias")}
        local = model if last else ended(model, name, ENDS[end], head)
        own = {}
        for key in local.parameters():
            node = key.partition(".")[0]
            block = node.partition("_")[0]
            if node == "head":
                own[key] = f"head.{name}.{key.partition('.')[2]}"
            elif block == name or (number == 0 and block in first) or (last and int(block) > number + 2):
                own[key] = key
        seen += len(own)
        check(local, own, gradient, x, y, rng)
    assert seen == len(gradient)


def check(local, own, gradient, x, y, rng):
    """Compare the gradients of the parameters `own`, which are those of the local model, with its derivatives."""
    shapes = {key: array.shape for key, array in local.parameters().items()}
    probes = {key: np.zeros((PROBES + len(own), *shape)) for key, shape in shapes.items()}
    for index, key in enumerate(own):
        probes[key][:PROBES] = rng.standard_normal((PROBES, *shapes[key]))
        probes[key][PROBES + index] = rng.standard_normal(shapes[key])
    _, derivatives = losses(local, x, y, probes)
    norm = np.sqrt(sum(float((gradient[name].astype(np.float64) ** 2).sum()) for name in own.values()))
    for index, derivative in enumerate(derivatives):
        length = np.sqrt(sum(float((v[index] ** 2).sum()) for v in probes.values()))
        found = sum(float((gradient[name] * probes[key][index]).sum()) for key, name in own.items())
        which = "all" if index < PROBES else list(own)[index - PROBES]
        bound = (tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]) * length
        assert abs(found - derivative) <= bound, f"{which}: {found:.7g} for {derivative:.7g}"


@pytest.mark.parametrize("optimizer", [fg.SGD(0.3), fg.Adam(5e-3)], ids=["sgd", "adam"])
def test_a_trainer_learns_to_repeat(optimizer):
    rng = np.random.default_rng(0)
    layers = [fg.Embedding(OUTPUTS, 32), *[fg.TransformerBlock(1)] * 2, fg.LayerNorm(), fg.Dense(OUTPUTS)]
    model = fg.Sequential(layers, (8,), device="cpu")
    trainer = fg.Trainer(model, estimator=reverse.ReverseMode(within_blocks=True), optimizer=optimizer)
    found = []
    for _ in range(100):
        x = rng.integers(0, OUTPUTS, (32, 8))
        found.append(trainer.step(x, np.concatenate([x[:, :1], x[:, :-1]], 1)).loss)
    assert found[-1] < 0.6 * found[0]


def test_heads_are_those_of_block_feedback():
    model = model_of(BLOCKS["sequential"], [fg.LayerNorm()])
    ours = reverse.ReverseMode(within_blocks=True).own_parameters(model, 3)
    theirs = fg.BlockFeedback().own_parameters(model, 3)
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        np.testing.assert_array_equal(parameter.packed, theirs[name].packed)


@pytest.mark.parametrize("optimizer", [fg.SGD(0.3, momentum=0.9), fg.Adam(5e-3)], ids=["momentum", "adam"])
def test_nothing_is_moved_if_a_block_has_no_finite_loss(optimizer):
    model = model_of(BLOCKS["sequential"], [fg.LayerNorm()])
    trainer = fg.Trainer(model, estimator=reverse.ReverseMode(within_blocks=True), optimizer=optimizer)
    x = np.random.default_rng(0).integers(0, 5, (3, 7))
    trainer.step(x, x)
    trainer.state.parameters["head.2.bias"].packed[0] = np.inf
    before = model.parameters()
    with pytest.raises(fg.DivergenceError):
        trainer.step(x, x)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_what_has_no_blocks_is_refused():
    flat = fg.Sequential([fg.Dense(3)], 5, device="cpu")
    with pytest.raises(fg.ConfigError, match="block feedback: "):
        fg.Trainer(flat, estimator=reverse.ReverseMode(within_blocks=True), optimizer=fg.SGD(0.1))
    model = model_of(BLOCKS["sequential"], [])
    estimator = reverse.ReverseMode(checkpoint=True, within_blocks=True)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.1))
    with pytest.raises(fg.ConfigError, match="within blocks, nothing is kept for longer than a block"):
        trainer.step(np.zeros((2, 7), int), np.zeros((2, 7), int))
