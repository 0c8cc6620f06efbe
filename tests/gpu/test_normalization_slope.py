"""Slopes of layer and root mean square normalisation on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.errors import ConfigError
from fgnumba.kernels.ops.normalization_slope import KINDS, LAYER_NORM, cuda
from tests import tolerances
from tests.normalization_cases import KINDS as NUMBERS
from tests.normalization_cases import TANGENT_KINDS, check

# Rows of a warp and of a block.
WIDTHS = (1, 37, 523)


def run(gpu, kind, x, signal, epsilon=1e-5, **more):
    """Return the slope (R, C), which is written over `more["out"]`, rows of NaN by default."""
    images = rows_of(gpu, x)
    out = more.pop("out", None) or rows_of(gpu, np.full_like(x, np.nan))
    signal = signal if hasattr(signal, "memory") else rows_of(gpu, signal)
    placed = {"x": images, "signal": signal, "out": out}
    gpu.run(cuda.bind(None, 1, batch=len(x), kind=kind, epsilon=epsilon, **placed, **more))
    return values_of(gpu, out)


def rows_of(gpu, values):
    return gpu.images(values[None, :, None, None])


def values_of(gpu, rows):
    return gpu.values(rows)[0, :, 0, 0]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_and_normalised_numbers_are_those_of_float64(gpu, kind, numbers):
    def of(dual, p, v, groups, epsilon):
        flat = dual.reshape(len(dual), -1, dual.shape[-1])
        x = np.concatenate([flat[0]] * len(flat[1:]))
        normal = rows_of(gpu, np.full_like(x, np.nan))
        slopes = run(gpu, kind, x, np.concatenate(flat[1:]), epsilon, normalized=normal)
        return np.concatenate([values_of(gpu, normal)[: len(flat[0])], slopes]).reshape(dual.shape)

    rng, shape = np.random.default_rng(0), (1, 1, 37)
    x = NUMBERS[numbers](rng, (1, *shape))
    signals = np.stack([each(rng, x.shape) for each in list(TANGENT_KINDS.values())[::3]])
    check(of, 1, shape, None, x, signals, 1e-5, centred=kind == LAYER_NORM, affine=False)


def jacobian_product(kind, x, d):
    """Return d J, row by row, with whole matrices J in float64."""
    found = []
    for row, one in zip(x.astype(np.float64), d.astype(np.float64), strict=True):
        n, eye = row.size, np.eye(row.size)
        centred = row - row.mean() if kind == LAYER_NORM else row
        r = 1 / np.sqrt(np.mean(centred**2) + 1e-5)
        jacobian = r * (eye - (kind == LAYER_NORM) / n) - r**3 * np.outer(centred, centred) / n
        found.append(one @ jacobian)
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", WIDTHS)
@pytest.mark.parametrize("where", ["apart", "on the base", "on the signal"])
def test_a_scale_and_a_base(gpu, kind, channels, where):
    x, signal, base = np.random.default_rng(channels).standard_normal((3, 3, channels)).astype(np.float32)
    scale = np.linspace(0.5, 2, channels).astype(np.float32)
    given, told = rows_of(gpu, base), rows_of(gpu, signal)
    out = {"apart": None, "on the base": given, "on the signal": told}[where]
    found = run(gpu, kind, x, told, scale=gpu.packed(scale), base=given, out=out)
    tolerances.NORMALISED.check(found, base + jacobian_product(kind, x, scale * signal))


def test_a_kind_that_there_is_not_is_refused(gpu):
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ConfigError, match=r"^kind is 'group_norm'; one of layer_norm, rms_norm is required$"):
        run(gpu, "group_norm", x, x)
