"""Losses and layers as functions, as somebody writes them: of one example, in plain NumPy and Python."""

import math

import numpy as np
from numba import njit


def cross_entropy(z, y):
    largest = z.max()
    total = 0.0
    for n in range(len(z)):
        total += math.exp(z[n] - largest)
    return math.log(total) + largest - z[y]


@njit
def margin(z, y):
    worst = 0.0
    for n in range(len(z)):
        if n != y:
            worst = max(worst, 1 + z[n] - z[y])
    return worst


def squared(z, y):
    total = 0.0
    for n in range(len(z)):
        total += (z[n] - y[n]) ** 2
    return total / len(z)


def normal_likelihood(z, y):
    """Return minus the logarithm of a likelihood, of a mean and the logarithm of a variance."""
    return (z[1] + (z[0] - y) ** 2 * math.exp(-z[1])) / 2


def raises(z, y):
    if z[0] > 1e-3:
        raise ValueError("no loss above a thousandth")
    return z[0] ** 2 + 0.0 * z[y]


def no_number(z, y):
    return z[: y + 1]


def unknown(z, y):
    return z.nonsense(y)


def affine(x, weight, bias):
    y = bias.copy()
    for k in range(len(x)):
        for n in range(len(y)):
            y[n] += x[k] * weight[k, n]
    return y


def swish(x, beta):
    return x / (1 + np.exp(-beta[0] * x))


def energy(x):
    total = 0.0
    for value in x.flat:
        total += value * value
    return total / 2


def patches(x, weight):
    """Return the convolution of windows of 2 x 2 pixels, each beside the next."""
    height, width, channels = x.shape
    y = np.zeros((height // 2, width // 2, weight.shape[3]))
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            for i in range(2):
                for j in range(2):
                    for c in range(channels):
                        for n in range(weight.shape[3]):
                            y[row, column, n] += x[2 * row + i, 2 * column + j, c] * weight[i, j, c, n]
    return y


def in_place(x, scale):
    for k in range(len(x)):
        x[k] *= scale[k]
    return x


def writes_to_a_parameter(x, scale):
    scale[0] = 1.0
    return scale * x


def of_two_shapes(x):
    return x[:1] if x[0] > 1e-3 else x[:2]


def fails(x):
    if x[0] > 1e-3:
        raise ValueError("no output above a thousandth")
    return 2 * x


def always_fails(x):
    raise ValueError("never")


def shifted(x):
    return np.log(1 + np.exp(x))


def text(x):
    return "y"


def larger(x):
    return x > 0.1


def ranks(x):
    return int(np.argmax(x))
