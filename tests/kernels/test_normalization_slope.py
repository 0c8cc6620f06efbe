"""Slopes of layer and root mean square normalisation on the CPU against float64."""

from typing import Any

import numpy as np
import pytest

from fgnumba.errors import ConfigError
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit.vector import executable, instruction_set
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.ops.normalization_slope import KINDS, LAYER_NORM, cpu
from tests import tolerances
from tests.normalization_cases import KINDS as NUMBERS
from tests.normalization_cases import TANGENT_KINDS, check

WIDTHS = (1, 2, 17, 33, 1023)


def rows_of(values: Any) -> Images:
    """Return rows (R, C) of by-position sequences, NaN beyond."""
    count, channels = values.shape
    memory = aligned((1, count, leading(channels)))
    memory[...] = np.nan
    memory[0, :, :channels] = values
    return Images.of_batch(memory, (channels,)).by_rows()


def values_of(rows: Images) -> Any:
    return rows.memory[0, :, : rows.shape[2]]


def run(
    kind: str, x: Any, signal: Any, epsilon: float = 1e-5, isa: Any = None, threads: int = 1, **more: Any
) -> Any:
    """Return the slope (R, C), which is written over `more["out"]`, a row of NaN by default."""
    images = rows_of(x)
    out = more.pop("out", None) or rows_of(np.full_like(x, np.nan))
    signal = signal if isinstance(signal, Images) else rows_of(signal)
    operation = cpu.bind(
        isa or CPU.isa,
        threads,
        batch=len(x),
        kind=kind,
        x=images,
        signal=signal,
        out=out,
        epsilon=epsilon,
        **more,
    )
    CPU.program([operation]).run()
    np.testing.assert_array_equal(values_of(images), x)
    assert np.isnan(out.memory[0, :, x.shape[1] :]).all()
    return values_of(out)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_and_normalised_numbers_are_those_of_float64(kind, numbers):
    def of(dual, p, v, groups, epsilon):
        flat = dual.reshape(len(dual), -1, dual.shape[-1])
        x = np.concatenate([flat[0]] * len(flat[1:]))
        normal = rows_of(np.full_like(x, np.nan))
        slopes = run(kind, x, np.concatenate(flat[1:]), epsilon, normalized=normal)
        return np.concatenate([values_of(normal)[: len(flat[0])], slopes]).reshape(dual.shape)

    for seed, of_signals in enumerate(TANGENT_KINDS):
        rng = np.random.default_rng(seed)
        shape = (3, 1, WIDTHS[seed % len(WIDTHS)])
        x = NUMBERS[numbers](rng, (2, *shape))
        signals = np.stack([TANGENT_KINDS[of_signals](rng, x.shape), rng.standard_normal(x.shape)])
        # One number and its signal cancel but for ε, even where both terms are beyond float32.
        for epsilon in (1e-5, 8e-31) if shape[-1] > 1 else (1e-5, 1.0):
            check(of, 2, shape, None, x, signals, epsilon, seed, centred=kind == LAYER_NORM, affine=False)


def jacobian_product(kind: str, x: Any, d: Any) -> Any:
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
@pytest.mark.parametrize("channels", WIDTHS[:-1])
@pytest.mark.parametrize("where", ["apart", "on the base", "on the signal"])
def test_a_scale_and_a_base(kind, channels, where):
    x, signal, base = np.random.default_rng(channels).standard_normal((3, 5, channels)).astype(np.float32)
    scale = np.linspace(0.5, 2, channels).astype(np.float32)
    given, told = rows_of(base), rows_of(signal)
    out = {"apart": None, "on the base": given, "on the signal": told}[where]
    found = run(kind, x, told, scale=pack(scale), base=given, out=out)
    tolerances.NORMALISED.check(found, base + jacobian_product(kind, x, scale * signal))
    if where == "apart":
        np.testing.assert_array_equal(values_of(given), base)
        np.testing.assert_array_equal(values_of(told), signal)


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_number_of_threads(kind):
    x, signal = np.random.default_rng(0).standard_normal((2, 3000, 33)).astype(np.float32)
    bits = {run(kind, x, signal, threads=threads).tobytes() for threads in (1, 2, 3)}
    assert len(bits) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree(kind):
    x, signal = np.random.default_rng(1).standard_normal((2, 7, 67)).astype(np.float32)
    widest = run(kind, x, signal)
    for name in executable()[1:]:
        tolerances.NORMALISED.check(run(kind, x, signal, isa=instruction_set(name)), widest)


def test_a_kind_that_there_is_not_is_refused():
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ConfigError, match=r"^kind is 'group_norm'; one of layer_norm, rms_norm is required$"):
        run("group_norm", x, x)
