"""References in plain Python and float64 that import nothing of ours: Philox, directions, losses.

The layout of directions over counters stands in ``fgnumba.kernels.rules.philox``; this is a second reading of it.
"""

from typing import Any

import numpy as np

MASK = 0xFFFFFFFF
ENTRY, LEFT, RIGHT = 1, 2, 3


def philox(counter, key):
    """Return the four words of Philox4x32-10, in Python integers.

    Source: Salmon, Moraes, Dror, Shaw, SC 2011, doi 10.1145/2063384.2063405, section 3.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(second >> 32) ^ c[1] ^ k[0], second & MASK, (first >> 32) ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(row, column_counter, purpose, direction, parameter, step, seed):
    counter = (row, purpose << 24 | column_counter, direction << 12 | parameter, step)
    return philox(counter, (seed & MASK, seed >> 32))


def sign_matrix(rows, columns, purpose, direction, parameter, step, seed):
    """Return independent signs (rows, columns) float64."""
    signs = np.empty((rows, columns))
    for panel in range(-(-columns // 32)):
        for row in range(rows):
            word = words(row >> 2, panel, purpose, direction, parameter, step, seed)[row & 3]
            for lane in range(min(32, columns - 32 * panel)):
                signs[row, 32 * panel + lane] = -1.0 if word >> lane & 1 else 1.0
    return signs


def normal_pair(word):
    """Return the two normals of a word, by Box and Muller with the angle itself."""
    u = (((word >> 12) & 0xFFFFF) + 0.5) / 2**20
    # 1,024 angles in the middle of equal parts of the first quadrant, then the signs.
    angle = (((word >> 2) & 1023) + 0.5) / 1024 * np.pi / 2
    radius = np.sqrt(-2 * np.log(u))
    x = radius * np.cos(angle) * (-1 if word & 1 else 1)
    y = radius * np.sin(angle) * (-1 if word & 2 else 1)
    return x, y


def normal_matrix(rows, columns, purpose, direction, parameter, step, seed):
    """Return independent normals (rows, columns) float64."""
    padded = -(-rows // 4) * 4
    values = np.empty((padded, -(-columns // 32) * 32))
    for panel in range(values.shape[1] // 32):
        for block in range(padded // 4):
            flat = np.empty(128)
            for j in range(16):
                four = words(block, panel << 4 | j, purpose, direction, parameter, step, seed)
                for w, word in enumerate(four):
                    flat[16 * w + j], flat[64 + 16 * w + j] = normal_pair(word)
            values[4 * block : 4 * block + 4, 32 * panel : 32 * panel + 32] = flat.reshape(4, 32)
    return values[:rows, :columns]


def vector(matrix: Any, n: int, *key: int) -> Any:
    """Return n entries laid out as a matrix of 32 columns."""
    return matrix(-(-n // 32), 32, *key).ravel()[:n]


def direction(kind: str, shape: Any, index: int, parameter: int, step: int, seed: int) -> Any:
    """Return direction number `index` of a parameter, float64."""
    key = (index, parameter, step, seed)
    if kind == "gaussian":
        if len(shape) == 1:
            return vector(normal_matrix, shape[0], ENTRY, *key)
        return normal_matrix(shape[0], shape[1], ENTRY, index, parameter, step, seed)
    if len(shape) == 1:
        return vector(sign_matrix, shape[0], ENTRY, *key)
    if kind == "rank1":
        return np.outer(vector(sign_matrix, shape[0], LEFT, *key), vector(sign_matrix, shape[1], RIGHT, *key))
    return sign_matrix(shape[0], shape[1], ENTRY, index, parameter, step, seed)
