"""Random networks, and what two networks are compared by."""

import numpy as np

import fgnumba as fg
from fgnumba.kernels.rules.activations.rules import RULES

SIZES = (1, 2, 3, 5, 7, 8, 11)
"""Sizes of images and numbers of channels: 1, primes, and one power of two."""


def relative_difference(found, expected):
    """Return the largest difference, relative to the largest number that is expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)


def batch(shape, seed=0, examples=3):
    """Return examples of N(0, 1)."""
    return np.random.default_rng(seed).standard_normal((examples, *shape)).astype(np.float32)


def first(x):
    """Return images with their channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def trained(model, seed=0):
    """Give a model parameters none of which is 0 or 1, and return it."""
    rng = np.random.default_rng(seed)
    model.load_parameters(
        {
            name: array + 0.3 * rng.standard_normal(array.shape).astype(np.float32)
            for name, array in model.parameters().items()
        }
    )
    return model


def _image_layer(rng, height, width, channels):
    """Return a layer that an image of that shape can go through."""

    def pick(*values):
        return values[rng.integers(len(values))]

    activation = pick(*RULES)
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    window = (min(kernel[0], height), min(kernel[1], width))
    groups = pick(1, 1, channels)
    sides = [(int(rng.integers(0, k)), int(rng.integers(0, k))) for k in window]
    return pick(
        fg.Conv2d(groups * pick(1, 2, 3), kernel, stride, "same", pick(1, 2), groups, activation),
        fg.Conv2d(pick(1, 3, 5), window, stride, pick("valid", tuple(sides)), activation=activation),
        fg.MaxPool2d(window, stride, pick("valid", "same", tuple(sides))),
        fg.AvgPool2d(window, stride, pick("valid", "same", tuple(sides))),
        fg.GroupNorm(pick(1, channels), 1e-3, pick(True, False)),
        fg.LayerNorm(1e-2, pick(True, False)),
        fg.Activation(activation),
        fg.Dropout(0.25),
    )


def _row_layer(rng, size):
    def pick(*values):
        return values[rng.integers(len(values))]

    groups = pick(1, size)
    return pick(
        fg.Dense(pick(*SIZES), pick(*RULES), bool(rng.integers(2))),
        fg.LayerNorm(1e-2, pick(True, False)),
        fg.GroupNorm(groups if size // groups > 1 else 1, 1e-2, pick(True, False)),
        fg.Activation(pick(*RULES)),
        fg.Dropout(0.5),
        fg.Flatten(),
    )


def random_chain(seed):
    """Return a random row of layers, of images or of rows."""
    rng = np.random.default_rng(seed)
    image = rng.integers(4) > 0
    shape = tuple(int(rng.choice(SIZES)) for _ in range(3)) if image else (int(rng.choice(SIZES)),)
    layers, now = [], shape
    if image:
        for _ in range(rng.integers(0, 4)):
            layers.append(_image_layer(rng, *now))
            now = layers[-1].output_shape(now)
        layers.append(fg.GlobalAveragePool2d() if rng.integers(3) == 0 else fg.Flatten())
        now = layers[-1].output_shape(now)
    for _ in range(rng.integers(0, 3)):
        layers.append(_row_layer(rng, now[0]))
        now = layers[-1].output_shape(now)
    layers.append(fg.Dense(int(rng.choice(SIZES))))
    return trained(fg.Sequential(layers, shape, device="cpu"), seed)
