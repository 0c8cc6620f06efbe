"""Convolutions in float64: the pixels under a kernel are rows of a matrix, whose columns are (row, column, channel)."""

import numpy as np


def output_size(images, geometry):
    """Return (H', W') of images (..., H, W, C)."""
    (high, wide), (d, e), pad = geometry.kernel_size, geometry.dilation, geometry.padding
    rows = images[-3] + pad.top + pad.bottom - d * (high - 1)
    columns = images[-2] + pad.left + pad.right - e * (wide - 1)
    return -(-rows // geometry.stride[0]), -(-columns // geometry.stride[1])


def patches(x, geometry):
    """Return the pixels under the kernel, (..., H', W', taps, C), zeros outside of the images (..., H, W, C)."""
    pad, (down, across) = geometry.padding, geometry.stride
    widths = [(0, 0)] * (x.ndim - 3) + [(pad.top, pad.bottom), (pad.left, pad.right), (0, 0)]
    around = np.pad(x, widths)
    rows, columns = output_size(x.shape, geometry)
    taps = []
    for i in range(geometry.kernel_size[0]):
        for j in range(geometry.kernel_size[1]):
            top, left = i * geometry.dilation[0], j * geometry.dilation[1]
            end, right = top + down * (rows - 1) + 1, left + across * (columns - 1) + 1
            taps.append(around[..., top:end:down, left:right:across, :])
    return np.stack(taps, axis=-2)


def grouped_product(found, weight, groups):
    """Return patches (..., taps, C) times a weight (K, N), each group's channels times its own columns."""
    taps, channels = found.shape[-2:]
    own, each = channels // groups, weight.shape[1] // groups
    x = found.reshape(*found.shape[:-1], groups, own)
    w = weight.reshape(taps, own, groups, each)
    return np.einsum("...tgc,tcgn->...gn", x, w).reshape(*found.shape[:-2], groups * each)


def packed_groups(channels, outputs, geometry):
    """Return the groups whose columns are packed apart: one where each channel is a group, with one output."""
    return 1 if geometry.groups == channels == outputs else geometry.groups


def grouped_gradient(found, told, groups):
    """Return the sum over pixels of patches times what they are told (..., N), laid out as a weight (K, N)."""
    taps, channels = found.shape[-2:]
    x = found.reshape(-1, taps, groups, channels // groups)
    delta = told.reshape(len(x), groups, -1)
    return np.einsum("ptgc,pgn->tcgn", x, delta).reshape(taps * channels // groups, -1)
