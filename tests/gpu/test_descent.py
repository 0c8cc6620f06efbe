"""Descent on a GPU against float64: stores, steps and moments; nothing is written if a pass was not finite."""

import numpy as np
import pytest

from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.ops import descent as rules
from fgnumba.kernels.ops.descent import cuda as descent
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import ORTHOGONAL
from fgnumba.kernels.shared.loss import RESULT
from tests import tolerances
from tests.references import reference

KINDS = {"rank1": directions.RANK1, "rademacher": directions.RADEMACHER, "gaussian": directions.GAUSSIAN}
SEED, STEP, FIRST, PARAMETER = 2**40 + 3, 17, 6, 2
# One entry, vectors, several panels, several blocks of rows with a ragged last one.
SIGNED = [(1, 1), (5,), (70,), (3, 33), (131, 67), (258, 10)]
GAUSSIAN = [(1, 1), (5,), (70,), (3, 33), (38, 67)]
CASES = [
    *((kind, shape) for kind in ("rank1", "rademacher") for shape in SIGNED),
    *(("gaussian", shape) for shape in GAUSSIAN),
]


def run(gpu, kind, shape, derivatives, rule, finite=1, rate=0.1, first=FIRST):
    """Return θ and m before and after an update of a parameter of `shape`, and whether it was finite."""
    rng = np.random.default_rng(0)
    theta, moment = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    packed, packed_moment = gpu.array(pack(theta)), gpu.array(pack(moment))
    rates, result = np.zeros(1, RATES), gpu.array(np.full(1, finite, RESULT))
    rates["learning_rate"], rates["momentum"] = rate, 0.75
    operation = descent.bind(
        None,
        1,
        theta=packed,
        kind=KINDS[kind],
        count=len(derivatives),
        first=first,
        parameter=PARAMETER,
        stream=gpu.stream(SEED, STEP),
        values=gpu.array(np.array([7.0, *derivatives])),
        result=result,
        rates=None if rule == rules.STORE else gpu.array(rates),
        rule=rule,
        moment=packed_moment if rule == rules.MOMENTUM else None,
    )
    gpu.run(operation)
    after = unpack(packed.download(), shape[-1]), unpack(packed_moment.download(), shape[-1])
    return (theta, moment), after, int(result.download()["finite"][0])


def mean_gradient(kind, shape, derivatives):
    total = sum(
        d * reference.direction(kind, shape, FIRST + t, PARAMETER, STEP, SEED)
        for t, d in enumerate(derivatives)
    )
    return total / len(derivatives)


@pytest.mark.parametrize(("kind", "shape"), CASES, ids=str)
def test_a_gradient_is_stored(gpu, kind, shape):
    derivatives = [1.5, -2.0, 0.25]
    _, (stored, _), finite = run(gpu, kind, shape, derivatives, rules.STORE)
    assert finite == 1
    tolerances.descent(kind).check(stored, mean_gradient(kind, shape, derivatives))


@pytest.mark.parametrize("shape", [(37,), (9, 33)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_follow_their_formula(gpu, kind, shape):
    # More directions than are drawn at a time.
    derivatives = list(np.linspace(-1, 2, 19))
    g = mean_gradient(kind, shape, derivatives)
    (theta, _), (stepped, _), _ = run(gpu, kind, shape, derivatives, rules.SGD)
    tolerances.descent(kind).check(stepped, theta - 0.1 * g)
    (theta, m), (moved, moment), _ = run(gpu, kind, shape, derivatives, rules.MOMENTUM)
    tolerances.descent(kind).check(moment, 0.75 * m + g)
    tolerances.descent(kind).check(moved, theta - 0.1 * (0.75 * m + g))


@pytest.mark.parametrize("rule", [rules.SGD, rules.MOMENTUM])
@pytest.mark.parametrize("kind", ["rank1", "gaussian"])
def test_rows_of_several_blocks_move(gpu, kind, rule):
    shape = (258, 33) if kind == "rank1" else (66, 33)
    (theta, m), (moved, moment), _ = run(gpu, kind, shape, [0.5], rule)
    m = mean_gradient(kind, shape, [0.5]) + (0.75 * m if rule == rules.MOMENTUM else 0)
    tolerances.descent(kind).check(moved, theta - 0.1 * m)
    if rule == rules.MOMENTUM:
        tolerances.descent(kind).check(moment, m)


@pytest.mark.parametrize("kind", ["rank1", "rademacher"])
def test_stored_signs_are_exact(gpu, kind):
    _, (stored, _), _ = run(gpu, kind, (67, 45), [1.0], rules.STORE)
    np.testing.assert_array_equal(stored, mean_gradient(kind, (67, 45), [1.0]))


def test_orthogonal_directions_of_a_family_are_orthogonal(gpu):
    found = []
    for member in (0, 5, 18):
        number = ORTHOGONAL + 32 + member
        found.append(run(gpu, "rank1", (160, 70), [1.0], rules.STORE, first=number)[1][0].astype(np.float64))
    products = [[np.sum(a * b) for a in found] for b in found]
    np.testing.assert_array_equal(products, np.diag([160 * 70.0] * 3))
    assert abs(np.linalg.matrix_rank(found[1])) == 1


@pytest.mark.parametrize("rule", [rules.SGD, rules.MOMENTUM, rules.STORE])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_unless_all_is_finite(gpu, kind, rule):
    refused = [(0, 0.1, [1.0]), (1, 0.1, [1.0, np.nan]), (1, 0.1, [1e300, 1.0]), (1, 3e38, [1.0, 4.0])]
    # A gradient that is stored has no rate.
    for finite, rate, derivatives in refused[: 3 if rule == rules.STORE else 4]:
        before, after, found = run(gpu, kind, (5, 40), derivatives, rule, finite, rate)
        assert found == 0
        np.testing.assert_array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[1], before[1])


def test_the_first_derivative_that_is_not_finite_may_be_any(gpu):
    # More directions than threads of the block that decides.
    derivatives = np.ones(300)
    derivatives[290] = np.inf
    before, after, finite = run(gpu, "rademacher", (1, 1), derivatives, rules.SGD)
    assert finite == 0
    np.testing.assert_array_equal(after[0], before[0])
