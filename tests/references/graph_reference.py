"""Forward mode in float64 NumPy for graphs of layers; only the layers' descriptions are the library's.

A dual is a pair (x, dx) of shapes (B, ...) and (T, B, ...). Convolutions are sums over the taps of shifted images.
"""

from typing import Any

import numpy as np

from tests.kernels.test_activations import REFERENCES
from tests.references import attention_layers as attention
from tests.references import recurrent_reference as recurrent

Dual = tuple[Any, Any]


Margins = list[float]
"""How near each layer's values come to where it has a kink, of the largest of them; what is exactly there is left out:
float32 has the same."""


def noted(margins: Margins, distances: Any, values: Any) -> None:
    """Append the least of `distances` over the largest of `values`."""
    apart = np.abs(distances[distances != 0])
    if apart.size:
        margins.append(float(apart.min() / np.abs(values).max()))


def activated(name: str, dual: Dual, margins: Margins) -> Dual:
    z, dz = dual
    for kink in REFERENCES[name].kinks:
        noted(margins, z - kink, z)
    return REFERENCES[name].value(z), REFERENCES[name].derivative(z) * dz


def two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def sides(padding: Any, sizes: Any, extents: Any, strides: Any) -> list[tuple[int, int]]:
    """Return zeros before and after, along height and width."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        result = []
        for n, extent, step in zip(sizes, extents, strides, strict=True):
            outputs = (n + step - 1) // step
            total = max(0, (outputs - 1) * step + extent - n)
            result.append((total // 2, total - total // 2))
        return result
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    if len(padding) == 4:
        return [tuple(padding[:2]), tuple(padding[2:])]
    return [(side, side) if isinstance(side, int) else tuple(side) for side in padding]


def correlate(x: Any, w: Any, layer: Any) -> Any:
    """Return the cross-correlation of x (..., H, W, C) with w (KH, KW, C / groups, N)."""
    (down, across), (d, e), groups = two(layer.stride), two(layer.dilation), layer.groups
    rows, columns, each, outputs = w.shape
    extents = (rows - 1) * d + 1, (columns - 1) * e + 1
    pads = sides(layer.padding, x.shape[-3:-1], extents, (down, across))
    x = np.pad(x, [(0, 0)] * (x.ndim - 3) + pads + [(0, 0)])
    height = (x.shape[-3] - extents[0]) // down + 1
    width = (x.shape[-2] - extents[1]) // across + 1
    y = np.zeros((*x.shape[:-3], height, width, outputs))
    for i in range(rows):
        for j in range(columns):
            part = x[..., i * d : i * d + height * down : down, j * e : j * e + width * across : across, :]
            for g in range(groups):
                n = slice(g * outputs // groups, (g + 1) * outputs // groups)
                y[..., n] += part[..., g * each : (g + 1) * each] @ w[i, j][:, n]
    return y


def pooled(dual: Dual, layer: Any, maximum: bool, margins: Margins | None = None) -> Dual:
    x, dx = dual
    window, step = two(layer.pool_size), two(layer.stride or layer.pool_size)
    height, width = x.shape[1:3]
    (top, bottom), (left, right) = sides(layer.padding, (height, width), window, step)
    rows = (height + top + bottom - window[0]) // step[0] + 1
    columns = (width + left + right - window[1]) // step[1] + 1
    y = np.empty((len(x), rows, columns, x.shape[3]))
    dy = np.empty((len(dx), *y.shape))
    for r in range(rows):
        for c in range(columns):
            first, begin = r * step[0] - top, c * step[1] - left
            h = slice(max(first, 0), min(first + window[0], height))
            w = slice(max(begin, 0), min(begin + window[1], width))
            block = x[:, h, w].reshape(len(x), -1, x.shape[3])
            tangent = dx[:, :, h, w].reshape(len(dx), len(x), -1, x.shape[3])
            if maximum:
                best = block.argmax(axis=1)[:, None]
                if margins is not None:
                    noted(margins, block.max(axis=1, keepdims=True) - block, x)
                y[:, r, c] = np.take_along_axis(block, best, 1)[:, 0]
                dy[:, :, r, c] = np.take_along_axis(tangent, best[None], 2)[:, :, 0]
            else:
                y[:, r, c], dy[:, :, r, c] = block.mean(1), tangent.mean(2)
    return y, dy


def normalized(
    dual: Dual, groups: int | None, epsilon: float, p: Any, v: Any, are_centred: bool = True
) -> Dual:
    """Over the last axis without `groups`, else over all pixels of each group of channels."""
    (x, dx), shape = dual, dual[0].shape
    if groups is None:
        flat, dflat = x[..., None, :], dx[..., None, :]
        axes: tuple[int, ...] = (-1,)
    else:
        flat = x.reshape(len(x), -1, groups, shape[-1] // groups)
        dflat = dx.reshape(len(dx), *flat.shape)
        axes = (-3, -1)
    mean, dmean = flat.mean(axes, keepdims=True), dflat.mean(axes, keepdims=True)
    centred, dcentred = flat - mean * are_centred, dflat - dmean * are_centred
    variance = (centred**2).mean(axes, keepdims=True) + epsilon
    dvariance = (2 * centred * dcentred).mean(axes, keepdims=True)
    normal = (centred / np.sqrt(variance)).reshape(shape)
    dnormal = (dcentred / np.sqrt(variance) - centred * dvariance / (2 * variance**1.5)).reshape(dx.shape)
    tail = (slice(None), *[None] * (x.ndim - 1))
    if not p:
        return normal, dnormal
    y = p["scale"] * normal + p["shift"]
    return y, p["scale"] * dnormal + v["scale"][tail] * normal + v["shift"][tail]


def nearest_kink(model: Any, x: Any) -> float:
    """Return how near a unit comes to its kink, or a maximum to another, over the largest value there."""
    margins: Margins = []
    evaluated(
        model, x, {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}, margins
    )
    return min(margins, default=np.inf)


def evaluated(
    model: Any,
    x: Any,
    tangents: Any,
    margins: Margins | None = None,
    dx: Any = None,
    stream: tuple[int, int] | None = None,
) -> Dual:
    """Return the dual output (B, N) and (T, B, N); tangents are (T, ...) arrays by parameter name.

    `margins` is told how near values come to kinks; `dx` (T, ...) are tangents of x, by default zeros. `stream`: seed
    and step of the dropout of attention, which drops nothing without them.
    """
    margins = [] if margins is None else margins
    theta = {name: array.astype(np.float64) for name, array in model.parameters().items()}
    count = len(next(iter(tangents.values())))
    moving = np.zeros((count, *x.shape)) if dx is None else dx.astype(np.float64)
    found = {"input": (x.astype(np.float64), moving)}
    for index, node in enumerate(model.nodes):
        layer, kind = node.layer, type(node.layer).__name__
        inputs = [found[name] for name in node.inputs]
        z, dz = inputs[0]
        prefix = f"{node.name}."
        p = {name.removeprefix(prefix): a for name, a in theta.items() if name.startswith(prefix)}
        v = {name: tangents[prefix + name].astype(np.float64) for name in p}
        if kind == "Flatten":
            y = z.reshape(len(z), -1), dz.reshape(count, len(z), -1)
        elif kind == "Dense":
            across = (slice(None), *[None] * (z.ndim - 1))
            b, c = p.get("bias", 0.0), v["bias"][across] if "bias" in p else 0.0
            y = activated(
                layer.activation,
                (z @ p["weight"] + b, dz @ p["weight"] + np.einsum("...k,tkn->t...n", z, v["weight"]) + c),
                margins,
            )
        elif kind == "Conv2d":
            b, c = p.get("bias", 0.0), v["bias"][:, None, None, None] if "bias" in p else 0.0
            primal = correlate(z, p["weight"], layer)
            own = np.stack([correlate(z, w, layer) for w in v["weight"]])
            y = activated(
                layer.activation, (primal + b, correlate(dz, p["weight"], layer) + own + c), margins
            )
        elif kind in ("MaxPool2d", "AvgPool2d"):
            y = pooled((z, dz), layer, kind == "MaxPool2d", margins)
        elif kind == "GlobalAveragePool2d":
            y = z.mean((1, 2)), dz.mean((2, 3))
        elif kind == "LayerNorm":
            y = normalized((z, dz), None, layer.epsilon, p, v)
        elif kind == "GroupNorm":
            y = normalized((z, dz), layer.groups, layer.epsilon, p, v)
        elif kind in recurrent.KINDS:
            factors: Any = 1.0
            if stream is not None and kind == "SelfAttention":
                batch, length, _ = z.shape
                factors = attention.factors(layer, index, batch, length, *stream)
            y = recurrent.dual(layer, p, v, z, dz, factors)
        elif kind == "Activation":
            y = activated(layer.activation, (z, dz), margins)
        elif kind == "Add":
            y = activated(layer.activation, (sum(a for a, _ in inputs), sum(b for _, b in inputs)), margins)
        elif kind == "Concatenate":
            y = tuple(np.concatenate(side, axis=-1) for side in zip(*inputs, strict=True))  # type: ignore[assignment]
        else:
            assert kind == "Dropout"
            y = z, dz
        found[node.name] = y
    z, dz = found[model.output]
    return z.reshape(len(z), -1), dz.reshape(count, len(z), -1)


def softmax_cross_entropy(dual: Dual, y: Any) -> tuple[float, Any]:
    """Return the mean loss, and its derivative for each tangent (T,)."""
    z, dz = dual
    shifted = z - z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = np.log(total[:, 0]) - shifted[rows, y]
    p /= total
    p[rows, y] -= 1
    return float(loss.mean()), (p * dz).sum(axis=2).mean(axis=1)
