"""Networks on which precisions are compared, and the errors of their derivatives beside float64 NumPy.

    python -m tests.precision_networks

prints the largest errors of all networks by precision, as Markdown. Nothing that the errors are measured with shares
code with the library: derivatives of reference are those of ``tests.references.graph_reference``. The gradient that one
of the directions follows is computed by the benchmarks' reverse mode; ‖∇f‖ is the reference's derivative along it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.devices.device import Cpu
from tests.references.graph_reference import evaluated

PAIRS = (
    ("float32", "float32"),
    ("bf16x3", "bf16x3"),
    ("bf16x3", "bf16x2"),
    ("bf16x2", "bf16x2"),
    ("float32", "bf16x2"),
    ("float32", "bf16"),
    ("bf16x3", "bf16"),
    ("bf16", "bf16"),
)
"""Precisions of the primal and of tangents that are compared."""

DRAWN = ("rank1", "rademacher", "gaussian")
EXPLICIT = ("explicit", "gradient", "entry")
"""Directions of normal numbers; the gradient; one entry of it, the largest."""

STEPS = 0, 300
"""Steps of training after which errors are compared."""

LOSS = fg.SoftmaxCrossEntropy()


@dataclass(frozen=True)
class Network:
    """A network that precisions are compared on.

    Parameters
    ----------
    layers : callable
        Returns its layers.
    shape : tuple of int
        Shape of an example.
    batch : int
        Number of examples.
    classes : int
        Number of classes.
    products : int
        Number of products in a row, from the examples to the loss: layers, and positions of recurrent ones.
    kinks : bool
        Whether an activation or a maximum has kinks. By default there are none.
    """

    layers: Callable[[], list[Any]]
    shape: tuple[int, ...]
    batch: int
    classes: int
    products: int
    kinks: bool = False


def perceptron(activation: str, *widths: int) -> Callable[[], list[Any]]:
    """Return what makes dense layers of these widths, after a flattening of images."""
    return lambda: [
        fg.Flatten(),
        *(fg.Dense(width, activation) for width in widths[:-1]),
        fg.Dense(widths[-1]),
    ]


def convolutional() -> list[Any]:
    """Return convolutions of 8 channels, a pooling after the second, and dense layers."""
    first, second = (fg.Conv2d(8, 3, padding="same", activation="relu") for _ in range(2))
    return [
        *(first, second, fg.MaxPool2d(2)),
        *(fg.Flatten(), fg.Dense(32, "relu"), fg.Dense(10)),
    ]


def sequential(*layers: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Return what makes layers of a sequence, its last position's outputs with a dense layer."""
    return lambda: [*(layer() for layer in layers), fg.Flatten(), fg.Dense(5)]


SMALL = {
    "3 x 4 x 3": Network(perceptron("tanh", 4, 3), (3,), 6, 3, 2),
    "64 x 10": Network(perceptron("tanh", 10), (8, 8, 1), 64, 10, 1),
    "digits, 64 x 64 x 10": Network(perceptron("relu", 64, 10), (8, 8, 1), 64, 10, 2, kinks=True),
    "tanh, 64 x 128 x 10": Network(perceptron("tanh", 128, 10), (8, 8, 1), 64, 10, 2),
    "eight layers of 48": Network(perceptron("gelu", *[48] * 8, 10), (8, 8, 1), 32, 10, 9),
    "convolutions": Network(convolutional, (10, 10, 1), 12, 10, 4, kinks=True),
    "LSTM": Network(sequential(lambda: fg.LSTM(24)), (12, 5), 8, 5, 13),
    "GRU": Network(sequential(lambda: fg.GRU(24)), (12, 5), 8, 5, 13),
    "element-wise LSTM": Network(sequential(lambda: fg.ElementwiseLSTM(40), fg.RMSNorm), (12, 5), 8, 5, 2),
    "minimal GRU": Network(sequential(lambda: fg.MinGRU(40)), (12, 5), 8, 5, 2),
    "linear recurrent unit": Network(sequential(lambda: fg.LinearRecurrentUnit(24)), (12, 5), 8, 5, 2),
    "transformer block": Network(
        sequential(lambda: fg.Dense(36), lambda: fg.TransformerBlock(4)), (7, 3), 8, 5, 8
    ),
}
"""Networks that twins compute in seconds."""

LARGE = {
    "784 x 1024 x 1024 x 10": Network(perceptron("relu", 1024, 1024, 10), (28, 28, 1), 64, 10, 3, kinks=True),
    "784 x 256 x 256 x 10, tanh": Network(perceptron("tanh", 256, 256, 10), (28, 28, 1), 64, 10, 3),
}
"""Networks of the size of the defaults."""

NETWORKS = SMALL | LARGE


def moved_to(model: Any, pair: tuple[str, str]) -> Any:
    """Return the same model, whose products are computed in a pair of precisions."""
    other = fg.Graph(model.nodes, model.input_shape, device=Cpu(*pair))
    other.load_parameters(model.parameters())
    return other


def problem(name: str, seed: int, steps: int) -> tuple[Any, Any, Any]:
    """Return a network in float32 after so many steps of training, examples and targets.

    Classes have centres, so that there is something to learn. Images are zero in many places, as drawn digits are.
    """
    network, rng = NETWORKS[name], np.random.default_rng(seed)
    y = rng.integers(0, network.classes, network.batch)
    centres = rng.standard_normal((network.classes, *network.shape))
    x = (centres[y] + rng.standard_normal((network.batch, *network.shape))).astype(np.float32)
    if len(network.shape) == 3:
        x = np.clip(x, 0, 1)
    model = fg.Sequential(network.layers(), network.shape, seed=seed, device="cpu")
    for _ in range(steps):
        gradient = reverse.value_and_grad(model, LOSS, x, y)[1]
        model.load_parameters(
            {key: value - np.float32(0.1) * gradient[key] for key, value in model.parameters().items()}
        )
    return model, x, y


def directions(model: Any, x: Any, y: Any, seed: int, draws: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield kinds of directions, what ``fg.jvp`` takes, and their entries by name."""
    rng = np.random.default_rng((seed, 1))
    for kind in DRAWN:
        for draw in range(draws):
            drawn = fg.directions.BY_NAME[kind](seed=seed, step=draw)
            yield kind, drawn, drawn.materialize(model)
    shapes = {name: array.shape for name, array in model.parameters().items()}
    for _ in range(draws):
        v = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        yield "explicit", v, v
    gradient = reverse.value_and_grad(model, LOSS, x, y)[1]
    gradient = {name: np.asarray(gradient[name], np.float32) for name in shapes}
    yield "gradient", gradient, gradient
    largest = max(float(np.abs(array).max()) for array in gradient.values())
    entry = {name: np.float32(np.abs(array) == largest) for name, array in gradient.items()}
    yield "entry", entry, entry


def derivatives(model: Any, x: Any, y: Any, tangents: Any) -> Any:
    """Return the loss's derivatives along tangents (T, ...) by name, in float64."""
    z, dz = evaluated(model, x, tangents)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return (p * dz).sum(-1).mean(-1)


def length(v: Any) -> float:
    """Return ‖v‖."""
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in v.values())))


def errors(name: str, seed: int = 0, steps: int = 0, draws: int = 8, pairs: Any = PAIRS) -> dict[Any, Any]:
    """Return errors of derivatives by pair of precisions, and by kind of direction.

    Each is (D, 2): |d - d₆₄| over ‖∇f‖ ‖v‖, and over ‖∇f‖ ‖v‖ / √P, the root of the mean of d² over directions with
    independent entries of one size.
    """
    model, x, y = problem(name, seed, steps)
    drawn = list(directions(model, x, y, seed, draws))
    exact = np.array(
        [derivatives(model, x, y, {key: array[None] for key, array in v.items()})[0] for _, _, v in drawn]
    )
    kinds = [kind for kind, _, _ in drawn]
    lengths = np.array([length(v) for _, _, v in drawn])
    norm = exact[kinds.index("gradient")] / lengths[kinds.index("gradient")]
    found: dict[Any, Any] = {}
    for pair in pairs:
        other = moved_to(model, pair)
        off = np.abs([fg.jvp(other, LOSS, x, y, tangents)[1] for _, tangents, _ in drawn] - exact)
        off /= norm * lengths
        each = np.stack([off, off * np.sqrt(model.parameter_count)], 1)
        found[pair] = {kind: each[np.array(kinds) == kind] for kind in (*DRAWN, *EXPLICIT)}
    return found


def largest(name: str, draws: int = 8) -> dict[Any, float]:
    """Return the largest error of a network's derivatives over ‖∇f‖ ‖v‖, by pair of precisions.

    Parameters
    ----------
    name : str
        The network, which is trained from five seeds, a large one from two.
    draws : int
        Number of directions of each kind.
    """
    found = dict.fromkeys(PAIRS, 0.0)
    for seed in range(2 if name in LARGE else 5):
        for steps in STEPS:
            for pair, kinds in errors(name, seed, steps, draws).items():
                found[pair] = max(found[pair], *(float(each[:, 0].max()) for each in kinds.values()))
    return found


def pair_name(pair: tuple[str, str]) -> str:
    """Return a pair of precisions as text."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]}, tangents {pair[1]}"


def main() -> None:
    """Print the largest errors as Markdown: a row for each network, a column for each pair of precisions."""
    print("| network |", *(f"{pair_name(pair)} |" for pair in PAIRS))
    print("| --- |" + " --- |" * len(PAIRS))
    for name in NETWORKS:
        print(f"| {name} |", *(f"{error:.1e} |" for error in largest(name).values()), flush=True)


if __name__ == "__main__":
    main()
