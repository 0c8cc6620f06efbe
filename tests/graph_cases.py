"""Networks for tests: convolutions of every kind, and graphs with unusual connections."""

import fgnumba as fg

CONVOLUTIONS = {
    "3x3": fg.Conv2d(64, 3, padding="same", activation="relu"),
    "valid": fg.Conv2d(33, 3, activation="tanh"),
    "rectangular": fg.Conv2d(5, (1, 7), padding="same", activation="gelu"),
    "strided": fg.Conv2d(40, 3, stride=2, padding="same", activation="silu"),
    "dilated": fg.Conv2d(40, 3, dilation=2, padding=2, activation="elu"),
    "uneven": fg.Conv2d(7, (2, 4), padding=((1, 0), (0, 3)), activation="softplus"),
    "grouped": fg.Conv2d(36, 3, groups=3, padding="same", activation="sigmoid"),
    "depthwise": fg.Conv2d(6, 3, groups=6, padding="same", activation="leaky_relu"),
    "multiplied": fg.Conv2d(12, 3, groups=6, padding=1),
    "pointwise": fg.Conv2d(70, 1, activation="relu"),
}


def same(filters, size=3, **more):
    return fg.Conv2d(filters, size, padding="same", **more)


WIRINGS: dict[str, tuple[list[fg.Node], tuple[int, ...]]] = {
    "conv+flatten readers": (
        [
            fg.Node("a", same(16)),
            fg.Node("b", same(16), "a"),
            fg.Node("f", fg.Flatten(), "a"),
            fg.Node("g", fg.Flatten(), "b"),
            fg.Node("s", fg.Add(), ("f", "g")),
            fg.Node("h", fg.Dense(3)),
        ],
        (7, 6, 2),
    ),
    "input many": (
        [
            fg.Node("a", same(2), "input"),
            fg.Node("b", same(2, 5), "input"),
            fg.Node("p", fg.MaxPool2d(3, 1, "same"), "input"),
            fg.Node("s", fg.Add("tanh"), ("a", "b", "p", "input")),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(3)),
        ],
        (7, 6, 2),
    ),
    "add same twice": (
        [
            fg.Node("a", same(4)),
            fg.Node("s", fg.Add(), ("a", "a")),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(3)),
        ],
        (5, 5, 1),
    ),
    "output also read": (
        [fg.Node("a", fg.Dense(4)), fg.Node("b", fg.Dense(4), "a"), fg.Node("c", fg.Add(), ("a", "b"))],
        (6,),
    ),
    "dense middle joins": (
        [
            fg.Node("f", fg.Flatten()),
            fg.Node("a", fg.Dense(8, activation="relu")),
            fg.Node("b", fg.Dense(8), "a"),
            fg.Node("n", fg.LayerNorm(), "b"),
            fg.Node("s", fg.Add(), ("n", "a")),
            fg.Node("c", fg.Concatenate(), ("s", "a", "f")),
            fg.Node("h", fg.Dense(3)),
        ],
        (3, 3, 2),
    ),
    "concat vectors": (
        [
            fg.Node("a", fg.Dense(5)),
            fg.Node("b", fg.Dense(7), "input"),
            fg.Node("c", fg.Concatenate(), ("b", "a", "input")),
            fg.Node("h", fg.Dense(3)),
        ],
        (6,),
    ),
    "activation first": (
        [
            fg.Node("a", fg.Activation("tanh")),
            fg.Node("b", same(3)),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(2)),
        ],
        (4, 4, 2),
    ),
    "two paddings": (
        [
            fg.Node("a", same(16)),
            fg.Node("b", fg.Conv2d(4, 7, padding=3), "a"),
            fg.Node("c", same(4, 1), "a"),
            fg.Node("d", same(4), "a"),
            fg.Node("s", fg.Add(), ("b", "c", "d")),
            fg.Node("g", fg.GlobalAveragePool2d()),
            fg.Node("h", fg.Dense(3)),
        ],
        (9, 8, 2),
    ),
    "image output": ([fg.Node("a", same(3)), fg.Node("b", fg.MaxPool2d(2))], (4, 4, 1)),
    "image stage skip over dense": (
        [
            fg.Node("a", same(16)),
            fg.Node("g", fg.GlobalAveragePool2d(), "a"),
            fg.Node("d", fg.Dense(6), "g"),
            fg.Node("b", same(16), "a"),
            fg.Node("gb", fg.GlobalAveragePool2d(), "b"),
            fg.Node("c", fg.Concatenate(), ("d", "gb")),
            fg.Node("h", fg.Dense(3)),
        ],
        (6, 6, 1),
    ),
    "norm of input": (
        [
            fg.Node("n", fg.GroupNorm(2)),
            fg.Node("b", same(16, groups=2)),
            fg.Node("l", fg.LayerNorm()),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(2)),
        ],
        (4, 4, 16),
    ),
    "norms without parameters": (
        [
            fg.Node("n", fg.GroupNorm(2, affine=False)),
            fg.Node("b", same(16, groups=2)),
            fg.Node("l", fg.LayerNorm(affine=False)),
            fg.Node("m", fg.GroupNorm(1, 1e-2, affine=False)),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(2)),
        ],
        (4, 4, 16),
    ),
    "vector norm": (
        [
            fg.Node("d", fg.Dense(24)),
            fg.Node("n", fg.GroupNorm(4)),
            fg.Node("a", fg.Activation("gelu")),
            fg.Node("h", fg.Dense(3)),
        ],
        (5,),
    ),
    "depthwise input": (
        [
            fg.Node("b", same(33, groups=33)),
            fg.Node("p", fg.AvgPool2d(2)),
            fg.Node("f", fg.Flatten()),
            fg.Node("h", fg.Dense(2)),
        ],
        (5, 5, 33),
    ),
    "flatten first then image none": (
        [fg.Node("f", fg.Flatten()), fg.Node("n", fg.LayerNorm(1e-2)), fg.Node("h", fg.Dense(3))],
        (4, 3, 2),
    ),
}
