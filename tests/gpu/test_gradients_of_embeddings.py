"""Gradients of embeddings from the error signals of their outputs, on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.embedding import cuda as embedding
from fgnumba.kernels.ops.positional_embedding import cuda as positional
from tests import tolerances

SIZES = [(1, 1, 1, 1), (3, 5, 7, 37), (2, 35, 11, 5)]


def in_rows(gpu, values, by_position=True):
    """Return signals (B, L, C) as rows, NaN between them."""
    batch, length, columns = values.shape
    memory = np.full((1, batch * length, leading(columns)), np.nan)
    memory[0, :, :columns] = values.reshape(-1, columns)
    array = gpu.array(memory, np.float32)
    if by_position:
        return Images.of_batch(array, (length, columns), by_position=True)
    return Images.of_batch(array, (columns,))


def gradient(gpu, x, signal, symbols, *, onto=None, by_position=True):
    """Return the packed gradient; what `onto` holds is there before."""
    columns = signal.shape[-1]
    panels = -(-columns // 32)
    out = gpu.nans(panels, symbols, 32) if onto is None else gpu.array(onto, np.float32)
    operation = embedding.bind_gradient(
        None,
        1,
        batch=len(x),
        x=gpu.images(x[None, :, None, None]),
        signal=in_rows(gpu, signal, by_position),
        out=out,
        onto=onto is not None,
    )
    gpu.run(operation)
    return out.download()


def case(batch, length, symbols, columns):
    rng = np.random.default_rng(columns)
    x = rng.integers(0, symbols, (batch, length)).astype(np.float32)
    signal = rng.standard_normal((batch, length, columns)).astype(np.float32)
    expected = np.zeros((symbols, columns))
    np.add.at(expected, x.astype(int), signal.astype(np.float64))
    return x, signal, expected


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("by_position", [True, False])
def test_rows_are_added_up_by_symbol(gpu, sizes, by_position):
    x, signal, expected = case(*sizes)
    found = gradient(gpu, x, signal, sizes[2], by_position=by_position)
    tolerances.sums(x.size).check(unpack(found, sizes[3]), expected)
    np.testing.assert_array_equal(found, pack(unpack(found, sizes[3])))


def test_a_gradient_is_added_to_another(gpu):
    x, signal, expected = case(3, 5, 7, 37)
    before = pack(np.random.default_rng(0).standard_normal((7, 37)))
    found = gradient(gpu, x, signal, 7, onto=before)
    tolerances.sums(x.size).check(unpack(found, 37), expected + unpack(before, 37))


def test_what_is_no_symbol_adds_nothing(gpu):
    x, signal, _ = case(2, 13, 7, 5)
    expected = unpack(gradient(gpu, x[:, 4:], signal[:, 4:], 7), 5)
    x[:, :4] = np.nan, -1, 7, np.inf
    np.testing.assert_array_equal(unpack(gradient(gpu, x, signal, 7), 5), expected)


@pytest.mark.parametrize(
    ("batch", "length", "rows", "columns"), [(1, 1, 1, 1), (3, 5, 7, 37), (2, 13, 13, 64)]
)
def test_rows_are_added_up_by_position(gpu, batch, length, rows, columns):
    signal = np.random.default_rng(length).standard_normal((batch, length, columns)).astype(np.float32)
    expected = np.zeros((rows, columns))
    expected[:length] = signal.astype(np.float64).sum(0)
    before = pack(np.ones((rows, columns)))
    for out, onto in ((gpu.nans(*before.shape), False), (gpu.array(before), True)):
        bound = {"batch": batch, "signal": in_rows(gpu, signal), "out": out, "onto": onto}
        gpu.run(positional.bind_gradient(None, 1, **bound))
        found = out.download()
        tolerances.sums(batch).check(unpack(found, columns), expected + onto)
        np.testing.assert_array_equal(found, pack(unpack(found, columns)))
