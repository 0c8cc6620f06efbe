"""Losses whose second derivatives in the outputs are computed, and float64 references of them and of their use."""

import numpy as np
from scipy import special

import fgnumba as fg

LOSSES = {
    "softmax": lambda width: fg.SoftmaxCrossEntropy(),
    "smoothed": lambda width: fg.SoftmaxCrossEntropy(label_smoothing=0.2),
    "class weights": lambda width: fg.SoftmaxCrossEntropy(class_weight=np.arange(1, width + 1) / 4),
    "squared": lambda width: fg.MeanSquaredError(),
    "huber": lambda width: fg.Huber(0.7),
    "binary": lambda width: fg.BinaryCrossEntropy(),
}
SHAPES = [(1, 1, 1), (1, 5, 3), (2, 1, 7), (3, 7, 33), (5, 19, 40), (7, 31, 3), (61, 10, 65)]
"""Directions, outputs and examples: ones, primes, more than a panel and more than a block of a row."""


def problem(name, width, batch, weighted, seed=0):
    """Return a loss, its targets as kernels read them, the labels or targets, and the examples' weights."""
    rng = np.random.default_rng(seed)
    loss = LOSSES[name](width)
    labels = name in ("softmax", "smoothed", "class weights")
    y = rng.integers(0, width, batch) if labels else rng.random((batch, width), np.float32)
    if not weighted:
        return loss, y, y, np.ones(batch)
    weights = rng.random(batch, np.float32)
    weighted_loss = loss.with_example_weights()
    return weighted_loss, weighted_loss.pack(y, weights), y, weights


def hessians(name, z, y, weights):
    """Return ∂²f_i/∂z_i² (B, N, N) in float64."""
    width = z.shape[1]
    if name in ("softmax", "smoothed", "class weights"):
        p = special.softmax(z, axis=1)
        if name == "class weights":
            weights = weights * (y + 1) / 4
        full = np.einsum("in,nm->inm", p, np.eye(width)) - np.einsum("in,im->inm", p, p)
        return weights[:, None, None] * full
    diagonal = {
        "squared": np.full(z.shape, 2.0),
        "huber": (np.abs(z - y) <= 0.7).astype(float),
        "binary": special.expit(z) * special.expit(-z),
    }[name]
    return (weights[:, None] * diagonal / width)[:, :, None] * np.eye(width)


def dual(count, batch, width, seed=0):
    """Return a dual buffer whose padding is NaN: nobody may read it."""
    z = np.full((1 + count, batch, width + 5), np.nan, np.float32)
    z[:, :, :width] = np.random.default_rng(seed).standard_normal((1 + count, batch, width))
    return z


def gauss_newton(name, z, width, y, weights):
    """Return G (T, T) in float64."""
    z = z[:, :, :width].astype(np.float64)
    return np.einsum("tin,inm,sim->ts", z[1:], hessians(name, z[0], y, weights), z[1:]) / z.shape[1]


def relative_to_diagonal(found, expected):
    """Return the errors of a lower triangle, over the roots of the products of the diagonal's entries."""
    size = np.sqrt(np.diag(expected))
    size[size == 0] = 1.0
    return np.tril(found - expected) / np.outer(size, size)
