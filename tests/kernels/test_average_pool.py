"""Average pooling on the CPU against float64, with numbers that are hard to average."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import NO_BORDER, Images
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.avg_pool2d import cpu as avg_pool2d
from tests import tolerances

NUMBERS = {
    "ordinary": lambda rng, shape: rng.standard_normal(shape),
    "a mean of a million": lambda rng, shape: 1e6 + rng.standard_normal(shape),
    "sums that overflow": lambda rng, shape: 3e38 * (1 - 1e-3 * rng.random(shape)),
    "of both ends": lambda rng, shape: 3.4e38 * rng.choice([-1.0, 1.0], shape),
}


def pooled(x, window):
    blocks, batch, height, width, channels = x.shape
    rows, columns = height // window[0], width // window[1]
    read, out = aligned((blocks, batch, x[0, 0].size)), aligned((blocks, batch, rows * columns * channels))
    read[...], out[...] = x.reshape(read.shape), np.nan
    operation = avg_pool2d.bind(
        batch=batch,
        images_a_part=batch,
        count=blocks - 1,
        x=Images.of_batch(read, (height, width, channels), has_tangent=True, images=batch),
        y=Images.of_batch(out, (rows, columns, channels), has_tangent=True, images=batch),
        window=window,
        stride=window,
        padding=NO_BORDER,
    )
    Program([operation], 1).run()
    return out.reshape(blocks, batch, rows, columns, channels)


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((1, 1, 1), (1, 1)),
        ((5, 7, 3), (5, 7)),
        ((6, 4, 17), (2, 2)),
        ((224, 223, 2), (224, 223)),
        ((2, 18, 33), (1, 9)),
    ],
)
def test_means_are_those_of_float64(kind, shape, window):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = NUMBERS[kind](rng, (2, 2, *shape)).astype(np.float32)
        found = pooled(x, window)
        (rows, columns), channels = window, shape[-1]
        parts = (2, 2, shape[0] // rows, rows, shape[1] // columns, columns, channels)
        wide = x.astype(np.float64).reshape(parts)
        scale = np.abs(wide).mean(axis=(3, 5))
        error = (found - wide.mean(axis=(3, 5))) / scale
        tolerances.AVERAGED.check(error, np.zeros_like(error))
