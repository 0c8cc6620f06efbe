"""Functions of one number of which tests make activations, at the top of a module that a file can name."""

import math

import numpy as np
from numba import njit

import fgnumba as fg

BETA = 1.5
COEFFICIENTS = (0.25, -0.5, 1.0)


def swish(z):
    """Written so that exp overflows for z below -88."""
    return z / (1 + math.exp(-z))


def mish(z):
    return z * math.tanh(math.log1p(math.exp(-abs(z))) + max(z, 0.0))


def selu(z):
    if z > 0:
        return 1.0507 * z
    return 1.0507 * 1.67326 * math.expm1(z)


def hard_swish(z):
    return z * min(max(z + 3, 0), 6) / 6


def bump(z):
    width = 2.0 if z < 0 else 1.0
    y = np.exp(-((z / width) ** 2))
    y += 0.1 * np.where(z > 1, z - 1, 0.0)
    return y


def horner(z):
    y = 0.0
    for c in COEFFICIENTS:
        y = y * z + c
    return y


@njit
def scaled(z, beta=BETA):
    return swish_of(beta * z) / beta


@njit
def swish_of(u):
    return u / (1.0 + math.exp(-u))


def waves(z):
    return z + math.sin(3 * z) ** 2 / 3


@fg.activation
def softened(z):
    return math.sqrt(1 + z * z) - 1


FUNCTIONS = {
    one.__name__: one
    for one in (swish, mish, selu, hard_swish, bump, horner, scaled.py_func, waves, softened.function)
}
