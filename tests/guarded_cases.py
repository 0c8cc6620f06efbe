"""Every CPU operation at ragged shapes: sizes of 1, primes, and one more or less than a tile or a panel.

A case is a function of `place`, which puts an input at a guarded address. It returns arrays that say whether its
results are right.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels import OPERATIONS
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit import vector
from fgnumba.kernels.rules.activations.rules import RULES
from tests import functions_of_examples
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.guarded_rows import CASES as OF_ROWS
from tests.recipes import GENERAL

TALLEST = vector.instruction_set().max_rows
DIRECTIONS = tuple(fg.directions.BY_NAME)


def bound_operations():
    """Return the names of the operations that cases have bound."""
    return vars(CPU.kernels).keys() & set(OPERATIONS)


def data(model, batch, place, loss=None):
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, *model.input_shape)).astype(np.float32)
    if model.symbols is not None:
        x = rng.integers(0, model.symbols, x.shape).astype(np.float32)
    if isinstance(loss, fg.losses.ExampleWeights):
        targets = data(model, batch, lambda array: array, loss.loss)[1]
        return place(x), place(loss.pack(targets, rng.random(batch) + 0.5))
    if isinstance(loss, fg.BinaryCrossEntropy):
        return place(x), place(rng.random((batch, model.outputs)).astype(np.float32))
    if isinstance(loss, fg.MeanSquaredError | fg.Huber):
        return place(x), place(rng.standard_normal((batch, model.outputs)).astype(np.float32))
    return place(x), place(rng.integers(0, model.outputs, batch))


def derivatives(make, batch, place):
    """Return outputs, and derivatives along directions of every kind."""
    model = make()
    x, y = data(model, batch, place)
    loss = fg.SoftmaxCrossEntropy()
    tangents = {name: place(array) for name, array in model.parameters().items()}
    drawn: list[Any] = [fg.directions.BY_NAME[name](3, 2, 1) for name in DIRECTIONS]
    return [model(x), *(np.array(fg.jvp(model, loss, x, y, v)) for v in (tangents, *drawn))]


def in_the_input(make, batch, place):
    """Return outputs and derivatives along a direction in the input, and what a collapsed pass with tangents gives."""
    model = make()
    x, _ = data(model, batch, place)
    found = [*fg.jvp(model, (x,), (place(np.ones_like(x)),))]
    if len(model.input_shape) == 1:
        operator = fg.laplacian(model)
        bound = operator.bound(batch, 2)
        for number in range(2):
            bound.move(number, fg.directions.Gaussian(number).materialize(model))
        found += [*operator.derivatives(x), bound.run(x).copy()]
    return found


def trained(make, batch, estimator, optimizer, place, loss=None):
    """Return losses, parameters and an estimate after two steps on different batches."""
    model = make()
    trainer = fg.Trainer(model, loss=loss, estimator=estimator, optimizer=optimizer, seed=5)
    losses = [
        trainer.step(*data(model, size, place, loss)).loss for size in (batch, batch, max(1, batch - 1))
    ]
    estimate = trainer.estimate(*data(model, batch, place, loss))
    return [np.array(losses), *model.parameters().values(), *estimate.values()]


def streamed(layers, estimator, length, place):
    """Return losses, parameters and an estimate after two windows of three streams, of symbols or of numbers."""
    symbols = layers[0].symbols_read()
    model = fg.Sequential([*layers, fg.Dense(7)], (length,) if symbols else (length, 5), seed=1)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(1e-3), seed=5)
    rng = np.random.default_rng(length)
    x = [
        rng.integers(0, symbols, (3, length)).astype(np.float32)
        if symbols
        else rng.standard_normal((3, length, 5)).astype(np.float32)
        for _ in range(3)
    ]
    y = [rng.integers(0, 7, (3, length)) for _ in range(3)]
    losses = [trainer.step(place(x[i]), place(y[i])).loss for i in range(2)]
    estimate = trainer.estimate(place(x[2]), place(y[2]))
    return [np.array(losses), *model.parameters().values(), *estimate.values()]


def attended(shapes, options, place):
    """Return attention of arrays and its derivatives, in both precisions."""
    found = []
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(len(shapes))
        q, k, v, dk, dv = (place(rng.standard_normal(shapes[n]).astype(dtype)) for n in (0, 1, 2, 1, 2))
        given = {name: place(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
        found += [*fg.attention_jvp(q, k, v, None, dk, dv, **given)]
    return found


def exact(make, batch, place):
    """Return the gradient by reverse mode, whose kernels are these and some of its own."""
    model = make()
    value, gradient = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), *data(model, batch, place))
    return [np.array(value), *gradient.values()]


def dense(inputs, units, outputs, activation="tanh"):
    return fg.Sequential([fg.Dense(units, activation=activation), fg.Dense(outputs)], inputs, seed=1)


def image(layers, shape, classes=3):
    return fg.Sequential([*layers, fg.Flatten(), fg.Dense(classes)], shape, seed=1)


def mixed():
    """Return a graph of one layer of each kind that activity perturbation takes."""
    nodes = [
        fg.Node("stem", fg.Conv2d(17, 3, padding="same", activation="relu")),
        fg.Node("norm", fg.GroupNorm(17)),
        fg.Node("wise", fg.Conv2d(17, 3, groups=17, padding="same", activation="tanh")),
        fg.Node("strided", fg.Conv2d(33, 2, stride=2, activation="gelu")),
        fg.Node("pool", fg.MaxPool2d(2, 1)),
        fg.Node("one", fg.Conv2d(33, 1, activation="relu")),
        fg.Node("sum", fg.Add(), ("pool", "one")),
        fg.Node("drop", fg.Dropout(0.3)),
        fg.Node("mean", fg.AvgPool2d(2, padding="same")),
        fg.Node("flat", fg.Flatten()),
        fg.Node("hidden", fg.Dense(31, activation="relu")),
        fg.Node("layer", fg.LayerNorm()),
        fg.Node("head", fg.Dense(5)),
    ]
    return fg.Graph(nodes, (7, 5, 1), seed=1)


def filtered():
    """Return convolutions that are filtered, on images that their tiles do not fit."""
    return image(
        [
            fg.Conv2d(16, 3, padding="same", activation="relu"),
            fg.Conv2d(37, 3, padding="same", activation="tanh"),
        ],
        (7, 5, 16),
    )


def wired(name):
    nodes, shape = WIRINGS[name]
    return fg.Graph(nodes, shape, seed=3)


CASES: dict[str, Callable[..., list[Any]]] = {**OF_ROWS}
network: Callable[[], fg.Graph]

for batch, inputs, units, outputs in (
    (1, 1, 1, 2),
    (TALLEST - 1 or 2, 31, 33, 7),
    (TALLEST, 32, 64, 32),
    (TALLEST + 1, 33, 31, 2),
    (2 * TALLEST + 3, 127, 129, 11),
    (5, 1, 65, 1),
):
    network = partial(dense, inputs, units, outputs)
    CASES[f"dense {batch} x {inputs}-{units}-{outputs}"] = partial(derivatives, network, batch)
    CASES[f"in the input, {batch} x {inputs}-{units}-{outputs}"] = partial(in_the_input, network, batch)

for activation in RULES:
    CASES[f"activation {activation}"] = partial(derivatives, partial(dense, 3, 37, 2, activation), 3)

for name, layer in CONVOLUTIONS.items():
    network = partial(image, [layer, fg.Conv2d(4, 3, padding="same")], (9, 8, 6))
    CASES[f"convolution {name}"] = partial(derivatives, network, 5)
    CASES[f"gradient of convolution {name}"] = partial(exact, network, 5)

for name, layers, shape in (
    (
        "a pixel",
        [fg.Conv2d(5, 3, padding="same"), fg.MaxPool2d(1), fg.GroupNorm(5), fg.Conv2d(3, 1)],
        (1, 1, 1),
    ),
    ("a row", [fg.Conv2d(33, (1, 3), activation="elu"), fg.AvgPool2d((1, 2))], (1, 13, 1)),
    ("a column", [fg.Conv2d(31, (5, 1), stride=(3, 1)), fg.LayerNorm()], (23, 1, 2)),
    ("pooling", [fg.MaxPool2d(3, 2, "same"), fg.Conv2d(7, 1), fg.AvgPool2d(3, 1, 1)], (8, 7, 3)),
    ("depthwise of the input", [fg.Conv2d(33, 3, groups=33)], (5, 5, 33)),
    ("global", [fg.Conv2d(37, 2), fg.GroupNorm(37), fg.GlobalAveragePool2d()], (5, 7, 3)),
):
    CASES[f"images, {name}"] = partial(derivatives, partial(image, layers, shape), 4)

SEQUENCES: tuple[tuple[str, Any, Any], ...] = (
    ("element-wise LSTM", fg.ElementwiseLSTM(33), (5, 3)),
    ("minimal GRU", fg.MinGRU(31), (1, 1)),
    ("complex LRU", fg.LinearRecurrentUnit(33), (3, 7)),
    ("real LRU", fg.LinearRecurrentUnit(1, complex=False), (3, 31)),
    ("LSTM", fg.LSTM(33), (3, 5)),
    ("GRU", fg.GRU(31), (4, 1)),
    ("RMS normalisation", fg.RMSNorm(), (5, 33)),
    ("RMS normalisation without a scale", fg.RMSNorm(affine=False), (5, 33)),
    ("GRU of symbols", fg.GRU(5, symbols=7), (3,)),
    ("embedding", fg.Embedding(37, 33), (5,)),
    ("positional embedding", fg.PositionalEmbedding(7), (5, 33)),
    ("rotary embedding", fg.RotaryEmbedding(heads=3), (5, 42)),
    ("attention", fg.SelfAttention(1), (1, 1)),
    ("causal attention", fg.SelfAttention(3, causal=True, bias=True), (17, 33)),
    ("grouped attention", fg.SelfAttention(6, 2, 10, rotary=fg.RotaryEmbedding(), scale=0.5), (7, 5)),
    ("masked attention", fg.SelfAttention(2, mask=np.tri(5) > 0), (5, 14)),
    ("attention with an added mask", fg.SelfAttention(2, mask=np.full((2, 3, 3), -0.5)), (3, 6)),
    ("transformer block", fg.TransformerBlock(3, hidden=31), (5, 33)),
)
for name, one, of in SEQUENCES:
    CASES[f"sequences, {name}"] = partial(derivatives, partial(image, [one], of), 4)

for name, shapes, options in (
    ("one", ((1, 1),) * 3, {}),
    ("causal", ((2, 3, 131, 17), (2, 1, 129, 17), (2, 1, 129, 33)), {"causal": True, "dropout": 0.5}),
    ("masked", ((3, 13, 31), (3, 33, 31), (3, 33, 1)), {"mask": np.tri(13, 33) > 0}),
):
    CASES[f"attention of arrays, {name}"] = partial(attended, shapes, options)

for name in WIRINGS:
    CASES[f"wiring {name}"] = partial(derivatives, partial(wired, name), 5)

for name, own in (
    ("affine", fg.layers.Function(functions_of_examples.affine, {"weight": (3, 5), "bias": (5,)})),
    ("in place", fg.layers.Function(functions_of_examples.in_place, {"scale": (3,)})),
    ("without parameters", fg.layers.Function(functions_of_examples.shifted)),
):
    first = partial(fg.Sequential, [own, fg.Dense(4)], 3, seed=1, device="cpu")
    hidden = partial(fg.Sequential, [fg.Dense(3, "tanh"), own, fg.Dense(4)], 3, seed=1, device="cpu")
    CASES[f"function {name}, first"] = partial(derivatives, first, 5)
    CASES[f"function {name}, hidden"] = partial(derivatives, hidden, 5)
CASES["in the input, images"] = partial(in_the_input, mixed, 5)
CASES["filtered"] = partial(derivatives, filtered, 5)
CASES["gradient of filtered"] = partial(exact, filtered, 5)

for symbols in (None, 7):
    for name, recurrent in (
        ("element-wise LSTM", fg.ElementwiseLSTM(33, symbols=symbols)),
        ("minimal GRU", fg.MinGRU(1, symbols=symbols)),
        ("linear", fg.LinearRecurrentUnit(31, False, symbols=symbols)),
        ("complex linear", fg.LinearRecurrentUnit(33, symbols=symbols)),
    ):
        CASES[f"traces, {name}, {'symbols' if symbols else 'numbers'}"] = partial(
            streamed, [recurrent], fg.RealTimeRecurrentLearning(), 13
        )

for title, stream, told in (
    (
        "sequential",
        [
            *(
                fg.Embedding(7, 33),
                fg.PositionalEmbedding(17),
                fg.TransformerBlock(3, hidden=31, affine=False),
            ),
            *(fg.TransformerBlock(1, 1, "relu"), fg.LayerNorm()),
        ],
        fg.BlockFeedback(),
    ),
    (
        "parallel",
        [
            fg.Dense(10),
            fg.TransformerBlock(5, hidden=65, parallel=True, normalization="rms_norm"),
            fg.RMSNorm(),
        ],
        fg.BlockFeedback(relayed=False, attention="noise", noise=7),
    ),
    ("of a number", [fg.Dense(1), fg.TransformerBlock(1, hidden=1, activation="tanh")], fg.BlockFeedback()),
):
    CASES[f"block feedback, {title}"] = partial(streamed, stream, told, 13 if len(stream) > 2 else 1)

SMALL = partial(dense, 13, 37, 5, "relu")

for size in (1, 7):
    CASES[f"relayed feedback, {size}"] = partial(
        trained, SMALL, size, fg.RelayedFeedback(noise=5), fg.Adam(1e-3, clip_norm=1.0)
    )

for name, recipe in GENERAL.items():
    for title, network, size in (("dense", SMALL, 7), ("images", mixed, 5), ("filtered", filtered, 5)):
        CASES[f"{name}, {title}"] = partial(
            trained, network, size, recipe.build(name, None, None), fg.Adam(1e-3, clip_norm=1.0)
        )

for title, estimator in (
    ("feedback added at once", fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0, every=2))),
    ("followers", fg.ActivityPerturbation(feedback=fg.Feedback(follow=True), local=fg.LocalLosses(cells=2))),
    ("heads of groups", fg.ActivityPerturbation(2, local=fg.LocalLosses(cells=2))),
    ("layerwise in cells", fg.ActivityPerturbation(3, True, fg.Feedback(0.3, "average", cells=2))),
):
    for kind, network, size in (("dense", SMALL, 1), ("images", mixed, 11)):
        CASES[f"{title}, {kind}"] = partial(trained, network, size, estimator, fg.SGD(1e-3))

for direction in DIRECTIONS:
    for combine, count in (("mean", 1), ("projected", 33)):
        CASES[f"{direction}, {combine} of {count}"] = partial(
            trained, SMALL, 3, fg.WeightPerturbation(direction, count, combine), fg.SGD(1e-3)
        )
    CASES[f"{direction}, control variate"] = partial(
        trained,
        mixed,
        3,
        fg.WeightPerturbation(direction, 3, control=0.5, clip=1.0),
        fg.SGD(1e-3, momentum=0.5),
    )
    CASES[f"{direction}, differences"] = partial(
        trained, mixed, 3, fg.HybridDifferences(direction, 3, 2), fg.SGD(1e-3)
    )

for optimizer in (
    fg.SGD(1e-3, momentum=0.9, nesterov=True, weight_decay=0.1, clip_norm=1.0),
    fg.AdamW(1e-3, clip_norm=0.1),
    fg.FrankWolfe(5.0),
    fg.FrankWolfe(5.0, norm="linf"),
):
    for loss in (fg.SoftmaxCrossEntropy(), fg.MeanSquaredError()):
        title = f"{type(optimizer).__name__} {getattr(optimizer, 'norm', '')}, {type(loss).__name__}"
        CASES[title] = partial(
            trained, partial(dense, 1, 97, 1 if "Mean" in title else 37), 13, None, optimizer, loss=loss
        )

for each in (fg.SoftmaxCrossEntropy(0.1, range(1, 38)), fg.BinaryCrossEntropy(), fg.Huber(0.5)):
    for weighted in (False, True):
        chosen: fg.losses.Loss = each.with_example_weights() if weighted else each
        for name, one in (("weights", fg.WeightPerturbation()), ("activities", fg.ActivityPerturbation())):
            title = f"{type(each).__name__}{' with weights' if weighted else ''}, {name}"
            CASES[title] = partial(trained, partial(dense, 1, 97, 37), 13, one, fg.SGD(1e-3), loss=chosen)
