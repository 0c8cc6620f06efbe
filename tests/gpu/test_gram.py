"""Gram matrices and projections on a GPU against float64 of the directions themselves, without padding."""

import numpy as np
import pytest

from fgnumba.kernels.cuda.driver import SimulatedDriver
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.ops import descent as rules
from fgnumba.kernels.ops.descent import cuda as descent
from fgnumba.kernels.ops.gram import cuda as gram
from fgnumba.kernels.ops.projection import cuda as projection
from fgnumba.kernels.rules import directions as kinds
from fgnumba.kernels.rules.philox import ORTHOGONAL
from fgnumba.kernels.shared.cholesky import cuda as cholesky
from fgnumba.kernels.shared.drawn.cpu import Drawn
from fgnumba.kernels.shared.loss import RESULT
from tests import tolerances
from tests.references import reference

KINDS = {"rank1": kinds.RANK1, "rademacher": kinds.RADEMACHER, "gaussian": kinds.GAUSSIAN}
SEED, STEP, FIRST, PARAMETER = 2**40 + 3, 17, 6, 2

# One entry, vectors, ragged panels, more rows than are drawn at a time; groups, each with its padding.
SIGNED = [((1, 1), 1), ((5,), 1), ((70,), 1), ((30,), 3), ((5, 70), 2), ((37, 67), 1), ((131, 10), 1)]
# Of a vector, the ragged row is any of the four that one draw of Gaussians gives.
GAUSSIAN = [*SIGNED[:5], ((9, 37), 1), ((40,), 1), ((100,), 1), ((133,), 1)]
CASES = [
    *((kind, *one) for kind in ("rank1", "rademacher") for one in SIGNED),
    *(("gaussian", *one) for one in GAUSSIAN),
]


def drawn(gpu, kind, shape, count, groups=1):
    """Return directions of a parameter as operations take them, and as (T, *packed shape) with zeros in the padding."""
    stream = gpu.stream(SEED, STEP)
    packed = pack(np.zeros(shape), groups)
    found = Drawn(packed.shape, shape[-1], groups, KINDS[kind], count, FIRST, PARAMETER, stream)
    # Columns are numbered as they are packed: groups of panels, each with its padding.
    across = packed.shape[0] * 32 if len(shape) == 2 else len(packed)
    kept = pack(np.ones(shape), groups)
    vectors = []
    for t in range(count):
        v = reference.direction(kind, (*shape[:-1], across), FIRST + t, PARAMETER, STEP, SEED)
        if len(shape) == 2:
            v = v.reshape(shape[0], -1, 32).transpose(1, 0, 2)
        vectors.append(v * kept)
    return found, np.array(vectors)


def agree(kind, found, v):
    """Compare the products of directions (T, P), of which each share of the work has found a part."""
    # Signs are counted.
    bound = tolerances.gaussian_products(v.shape[1]) if kind == "gaussian" else tolerances.Within()
    bound.check(np.tril(found.download()).sum(axis=0), np.tril(v @ v.T))


@pytest.mark.parametrize(("kind", "shape", "groups"), CASES, ids=str)
def test_products_of_directions(gpu, kind, shape, groups):
    directions, v = drawn(gpu, kind, shape, 3, groups)
    found = gpu.array(np.full((gram.shares(directions), 3, 3), np.nan))
    gpu.run(gram.bind(None, 1, directions=directions, gram=found))
    v = v.reshape(3, -1)
    agree(kind, found, v)


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_more_directions_than_a_block_takes(gpu, kind):
    directions, v = drawn(gpu, kind, (2, 35), 18)
    found = gpu.array(np.full((gram.shares(directions), 18, 18), np.nan))
    gpu.run(gram.bind(None, 1, directions=directions, gram=found))
    v = v.reshape(18, -1)
    agree(kind, found, v)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_takes_several_panels(gpu, kind, monkeypatch):
    monkeypatch.setattr(gram, "_BLOCKS", 2)
    directions, v = drawn(gpu, kind, (2, 150), 2)
    assert gram.shares(directions) == (1 if kind == "rank1" else 2)
    found = gpu.array(np.full((gram.shares(directions), 2, 2), np.nan))
    gpu.run(gram.bind(None, 1, directions=directions, gram=found))
    v = v.reshape(2, -1)
    agree(kind, found, v)


def test_orthogonal_directions_along_each_other(gpu):
    count, shape = 3, (160, 67)
    packed = pack(np.ones(shape))
    first, stream = ORTHOGONAL + 32 + 5, gpu.stream(SEED, STEP)
    directions = Drawn(packed.shape, 67, 1, kinds.RANK1, count, first, PARAMETER, stream)
    found, sums = gpu.zeros((1, count, count), np.float64), gpu.zeros((len(packed), count), np.float64)
    values = gpu.nans(*packed.shape)
    second = descent.bind(
        None,
        1,
        theta=values,
        kind=kinds.RANK1,
        count=1,
        first=first + 1,
        parameter=PARAMETER,
        stream=stream,
        values=gpu.array(np.ones(2)),
        result=gpu.array(np.ones(1, RESULT)),
        rates=None,
        rule=rules.STORE,
    )
    gpu.run(
        second,
        gram.bind(None, 1, directions=directions, gram=found),
        projection.bind(None, 1, values=values, directions=directions, sums=sums),
    )
    # 160 rows are five times 32: directions of a family are orthogonal whatever the columns.
    np.testing.assert_array_equal(np.tril(found.download()[0]), np.diag([160 * 67.0] * count))
    np.testing.assert_array_equal(sums.download().sum(axis=0), [0, 160 * 67, 0])


def combine(gpu, values, **others):
    out = gpu.array(np.full(len(values), np.nan))
    arrays = {k: gpu.array(v) if isinstance(v, np.ndarray) else v for k, v in others.items()}
    gpu.run(gram.bind_combine(values=gpu.array(values), out=out, **arrays))
    return out.download()


def test_coefficients_of_a_mean_are_what_is_left_clipped(gpu):
    rng = np.random.default_rng(0)
    values, projections = rng.standard_normal(6), rng.standard_normal((301, 5))
    found = combine(gpu, values, clip=np.inf, projections=projections)
    tolerances.EXACT_SUMS.check(found[1:], values[1:] - projections.sum(axis=0))
    assert found[0] == values[0]
    np.testing.assert_array_equal(combine(gpu, values, clip=0.5)[1:], np.clip(values[1:], -0.5, 0.5))
    values[3] = np.nan
    assert np.isnan(combine(gpu, values, clip=0.5)[3])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_coefficients_on_a_span_solve_its_gram_matrix(gpu, count):
    rng = np.random.default_rng(count)
    v = rng.standard_normal((count, 50))
    shares = np.array([v[:, part] @ v[:, part].T for part in (slice(0, 10), slice(10, 50))])
    # What stands above the diagonal must not matter.
    shares[:, *np.triu_indices(count, 1)] = np.nan
    values = rng.standard_normal(1 + count)
    found = combine(gpu, values, clip=np.inf, grams=shares, parameters=50)
    tolerances.EXACT_SOLUTION.check(found[1:], np.linalg.solve(v @ v.T, values[1:]) * 50)
    assert found[0] == values[0]


def test_a_direction_that_depends_on_others_is_left_out(gpu):
    rng = np.random.default_rng(0)
    v = rng.standard_normal((5, 20))
    v[2] = v[0] - 2 * v[1]
    gradient = rng.standard_normal(20)
    found = combine(gpu, np.array([0.0, *(v @ gradient)]), clip=np.inf, grams=(v @ v.T)[None], parameters=20)
    assert found[3] == 0
    kept = v[[0, 1, 3, 4]]
    expected = np.linalg.solve(kept @ kept.T, kept @ gradient) * 20 * 5 / 4
    tolerances.EXACT_SOLUTION_OF_MANY.check(found[[1, 2, 4, 5]], expected)


def test_more_directions_than_threads_of_a_block(gpu, monkeypatch):
    count = 600
    if isinstance(gpu.driver, SimulatedDriver):
        # As many would take minutes: fewer threads instead.
        count = 70
        for module in (gram, cholesky):
            monkeypatch.setattr(module, "THREADS", 32)
        monkeypatch.setattr(gram._solve, "threads", 32)
    rng = np.random.default_rng(0)
    v = rng.standard_normal((count, 4 * count))
    values = rng.standard_normal(1 + count)
    found = combine(gpu, values, clip=np.inf, grams=(v @ v.T)[None], parameters=7)
    tolerances.EXACT_SOLUTION_OF_MANY.check(found[1:], np.linalg.solve(v @ v.T, values[1:]) * 7)


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize(("kind", "shape", "groups"), CASES, ids=str)
def test_projections(gpu, kind, shape, groups, count):
    directions, v = drawn(gpu, kind, shape, count, groups)
    h = np.random.default_rng(1).standard_normal(shape)
    packed = pack(h, groups)
    kept = pack(np.ones(shape), groups)
    found = gpu.array(np.full((directions.panels, count), np.nan))
    values = gpu.array(np.where(kept, packed, np.float32(np.nan)))
    gpu.run(projection.bind(None, 1, values=values, directions=directions, sums=found))
    exact = (v * packed.astype(np.float64)).reshape(count, directions.panels, -1).sum(axis=2)
    tolerances.projections(v[0].size).check(found.download(), exact.T)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_warps_share(gpu, kind):
    # 1030 rows are more than the eight warps of one direction take at a time.
    directions, v = drawn(gpu, kind, (1030, 1), 1)
    packed = pack(np.random.default_rng(1).standard_normal((1030, 1)))
    found = gpu.array(np.full((1, 1), np.nan))
    gpu.run(projection.bind(None, 1, values=gpu.array(packed), directions=directions, sums=found))
    tolerances.projections(1030).check(found.download()[0, 0], np.sum(v[0] * packed))
