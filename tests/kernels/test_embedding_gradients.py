"""Gradients of embeddings from the error signals of their outputs, on the CPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.ops.embedding import cpu as embedding
from fgnumba.kernels.ops.positional_embedding import cpu as positional
from tests import tolerances

SIZES = [(1, 1, 1, 1), (3, 5, 7, 37), (2, 13, 65, 64), (7, 11, 3, 129)]


def in_rows(values, by_position=True):
    """Return signals (B, L, C) as rows, NaN between them."""
    batch, length, columns = values.shape
    memory = aligned((1, batch * length, leading(columns)))
    memory[...] = np.nan
    memory[0, :, :columns] = values.reshape(-1, columns)
    if by_position:
        return Images.of_batch(memory, (length, columns), by_position=True)
    return Images.of_batch(memory, (columns,))


def of_symbols(x):
    memory = aligned((1, len(x), leading(x.shape[1])))
    memory[0, :, : x.shape[1]] = x
    return Images.of_batch(memory, x.shape[1:])


def gradient(x, signal, symbols, *, threads=1, onto=None, by_position=True):
    """Return the packed gradient; what `onto` holds is there before."""
    columns = signal.shape[-1]
    out = aligned((-(-columns // 32), symbols, 32))
    out[...] = np.nan if onto is None else onto
    operation = embedding.bind_gradient(
        CPU.isa,
        threads,
        batch=len(x),
        x=of_symbols(x),
        signal=in_rows(signal, by_position),
        out=out,
        onto=onto is not None,
    )
    CPU.program([operation]).run()
    return out


def case(batch, length, symbols, columns):
    rng = np.random.default_rng(columns)
    x = rng.integers(0, symbols, (batch, length)).astype(np.float32)
    signal = rng.standard_normal((batch, length, columns)).astype(np.float32)
    expected = np.zeros((symbols, columns))
    np.add.at(expected, x.astype(int), signal.astype(np.float64))
    return x, signal, expected


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("by_position", [True, False])
def test_rows_are_added_up_by_symbol(sizes, by_position):
    x, signal, expected = case(*sizes)
    found = gradient(x, signal, sizes[2], by_position=by_position)
    tolerances.sums(x.size).check(unpack(found, sizes[3]), expected)
    np.testing.assert_array_equal(found, pack(unpack(found, sizes[3])))


def test_a_gradient_is_added_to_another():
    x, signal, expected = case(3, 5, 7, 37)
    before = pack(np.random.default_rng(0).standard_normal((7, 37)))
    found = gradient(x, signal, 7, onto=before)
    tolerances.sums(x.size).check(unpack(found, 37), expected + unpack(before, 37))


def test_what_is_no_symbol_adds_nothing():
    x, signal, _ = case(2, 13, 7, 5)
    expected = unpack(gradient(x[:, 4:], signal[:, 4:], 7), 5)
    x[:, :4] = np.nan, -1, 7, np.inf
    np.testing.assert_array_equal(unpack(gradient(x, signal, 7), 5), expected)


def test_results_do_not_depend_on_the_number_of_threads():
    x, signal, _ = case(64, 33, 65, 70)
    bits = {gradient(x, signal, 65, threads=threads).tobytes() for threads in (1, 2, 5)}
    assert len(bits) == 1


def of_positions(signal, rows, *, threads=1, onto=None):
    """Return the packed gradient of a table of `rows` positions."""
    columns = signal.shape[-1]
    out = aligned((-(-columns // 32), rows, 32))
    out[...] = np.nan if onto is None else onto
    operation = positional.bind_gradient(
        CPU.isa, threads, batch=len(signal), signal=in_rows(signal), out=out, onto=onto is not None
    )
    CPU.program([operation]).run()
    return out


@pytest.mark.parametrize(
    ("batch", "length", "rows", "columns"), [(1, 1, 1, 1), (3, 5, 7, 37), (2, 13, 13, 64)]
)
def test_rows_are_added_up_by_position(batch, length, rows, columns):
    signal = np.random.default_rng(length).standard_normal((batch, length, columns)).astype(np.float32)
    expected = np.zeros((rows, columns))
    expected[:length] = signal.astype(np.float64).sum(0)
    found = of_positions(signal, rows)
    tolerances.sums(batch).check(unpack(found, columns), expected)
    np.testing.assert_array_equal(found, pack(unpack(found, columns)))
    before = pack(np.ones((rows, columns)))
    added = of_positions(signal, rows, onto=before)
    tolerances.sums(batch).check(unpack(added, columns), expected + 1)


def test_positions_do_not_depend_on_the_number_of_threads():
    signal = np.random.default_rng(0).standard_normal((64, 33, 70)).astype(np.float32)
    bits = {of_positions(signal, 40, threads=threads).tobytes() for threads in (1, 2, 5)}
    assert len(bits) == 1
