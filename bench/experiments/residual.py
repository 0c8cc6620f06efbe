"""Residual perceptrons of a depth and a number of parameters, and the digits as they are given to them.

Depth counts dense layers. One is logistic regression; two have a hidden layer with ReLU; from four on there are blocks

    x ← x + W₂ relu(W₁ x)

between the first layer and the last, two layers each, which is why depths are even. A plain perceptron of 64 layers of
32 units with ReLU was tried: reverse mode did not train it in 500 steps at any rate, so that there was nothing to
compare. Each W₂ begins at 1/√blocks of its usual size, so that the stream does not grow with the number of blocks.

Small networks read small images: the digits' 8x8 pixels are averaged over squares. The smallest tell even digits from
odd ones, because ten classes alone would need more parameters.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.datasets import Dataset

LEAST_WIDTH = 4
"""Fewest units of a residual stream. With ReLU, a narrower one often begins with nothing that can be trained."""
FARTHEST = math.log(2)
"""A network is left out if its parameters are more than twice those that were asked for, or fewer than half."""


@dataclass(frozen=True)
class Network:
    """A residual perceptron.

    Parameters
    ----------
    side : int
        Number of pixels in a row of the images.
    width : int
        Number of hidden units of each layer; 0 for one layer.
    depth : int
        Number of dense layers.
    classes : int
        Number of classes.
    """

    side: int
    width: int
    depth: int
    classes: int

    @property
    def blocks(self) -> int:
        """Number of residual blocks."""
        return max(0, (self.depth - 2) // 2)

    @property
    def parameters(self) -> int:
        """Number of parameters P."""
        inputs, width = self.side**2, self.width
        if self.depth == 1:
            return (inputs + 1) * self.classes
        return (inputs + 1) * width + 2 * self.blocks * (width + 1) * width + (width + 1) * self.classes

    def model(self, seed: int, device: Any) -> fg.Graph:
        """Return the network with new parameters.

        Parameters
        ----------
        seed : int
            Seed of the parameters.
        device : str or Device
            The device.
        """
        inputs = self.side**2
        if self.depth == 1:
            return fg.Sequential([fg.Dense(self.classes)], inputs, seed=seed, device=device)
        nodes, last = [fg.Node("first", fg.Dense(self.width, "relu"))], "first"
        for i in range(self.blocks):
            nodes += [
                fg.Node(f"up{i}", fg.Dense(self.width, "relu"), (last,)),
                fg.Node(f"down{i}", fg.Dense(self.width), (f"up{i}",)),
                fg.Node(f"sum{i}", fg.Add(), (last, f"down{i}")),
            ]
            last = f"sum{i}"
        nodes.append(fg.Node("out", fg.Dense(self.classes), (last,)))
        model = fg.Graph(nodes, inputs, seed=seed, device=device)
        scale = np.float32(1 / math.sqrt(max(1, self.blocks)))
        parameters = model.parameters()
        model.load_parameters(
            {name: array * scale if name.startswith("down") else array for name, array in parameters.items()}
        )
        return model


def network(parameters: int, depth: int) -> Network | None:
    """Return the network of a depth whose number of parameters is nearest to one, or None if none comes near.

    Parameters
    ----------
    parameters : int
        Number of parameters that is asked for.
    depth : int
        Number of dense layers: 1, or an even number.
    """
    if parameters < 50:
        shapes = [(2, 2)]
    elif parameters < 1000:
        shapes = [(2, 10), (4, 10)]
    else:
        shapes = [(8, 10)]
    least = 1 if depth == 2 else LEAST_WIDTH
    found = []
    for side, classes in shapes:
        if depth == 1:
            found.append(Network(side, 0, 1, classes))
            continue
        width = least
        while Network(side, width + 1, depth, classes).parameters <= parameters:
            width += 1
        found += [Network(side, wide, depth, classes) for wide in (width, width + 1)]

    def distance(one: Network) -> float:
        return abs(math.log(one.parameters / parameters))

    best = min(found, key=distance)
    return best if distance(best) <= FARTHEST else None


def digits(dataset: Dataset, side: int, classes: int) -> Dataset:
    """Return the digits as vectors of `side`² averaged pixels, in ten classes, or in two: even and odd.

    Parameters
    ----------
    dataset : Dataset
        The digits, 8x8 pixels.
    side : int
        Number of pixels in a row, which divides 8.
    classes : int
        10 or 2.
    """

    def averaged(x: np.ndarray) -> np.ndarray:
        size = 8 // side
        return x.reshape(len(x), side, size, side, size).mean((2, 4), dtype=np.float32).reshape(len(x), -1)

    return replace(
        dataset,
        x_train=averaged(dataset.x_train),
        x_test=averaged(dataset.x_test),
        y_train=dataset.y_train % classes,
        y_test=dataset.y_test % classes,
        classes=classes,
    )
