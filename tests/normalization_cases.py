"""Float32 numbers that are hard to normalise, and their float64 normalisation, without code of the library."""

from typing import Any

import numpy as np

from tests import tolerances
from tests.references.graph_reference import normalized

MOST = float(np.finfo(np.float32).max)
LEAST = 64 * float(np.finfo(np.float32).tiny)
"""Numbers below float32's least normal one count as zero, also those that are then multiplied by 2 x̂, up to 2 √1023."""

SHAPES = [
    # Batch, image, groups; None: over the channels of each pixel. 1, primes, one more and fewer than a vector or a run.
    (3, (1, 1, 1), None),
    (3, (1, 1, 2), None),
    (2, (2, 3, 15), None),
    (3, (1, 1, 17), None),
    (2, (1, 1, 1023), None),
    (2, (1, 1, 2053), None),
    (2, (1, 1, 1), 1),
    (2, (2, 1, 3), 1),
    (3, (5, 7, 14), 7),
    (2, (17, 65, 17), 1),
    (2, (3, 5, 32), 4),
]


def noise(rng: Any, shape: Any) -> Any:
    return rng.standard_normal(shape)


def signs(rng: Any, shape: Any) -> Any:
    return rng.choice([-1.0, 1.0], shape)


KINDS = {
    "ordinary": noise,
    "a mean of a million": lambda rng, shape: 1e6 + noise(rng, shape),
    "steps of one spacing": lambda rng, shape: 3e7 + rng.choice([0.0, 2.0, 4.0], shape),
    "equal": lambda rng, shape: np.full(shape, rng.choice([0.0, 0.1, -3e7, 1e38])),
    "equal but for one": lambda rng, shape: (
        np.where(np.arange(shape[-1]) == shape[-1] // 2, 1e6 + 1, 1e6) * np.ones(shape)
    ),
    "the first far away": lambda rng, shape: np.where(np.arange(shape[-1]) == 0, 1e6, noise(rng, shape)),
    "a small spread": lambda rng, shape: 1e-3 * noise(rng, shape),
    "far below epsilon": lambda rng, shape: 1e-30 * noise(rng, shape),
    "squares that overflow": lambda rng, shape: 1e20 * noise(rng, shape),
    "sums that overflow": lambda rng, shape: 3e38 * (1 - 1e-3 * rng.random(shape)),
    "differences that overflow": lambda rng, shape: MOST * signs(rng, shape),
    "of any size": lambda rng, shape: signs(rng, shape) * 10.0 ** rng.uniform(-30, 38, shape),
}


def fitting(size: float) -> Any:
    return lambda rng, shape: size * rng.choice([1.0, -2.0, 1.0, 0.5], shape)


KINDS |= {
    "just shrunk": lambda rng, shape: 2e12 * rng.choice([1.0, 2.0, 3.0, 5.0], shape),
    "not yet shrunk": lambda rng, shape: 5e11 * rng.choice([1.0, 2.0, 3.0, 5.0], shape),
    "nearly the largest": lambda rng, shape: 3e38 * rng.uniform(-1, 1, shape),
}

TANGENT_KINDS = KINDS | {
    f"of {size:.0e}": fitting(size) for size in (1e38, 1e36, 1e34, 1e25, 1e9, 1e-9, 1e-14, 1e-20, 1e-30)
}
"""Of any size, beside numbers of any size: the result may fit where neither a square nor a product does."""

PAIRED = [(3, (1, 1, 4), None), (3, (1, 1, 4), 1), (4, (4, 4, 6), None), (4, (4, 4, 6), 3)]


def check(
    run: Any,
    batch: int,
    shape: tuple[int, int, int],
    groups: int | None,
    x: Any,
    dx: Any,
    epsilon: float = 1e-5,
    seed: int = 0,
    centred: bool = True,
    affine: bool = True,
) -> None:
    """Compare ``run(x, p, v, groups, epsilon)`` with float64: (1 + T, B, H, W, C) of duals like that, float32.

    `x` is (B, H, W, C), `dx` (T, B, H, W, C). An error is held against the largest of what is added up in the unit that
    it is in: of a tangent, r (dx - mean dx) is part of that, and may be cancelled by x̂ mean(x̂ dx). Where that is beyond
    float32, the result may be infinite or NaN; it must be where the result itself is. Where they are not `centred`,
    numbers are divided by their root mean square, and have no shift; where not `affine`, no scale either.
    """
    rng = np.random.default_rng(seed)
    channels, count = shape[-1], len(dx)
    p: dict[str, Any] = {
        name: (offset + rng.random(channels)).astype(np.float32)
        for name, offset in (("scale", 1), ("shift", -0.5))
    }
    v: dict[str, Any] = {name: rng.standard_normal((count, channels)).astype(np.float32) for name in p}
    if not centred:
        p["shift"], v["shift"] = np.zeros_like(p["shift"]), np.zeros_like(v["shift"])
    if not affine:
        p = {"scale": np.ones_like(p["scale"]), "shift": np.zeros_like(p["shift"])}
        v = {name: np.zeros_like(one) for name, one in v.items()}
    with np.errstate(over="ignore"):
        dual = np.concatenate([x[None], dx]).astype(np.float32)
    found = run(dual, p, v, groups, epsilon)
    assert found.shape == dual.shape
    wide = dual.astype(np.float64)
    p, v = ({name: one.astype(np.float64) for name, one in each.items()} for each in (p, v))
    value, tangent = normalized((wide[0], wide[1:]), groups, epsilon, p, v, centred)
    expected = np.concatenate([value[None], tangent])
    scales = _scales(wide, value, groups, epsilon, p, v, centred)
    beyond = np.maximum(np.abs(expected), scales) > MOST
    assert (np.isfinite(found) | beyond).all()
    assert not (
        np.isfinite(found) & (np.abs(expected) > MOST * (1 + tolerances.NORMALISED_EXACTLY.absolute))
    ).any()
    found, expected = np.where(beyond, 0.0, found), np.where(beyond, 0.0, expected)
    # Where all that is added up is 0, so is the result; and what is subnormal counts as zero.
    scales = np.where(scales == 0, 1.0, np.maximum(scales, LEAST / tolerances.NORMALISED_EXACTLY.absolute))
    tolerances.NORMALISED_EXACTLY.check((found - expected) / scales, np.zeros_like(expected))


def _scales(
    wide: Any, value: Any, groups: int | None, epsilon: float, p: Any, v: Any, are_centred: bool
) -> Any:
    """Return what each entry's error is held against."""
    x, dx = wide[0], wide[1:]
    axes, shape = (units(x, groups)[1], x.shape)

    def most(values: Any) -> Any:
        flat, _ = units(values, groups)
        largest = np.abs(flat).max(axes, keepdims=True)
        return np.broadcast_to(largest, flat.shape).reshape(values.shape)

    flat, _ = units(x, groups)
    centred = flat - flat.mean(axes, keepdims=True) * are_centred
    inverse = 1 / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    normal = (centred * inverse).reshape(shape)
    scales = [most(np.abs(p["scale"] * normal) + np.abs(p["shift"]))]
    for t in range(len(dx)):
        flat, _ = units(dx[t], groups)
        moved = ((flat - flat.mean(axes, keepdims=True) * are_centred) * inverse).reshape(shape)
        ds, db = v["scale"][t], v["shift"][t]
        scales.append(most(np.abs(p["scale"] * moved) + np.abs(ds * normal) + np.abs(db)))
    return np.stack(scales)


def units(x: Any, groups: int | None) -> tuple[Any, tuple[int, ...]]:
    """Return (B, ...) images with the axes apart that are normalised together, and these axes."""
    if groups is None:
        return x, (-1,)
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups), (-3, -1)
