"""Recurrences on a GPU against float64: scans over positions, and the positions of LSTM and GRU one by one."""

from typing import NamedTuple

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.elementwise_lstm import cuda as elementwise_lstm
from fgnumba.kernels.ops.gru import cuda as gru
from fgnumba.kernels.ops.linear_recurrent_unit import cuda as linear_recurrent_unit
from fgnumba.kernels.ops.lstm import cuda as lstm
from fgnumba.kernels.ops.min_gru import cuda as min_gru
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.shared.recurrence.cpu import Vectors
from tests import tolerances_recurrences as tolerances
from tests.references import recurrence_reference, reference

SEED, STEP, FIRST = 0x123456789ABCDEF0, 77, 3
PARAMETERS = (4, 9)
KINDS = {NONE: None, RANK1: "rademacher", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}

# Examples, positions, units: one of each; fewer and more than a block; primes; many positions.
SIZES = [(1, 1, 1), (3, 4, 7), (2, 2, 137), (1, 70, 2)]


class Case(NamedTuple):
    """A scan: its module, its reference, gates, groups of each vector, parts of a state, parts of an output."""

    module: object
    reference: object
    gates: int
    vectors: tuple[int, ...]
    parts: int


SCANS = {
    "elementwise-lstm": Case(elementwise_lstm, recurrence_reference.elementwise_lstm, 2, (2,), 1),
    "min-gru": Case(min_gru, recurrence_reference.min_gru, 2, (), 1),
    "linear-recurrent-unit": Case(
        linear_recurrent_unit, recurrence_reference.linear_recurrent_unit, 2, (1, 1), 2
    ),
    "real-linear-recurrent-unit": Case(
        linear_recurrent_unit, recurrence_reference.linear_recurrent_unit, 1, (1,), 1
    ),
}


def padded(units):
    return -(-units // 32) * 32


def to_rows(gpu, values):
    """Return (blocks, ..., G, H) numbers as rows of whole panels on the GPU, with NaN between gates."""
    *outer, gates, units = values.shape
    array = np.full((*outer, gates, padded(units)), np.nan)
    array[..., :units] = values
    return gpu.array(array.reshape(outer[0], -1, gates * padded(units)), np.float32)


def from_rows(array, shape):
    """Return numbers (blocks, ..., G, H) of such rows."""
    values = array.download().reshape(*shape[:-1], padded(shape[-1]))
    return values[..., : shape[-1]]


def vectors_of(gpu, rng, groups, units, kind, count):
    """Return vectors, (T, ...) directions of each, and both as a kernel takes them."""
    # Exponents ν from which factors are between 0.4 and 0.99, angles θ up to π.
    values = tuple(
        rng.uniform(-4, 0 if i == 0 else 3, (g, units)).astype(np.float32).astype(np.float64)
        for i, g in enumerate(groups)
    )
    size = (groups[0] if groups else 1) * padded(units)

    def lanes(vector, g):
        return vector.reshape(g, -1)[:, :units]

    if kind == EXPLICIT:
        v = tuple(
            rng.standard_normal((count, g, units)).astype(np.float32).astype(np.float64) for g in groups
        )
    else:
        name = KINDS[kind]
        v = tuple(
            np.array(
                [
                    lanes(
                        reference.direction(name, (size,), FIRST + t, PARAMETERS[i], STEP, SEED)
                        if name
                        else np.zeros(size),
                        g,
                    )
                    for t in range(count)
                ]
            ).reshape(count, g, units)
            for i, g in enumerate(groups)
        )
    bound = Vectors(
        values=tuple(to_rows(gpu, value[None]).reshape(size) for value in values),
        parameters=PARAMETERS[: len(groups)],
        kind=kind,
        count=count,
        first=FIRST,
        stream=gpu.stream(SEED, STEP),
        v=tuple(to_rows(gpu, one).reshape(count, size) for one in v) if kind == EXPLICIT else (),
    )
    return values, v, bound


def sequence(gpu, count, batch, length, columns):
    """Return outputs (L, columns) of NaN on the GPU."""
    memory = gpu.nans(1 + count, batch * length, leading(columns))
    return Images.of_batch(memory, (length, columns), count > 0, by_position=True)


def values_of(y, count, batch, length, parts, units):
    """Return the outputs (1 + T, B, L, parts, H)."""
    found = y.memory.download()[..., : parts * units]
    return found.reshape(1 + count, batch, length, parts, units)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def run_scan(gpu, case, batch, length, units, kind, count, kept):
    rng = np.random.default_rng(batch + length + units)
    p = numbers(rng, 1 + count, batch, length, case.gates, units)
    values, v, vectors = vectors_of(gpu, rng, case.vectors, units, kind, count)
    state = numbers(rng, 1 + count, batch, case.parts, units)
    blocks = {"none": 0, "primal": 1, "tangents": 1 + count}[kept]
    state[blocks:] = 0
    carried = to_rows(gpu, state[:blocks]) if blocks else None
    product, y = to_rows(gpu, p), sequence(gpu, count, batch, length, case.parts * units)
    own = {"vectors": vectors} if case.vectors else {"count": count}
    arguments = {"batch": batch, "units": units, "product": product, "y": y, "state": carried, **own}
    gpu.run(case.module.bind(None, 1, **arguments))

    parts = [tuple(state[t, :, part] for part in range(case.parts)) for t in range(1 + count)]
    shaped = tuple(value[0] if len(value) == 1 else value for value in values)
    outputs, gates, after = case.reference(p[0], shaped, parts[0])
    found = values_of(y, count, batch, length, case.parts, units)
    tolerances.RECURRED.check(found[0], outputs, "outputs")
    tolerances.RECURRED_GATES.check(from_rows(product, (1 + count, *p.shape[1:]))[0], gates, "gates")
    np.testing.assert_array_equal(from_rows(product, p.shape)[1:], p[1:].astype(np.float32))
    ends = [after]
    for t in range(count):
        directions = tuple(one[t][0] if one.shape[1] == 1 else one[t] for one in v)
        tangent, end = recurrence_reference.derivatives(
            case.reference, (p[0], shaped, parts[0]), (p[1 + t], directions, parts[1 + t])
        )
        tolerances.RECURRED.check(found[1 + t], tangent, f"tangent {t}")
        ends.append(end)
    if blocks:
        left = from_rows(carried, (blocks, batch, case.parts, units))
        for block in range(blocks):
            tolerances.RECURRED.check(left[block], np.stack(ends[block], axis=1), f"state {block}")


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize(("batch", "length", "units"), SIZES)
def test_scans_with_a_state(gpu, name, batch, length, units):
    run_scan(gpu, SCANS[name], batch, length, units, EXPLICIT, 1, "tangents")


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize(("kept", "count"), [("none", 0), ("none", 2), ("primal", 0), ("primal", 2)])
def test_scans_with_a_state_of_the_primal_alone_or_none(gpu, name, kept, count):
    run_scan(gpu, SCANS[name], 2, 3, 5, EXPLICIT if count else NONE, count, kept)


@pytest.mark.parametrize("name", ["elementwise-lstm", "linear-recurrent-unit"])
@pytest.mark.parametrize("kind", KINDS)
def test_directions_of_vectors_that_are_drawn(gpu, name, kind):
    run_scan(gpu, SCANS[name], 1, 2, 35, kind, 2, "tangents")


def run_positions(gpu, name, batch, length, units, kind, count, kept):
    rng = np.random.default_rng(batch + length + units)
    function, gates, parts = {
        "lstm": (recurrence_reference.lstm, 4, 2),
        "gru": (recurrence_reference.gru, 3, 1),
    }[name]
    p, q = (numbers(rng, 1 + count, batch, length, gates, units) for _ in range(2))
    values, v, vectors = vectors_of(gpu, rng, (1,) if name == "gru" else (), units, kind, count)
    state = numbers(rng, 1 + count, batch, parts, units)
    blocks = {"none": 0, "primal": 1, "tangents": 1 + count}[kept]
    state[blocks:] = 0
    if not blocks:
        q[:, :, 0] = 0
    carried = to_rows(gpu, state[:blocks]) if blocks else None
    product, y = to_rows(gpu, p), sequence(gpu, count, batch, length, units)
    cells = gpu.nans(1 + count, batch, padded(units))
    for position in range(length):
        read = np.full_like(q[:, :, 0], np.nan) if position == 0 and not blocks else q[:, :, position]
        arguments = {
            "batch": batch,
            "units": units,
            "position": position,
            "product": product,
            "recurrent": to_rows(gpu, read),
            "y": y,
            "state": carried,
        }
        if name == "lstm":
            gpu.run(lstm.bind(None, 1, count=count, cells=cells, **arguments))
        else:
            gpu.run(gru.bind(None, 1, vectors=vectors, **arguments))

    each = [tuple(state[t, :, part] for part in range(parts)) for t in range(1 + count)]
    shaped = tuple(value[0] for value in values)
    outputs, kept_gates, after = function(p[0], q[0], shaped, each[0])
    found = values_of(y, count, batch, length, 1, units)
    tolerances.RECURRED.check(found[0], outputs, "outputs")
    tolerances.RECURRED_GATES.check(from_rows(product, (1 + count, *p.shape[1:]))[0], kept_gates, "gates")
    ends = [after]
    for t in range(count):
        tangent, end = recurrence_reference.derivatives(
            function,
            (p[0], q[0], shaped, each[0]),
            (p[1 + t], q[1 + t], tuple(one[t][0] for one in v), each[1 + t]),
        )
        tolerances.RECURRED.check(found[1 + t], tangent, f"tangent {t}")
        ends.append(end)
    if blocks:
        left = from_rows(carried, (blocks, batch, parts, units))
        for block in range(blocks):
            tolerances.RECURRED.check(left[block], np.stack(ends[block], axis=1), f"state {block}")


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize(("batch", "length", "units"), [(1, 1, 1), (3, 4, 7), (2, 2, 137)])
def test_positions_with_a_state(gpu, name, batch, length, units):
    run_positions(gpu, name, batch, length, units, EXPLICIT, 1, "tangents")


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize(("kept", "count"), [("none", 0), ("none", 2), ("primal", 0), ("primal", 2)])
def test_positions_with_a_state_of_the_primal_alone_or_none(gpu, name, kept, count):
    run_positions(gpu, name, 2, 3, 5, EXPLICIT if count else NONE, count, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_of_the_recurrent_bias_that_are_drawn(gpu, kind):
    run_positions(gpu, "gru", 1, 2, 35, kind, 2, "none")
