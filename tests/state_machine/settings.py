"""Arguments of trainers and their batches as lines of text that make the same thing again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fgnumba as fg
from tests.state_machine.networks import NUMBERS, Network, Shape, networks, streams
from tests.state_machine.own_loss import Scaled

DIRECTIONS = ("rank1", "orthogonal", "rademacher", "gaussian")
KINDS: dict[str, Any] = {
    "WeightPerturbation": fg.WeightPerturbation,
    "ActivityPerturbation": fg.ActivityPerturbation,
    "SPSA": fg.SPSA,
    "CoordinateDifferences": fg.CoordinateDifferences,
    "HybridDifferences": fg.HybridDifferences,
    "BlockFeedback": fg.BlockFeedback,
    "Feedback": fg.Feedback,
    "LocalLosses": fg.LocalLosses,
    "SGD": fg.SGD,
    "Adam": fg.Adam,
    "AdamW": fg.AdamW,
    "FrankWolfe": fg.FrankWolfe,
    "Cosine": fg.schedules.Cosine,
    "Warmup": fg.schedules.Warmup,
    "Exponential": fg.schedules.Exponential,
    "SoftmaxCrossEntropy": fg.SoftmaxCrossEntropy,
    "MeanSquaredError": fg.MeanSquaredError,
    "BinaryCrossEntropy": fg.BinaryCrossEntropy,
    "Huber": fg.Huber,
    "ExampleWeights": fg.losses.ExampleWeights,
    "Scaled": Scaled,
}


@dataclass(frozen=True)
class Made:
    """An object by the name of its class and its arguments; whole numbers among them may be of a type of NumPy's."""

    kind: str
    arguments: tuple[tuple[str, Any], ...] = ()
    number: str = "int"

    def build(self, number: str | None = None) -> Any:
        """Return the object, with numbers of another type where one is named."""
        cast = NUMBERS[number or self.number]

        def value(given: Any) -> Any:
            if isinstance(given, Made):
                return given.build(number)
            return cast(given) if type(given) is int else given

        return KINDS[self.kind](**{name: value(given) for name, given in self.arguments})


def made(kind: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Made]:
    """Return objects of a class, its arguments drawn."""
    return st.builds(
        lambda number, **drawn: Made(kind, tuple(drawn.items()), number),
        number=st.sampled_from(tuple(NUMBERS)),
        **arguments,
    )


def estimators() -> st.SearchStrategy[Made]:
    """Return every estimator of any model, with settings of every kind."""
    along: dict[str, Any] = {"direction": st.sampled_from(DIRECTIONS), "directions": st.integers(1, 4)}
    feedback = st.one_of(
        st.none(),
        made("Feedback", cells=st.sampled_from((1, 2, 7))),
        made("Feedback", control=st.just(0.0), every=st.integers(1, 3)),
        made(
            "Feedback",
            control=st.just(0.0),
            every=st.integers(1, 3),
            warmup=st.integers(0, 2),
            follow=st.just(True),
        ),
        made("Feedback", rate=st.just(0.1), rule=st.just("average"), control=st.just(0.0)),
    )
    local = st.one_of(st.none(), made("LocalLosses", cells=st.sampled_from((1, 2, 7))))
    return st.one_of(
        made("WeightPerturbation", **along),
        made(
            "WeightPerturbation",
            **along,
            combine=st.sampled_from(("mean", "projected")),
            control=st.sampled_from((0.0, 0.5)),
            clip=st.sampled_from((None, 0.5)),
        ),
        made(
            "ActivityPerturbation",
            draws=st.integers(1, 3),
            layerwise=st.booleans(),
            feedback=feedback,
            local=local,
        ),
        made("SPSA", **along),
        made("CoordinateDifferences", coordinates=st.integers(1, 3)),
        made("HybridDifferences", **along, coordinates=st.integers(1, 2)),
    )


def block_feedback() -> st.SearchStrategy[Made]:
    """Return estimators of residual streams alone."""
    settings = {
        "relayed": st.booleans(),
        "noise": st.sampled_from((1, 5, 96)),
        "rate": st.sampled_from((0.5, 1.0)),
    }
    return made("BlockFeedback", **settings)


RATES = (1e-3, 1e-2)
TOO_MUCH = 1e30
"""A learning rate that training diverges with, in one step or a few."""


def optimizers() -> st.SearchStrategy[Made]:
    """Return every optimiser, with numbers and schedules for learning rates; one diverges."""
    cosine = made("Cosine", learning_rate=st.just(1e-2), steps=st.sampled_from((3, 9)))
    rate = st.one_of(
        st.sampled_from(RATES),
        cosine,
        made("Warmup", schedule=cosine, steps=st.integers(1, 4)),
        made("Exponential", learning_rate=st.just(1e-2), decay=st.just(0.1)),
    )
    more = {"weight_decay": st.sampled_from((0.0, 0.1)), "clip_norm": st.sampled_from((None, 1.0))}
    return st.one_of(
        made("SGD", learning_rate=rate),
        made("SGD", learning_rate=st.sampled_from(RATES), decay=st.just(0.1)),
        made("SGD", learning_rate=rate, momentum=st.just(0.5), nesterov=st.booleans(), **more),
        made("Adam", learning_rate=rate, **more),
        made("AdamW", learning_rate=rate, **more),
        made("FrankWolfe", radius=st.just(5.0), norm=st.sampled_from(("l2", "linf"))),
        made("SGD", learning_rate=st.just(TOO_MUCH)),
    )


def losses() -> st.SearchStrategy[Made]:
    """Return the package's losses, and one of one's own."""
    return st.one_of(
        made("SoftmaxCrossEntropy"),
        made("SoftmaxCrossEntropy", label_smoothing=st.sampled_from((0.0, 0.1))),
        made("MeanSquaredError"),
        made("BinaryCrossEntropy"),
        made("Huber", delta=st.sampled_from((1, 0.5))),
        made(
            "ExampleWeights",
            loss=st.one_of(made("SoftmaxCrossEntropy"), made("Huber"), made("BinaryCrossEntropy")),
        ),
        made("Scaled", factor=st.sampled_from((1, 3, 10))),
    )


LAYOUTS = (
    *("plain", "float64", "uint8", "fortran", "swapped", "strided", "backwards", "misaligned", "big-endian"),
    *("broadcast", "read-only", "objects", "list"),
)


def _misaligned(x: np.ndarray) -> np.ndarray:
    found = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


@dataclass(frozen=True)
class Batch:
    """Examples and their targets, drawn from a seed, in any of the forms that arrays come in."""

    seed: int
    size: int
    layout: str = "plain"

    def x(self, shape: Shape) -> np.ndarray:
        """Return examples (B, *shape) float32, C-contiguous."""
        rng = np.random.default_rng([self.seed, self.size])
        if self.layout == "uint8":
            return rng.integers(0, 4, (self.size, *shape)).astype(np.float32)
        x = rng.standard_normal((self.size, *shape)).astype(np.float32)
        return np.repeat(x[:1], self.size, axis=0) if self.layout == "broadcast" else x

    def given(self, shape: Shape) -> Any:
        """Return the same examples as they are given."""
        x = self.x(shape)
        return {
            "plain": lambda: x,
            "float64": lambda: x.astype(np.float64),
            "uint8": lambda: x.astype(np.uint8),
            "fortran": lambda: np.asfortranarray(x),
            "swapped": lambda: np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1),
            "strided": lambda: np.repeat(x, 2, axis=0)[::2],
            "backwards": lambda: np.ascontiguousarray(x[::-1])[::-1],
            "misaligned": lambda: _misaligned(x),
            "big-endian": lambda: x.astype(">f4"),
            "broadcast": lambda: np.broadcast_to(x[:1], x.shape),
            "read-only": lambda: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
            "objects": lambda: x.astype(object),
            "list": x.tolist,
        }[self.layout]()

    def y(self, loss: Made, outputs: int) -> np.ndarray:
        """Return targets as a loss takes them."""
        rng = np.random.default_rng([self.seed, self.size, 1])
        if loss.kind == "ExampleWeights":
            arguments: dict[str, Any] = dict(loss.arguments)
            weights = rng.integers(0, 3, self.size)
            weights[0] = 1
            packed: np.ndarray = loss.build("int").pack(self.y(arguments["loss"], outputs), weights)
            return packed
        if loss.kind == "BinaryCrossEntropy":
            return rng.random((self.size, outputs)).astype(np.float32)
        if loss.kind != "SoftmaxCrossEntropy":
            return rng.standard_normal((self.size, outputs)).astype(np.float32)
        dtype = (np.int64, np.uint8, np.int32)[self.seed % 3]
        return rng.integers(0, outputs, self.size).astype(dtype)


def batches() -> st.SearchStrategy[Batch]:
    """Return batches of 1 to 20 examples."""
    return st.builds(
        Batch,
        seed=st.integers(0, 5),
        size=st.sampled_from((1, 2, 3, 7, 8, 16, 17, 20)),
        layout=st.sampled_from(LAYOUTS),
    )


def many() -> st.SearchStrategy[Batch]:
    """Return batches that are predicted in parts."""
    return st.builds(Batch, seed=st.integers(0, 5), size=st.sampled_from((256, 259)))


@dataclass(frozen=True)
class Data:
    """A small data set, drawn from a seed."""

    seed: int
    train: int
    test: int = 3

    def build(self, model: Network) -> fg.datasets.Dataset:
        """Return it with examples that a model takes; with few outputs, of few classes."""
        rng = np.random.default_rng([self.seed, self.train])
        arrays: list[np.ndarray] = []
        for size in (self.train, self.test):
            arrays.append(rng.standard_normal((size, *model.shape)).astype(np.float32))
            arrays.append(np.arange(size) % model.outputs)
        x_train, y_train, x_test, y_test = arrays
        return fg.datasets.Dataset("drawn", x_train, y_train, x_test, y_test, model.outputs)


def data_sets() -> st.SearchStrategy[Data]:
    """Return data sets whose sizes most batches do not divide."""
    return st.builds(Data, seed=st.integers(0, 3), train=st.sampled_from((1, 5, 13, 20, 31)))


@dataclass(frozen=True)
class Recipe:
    """All that a trainer is made from."""

    network: Network
    loss: Made
    estimator: Made
    optimizer: Made
    seed: int = 0

    def build(self, number: str | None = None) -> fg.Trainer:
        """Return a new trainer of a new model."""
        return fg.Trainer(
            self.network.build(number),
            loss=self.loss.build(number),
            estimator=self.estimator.build(number),
            optimizer=self.optimizer.build(number),
            seed=NUMBERS[number or "int"](self.seed),
        )

    @property
    def diverges(self) -> bool:
        """Whether its learning rate is too much."""
        return dict(self.optimizer.arguments).get("learning_rate") == TOO_MUCH


def recipes() -> st.SearchStrategy[Recipe]:
    """Return trainers of every kind."""

    def of(
        network: st.SearchStrategy[Network], estimator: st.SearchStrategy[Made]
    ) -> st.SearchStrategy[Recipe]:
        return st.builds(
            Recipe,
            network=network,
            loss=losses(),
            estimator=estimator,
            optimizer=optimizers(),
            seed=st.integers(0, 2),
        )

    return st.one_of(of(networks(), estimators()), of(streams(), st.one_of(estimators(), block_feedback())))
