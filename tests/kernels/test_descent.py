"""Descent: stores, steps and moments against their formula; nothing is written if a pass was not finite."""

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.descent import MOMENTUM, SGD, STORE
from fgnumba.kernels.ops.descent import cpu as descent
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.loss import RESULT
from tests import tolerances
from tests.references import reference

KINDS = {"rank1": directions.RANK1, "rademacher": directions.RADEMACHER, "gaussian": directions.GAUSSIAN}
SEED, STEP, FIRST, PARAMETER = 2**40 + 3, 17, 6, 2


def run(kind, shape, derivatives, rule, threads=1, isa=None, finite=1, rate=0.1):
    """Return θ and m before and after an update of a parameter of `shape`."""
    rng = np.random.default_rng(0)
    theta, moment = rng.standard_normal(shape), rng.standard_normal(shape)
    packed, packed_moment = pack(theta), pack(moment)
    stream, result, rates = np.zeros(1, STREAM), np.full(1, finite, RESULT), np.zeros(1, RATES)
    set_stream(stream, SEED, STEP)
    rates["learning_rate"], rates["momentum"] = rate, 0.75
    operation = descent.bind(
        isa or vector.instruction_set(),
        threads,
        theta=packed,
        kind=KINDS[kind],
        count=len(derivatives),
        first=FIRST,
        parameter=PARAMETER,
        stream=stream,
        values=np.array([0.0, *derivatives]),
        result=result,
        rates=rates,
        rule=rule,
        moment=packed_moment if rule == MOMENTUM else None,
    )
    Program([operation]).run()
    before = theta.astype(np.float32), moment.astype(np.float32)
    after = unpack(packed, shape[-1]), unpack(packed_moment, shape[-1])
    return before, after, int(result["finite"][0])


def mean_gradient(kind, shape, derivatives):
    total = sum(
        d * reference.direction(kind, shape, FIRST + t, PARAMETER, STEP, SEED)
        for t, d in enumerate(derivatives)
    )
    return total / len(derivatives)


@pytest.mark.parametrize("shape", [(1, 1), (5,), (70,), (3, 33), (64, 32), (65, 10), (131, 67)], ids=str)
@pytest.mark.parametrize("derivatives", [[0.5], [1.5, -2.0], list(np.linspace(-1, 2, 16))], ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_updates_follow_their_formula(kind, derivatives, shape):
    g = mean_gradient(kind, shape, derivatives)
    bound = tolerances.descent(kind)
    _, (stored, _), _ = run(kind, shape, derivatives, STORE)
    bound.check(stored, g)
    (theta, _), (stepped, _), _ = run(kind, shape, derivatives, SGD)
    bound.check(stepped, theta - 0.1 * g)
    (theta, m), (moved, moment), _ = run(kind, shape, derivatives, MOMENTUM)
    bound.check(moment, 0.75 * m + g)
    bound.check(moved, theta - 0.1 * (0.75 * m + g))


@pytest.mark.parametrize("kind", ["rank1", "rademacher"])
def test_stored_signs_are_exact(kind):
    _, (stored, _), _ = run(kind, (67, 45), [1.0], STORE)
    np.testing.assert_array_equal(stored, mean_gradient(kind, (67, 45), [1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_updates_do_not_depend_on_threads_or_instruction_set(kind):
    derivatives = [0.3, -0.7, 1.1]
    _, (one, _), _ = run(kind, (700, 333), derivatives, SGD)
    for threads in (2, 3):
        np.testing.assert_array_equal(run(kind, (700, 333), derivatives, SGD, threads)[1][0], one)
    for name in vector.executable():
        isa = vector.INSTRUCTION_SETS[name]
        _, (other, _), _ = run(kind, (700, 333), derivatives, SGD, isa=isa)
        tolerances.updates().check(other, one)


@pytest.mark.parametrize("rule", [SGD, MOMENTUM])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_unless_all_is_finite(kind, rule):
    for arguments in ({"finite": 0}, {"rate": 1e39}, {"rate": 3e38, "derivatives": [1.0, 4.0]}):
        derivatives = arguments.pop("derivatives", [1.0])
        before, after, finite = run(kind, (40, 50), derivatives, rule, **arguments)
        assert finite == 0
        np.testing.assert_array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[1], before[1])
