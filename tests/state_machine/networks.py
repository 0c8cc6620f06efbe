"""Small networks as lines of text that make the same network again, with Python's or NumPy's numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fgnumba as fg

Shape = tuple[int, ...]
Gene = tuple[str, int, int]

UNITS = (1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 100)
CHANNELS = (1, 2, 3, 4, 6, 8, 15, 16, 17)
ACTIVATIONS = ("identity", "relu", "tanh", "gelu", "sigmoid")
NUMBERS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "uint8": np.uint8,
    "int8": np.int8,
    "int16": np.int16,
    "int64": np.int64,
}
SHAPES: tuple[Shape, ...] = ((1,), (3,), (17,), (33,), (1, 1, 1), (4, 3, 2), (5, 7, 1), (3, 3, 16), (6, 5, 3))


def _of(choices: tuple[Any, ...], gene: int) -> Any:
    return choices[gene % len(choices)]


def _dense(shape: Shape, a: int, b: int, number: Callable[[int], Any]) -> fg.Dense:
    return fg.Dense(number(_of(UNITS, a)), activation=_of(ACTIVATIONS, b), bias=b % 7 != 6)


def _conv(shape: Shape, a: int, b: int, number: Callable[[int], Any]) -> fg.Conv2d:
    channels, groups = shape[2], 1
    filters = _of(CHANNELS, a)
    if b % 3 == 1:
        # Depthwise; b % 3 == 2: two groups where they divide.
        groups, filters = channels, channels * (1 + a % 2)
    elif b % 3 == 2 and channels % 2 == filters % 2 == 0:
        groups = 2
    size = min(_of((3, 1, 2, 5), b), *shape[:2])
    stride = 2 if a % 4 == 3 else 1
    padding = _of(("same", "valid", 1), a + b)
    return fg.Conv2d(
        number(filters),
        number(size),
        stride=number(stride),
        padding=padding,
        groups=number(groups),
        activation=_of(ACTIVATIONS, a + b),
    )


def _pool(kind: Any) -> Callable[..., Any]:
    def make(shape: Shape, a: int, b: int, number: Callable[[int], Any]) -> Any:
        return kind(number(min(1 + a % 3, *shape[:2])), number(1 + b % 2), "same" if (a + b) % 2 else "valid")

    return make


def _group_norm(shape: Shape, a: int, b: int, number: Callable[[int], Any]) -> fg.GroupNorm:
    divisors = tuple(n for n in range(1, shape[-1] + 1) if shape[-1] % n == 0)
    return fg.GroupNorm(number(_of(divisors, a)), epsilon=(1e-5, 1e-2)[b % 2], affine=b % 3 > 0)


OF_IMAGES: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "max": _pool(fg.MaxPool2d),
    "avg": _pool(fg.AvgPool2d),
}
OF_ALL: dict[str, Callable[..., Any]] = {
    "group_norm": _group_norm,
    "layer_norm": lambda shape, a, b, number: fg.LayerNorm((1e-5, 1e-2)[a % 2], b % 3 > 0),
    "dropout": lambda shape, a, b, number: fg.Dropout((0.3, 0.5)[a % 2]),
    "activation": lambda shape, a, b, number: fg.Activation(_of(ACTIVATIONS[1:], a)),
}
OF_VECTORS: dict[str, Callable[..., Any]] = {"dense": _dense}
JOINS = ("add", "concatenate")


@dataclass(frozen=True)
class Network:
    """A network of layers that fit each other: a gene that does not fit where it stands is passed over.

    Parameters
    ----------
    shape : of an example. outputs : of the last dense layer. genes : a layer each, and what its sizes are chosen by.
    seed : of the parameters. number : the type of number that sizes are given as.
    """

    shape: Shape
    outputs: int
    genes: tuple[Gene, ...] = ()
    seed: int = 0
    number: str = "int"

    def build(self, number: str | None = None) -> fg.Graph:
        """Return the model, its sizes of another type of number where one is named."""
        converted = NUMBERS[number or self.number]

        def cast(size: int) -> Any:
            # What follows from the sizes before may be too large for some.
            return converted(size) if size <= np.iinfo(np.int8).max else size

        nodes: list[fg.Node] = []
        shape, last, joins = self.shape, "input", False

        def put(layer: Any, *inputs: str) -> str:
            nonlocal shape, joins
            joins |= len(inputs) > 1
            shape = layer.output_shape(*([shape] * max(1, len(inputs))))
            nodes.append(fg.Node(str(len(nodes)), layer, inputs or (last,)))
            return nodes[-1].name

        for kind, a, b in self.genes:
            image = len(shape) == 3
            if kind in OF_ALL or (kind in OF_IMAGES and image) or (kind in OF_VECTORS and not image):
                make = {**OF_ALL, **OF_IMAGES, **OF_VECTORS}[kind]
                last = put(make(shape, a, b, cast))
            elif kind == "flatten" and image:
                last = put(fg.Flatten())
            elif kind in JOINS:
                # A branch that leaves the shape as it is, beside what it begins with.
                branch = (
                    fg.Conv2d(cast(shape[2]), cast(min(3, *shape[:2])), padding="same")
                    if image
                    else fg.Dense(cast(shape[0]))
                )
                before, last = last, put(branch)
                join = fg.Add(_of(ACTIVATIONS, a)) if kind == "add" else fg.Concatenate()
                last = put(join, before, last)
            elif kind == "branch" and not image:
                # What a residual stream adds to itself.
                before, width = last, shape[0]
                if b % 2:
                    last = put(fg.LayerNorm())
                last = put(_dense(shape, a, b, cast))
                last = put(fg.Add(), before, put(fg.Dense(cast(width), bias=b % 3 != 2)))
        if len(shape) == 3:
            last = put(fg.Flatten())
        put(fg.Dense(cast(self.outputs)))
        given = self.shape if number == "int" else tuple(int(n) for n in self.shape)
        if joins:
            return fg.Graph(nodes, given, seed=self.seed)
        return fg.Sequential([node.layer for node in nodes], given, seed=self.seed)


KINDS = ("dense", "conv", "conv", "max", "avg", "flatten", "branch", *OF_ALL, *JOINS)


def networks() -> st.SearchStrategy[Network]:
    """Return networks of up to five layers before the last."""
    genes = st.tuples(st.sampled_from(KINDS), st.integers(0, 11), st.integers(0, 11))
    return _of_genes(st.lists(genes, max_size=5).map(tuple))


def streams() -> st.SearchStrategy[Network]:
    """Return residual streams of one to three sums, behind a dense layer."""
    branch = st.tuples(st.just("branch"), st.integers(0, 11), st.integers(0, 11))
    last = st.sampled_from(((), (("layer_norm", 0, 0),)))
    return _of_genes(
        st.builds(
            lambda width, branches, norm: (("flatten", 0, 0), ("dense", width, 0), *branches, *norm),
            width=st.integers(0, 10),
            branches=st.lists(branch, min_size=1, max_size=3),
            norm=last,
        )
    )


def _of_genes(genes: st.SearchStrategy[tuple[Gene, ...]]) -> st.SearchStrategy[Network]:
    return st.builds(
        Network,
        shape=st.sampled_from(SHAPES),
        outputs=st.sampled_from((1, 2, 3, 5, 10, 17)),
        genes=genes,
        seed=st.integers(0, 3),
        number=st.sampled_from(tuple(NUMBERS)),
    )
