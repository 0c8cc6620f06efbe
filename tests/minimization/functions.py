"""Functions that the tests of descents minimise, with their gradients in NumPy."""

from collections import namedtuple

import numpy as np

import fgnumba as fg

Line = namedtuple("Line", "slope offsets")


@fg.differentiable
def bowl(x):
    """Σ_k (1 + k / n) (x_k - k / 10)², whose minimum is 0 at x_k = k / 10."""
    total = 0.0
    for k in range(len(x)):
        total += (1.0 + k / len(x)) * (x[k] - 0.1 * k) ** 2
    return total


def bowl_gradient(x):
    k = np.arange(len(x))
    return 2 * (1 + k / len(x)) * (x - 0.1 * k)


@fg.differentiable
def wavy(x):
    """Σ_k sin(x_k) x_{k-1} + x_k² / 2, which is no sum of functions of one variable."""
    total = 0.0
    for k in range(len(x)):
        total += np.sin(x[k]) * x[k - 1] + 0.5 * x[k] ** 2
    return total


def wavy_gradient(x):
    before, after = np.roll(x, 1), np.roll(x, -1)
    return np.cos(x) * before + np.sin(after) + x


@fg.differentiable
def of_a_number(x):
    return (x - 3.0) ** 2


@fg.differentiable
def of_a_matrix(x):
    return np.sum((x - 2.0) ** 2)


@fg.differentiable
def of_a_pair(pair):
    return (pair[0] - 1.0) ** 2 + np.sum((pair[1] + 2.0) ** 2)


@fg.differentiable
def of_a_line(line):
    return (line.slope - 1.0) ** 2 + np.sum((line.offsets + 2.0) ** 2)


@fg.differentiable
def logarithm(x):
    """Log x_0 + x_1², which falls without end towards x_0 = 0 and is NaN below."""
    return np.log(x[0]) + x[1] ** 2


@fg.differentiable
def root(x):
    return np.sqrt(x[0]) + x[1]


@fg.differentiable
def of_many(x):
    return x * 2.0
