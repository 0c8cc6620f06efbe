"""Second derivatives of losses in outputs, Gauss-Newton matrices, their solution and the damping, against float64."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.gauss_newton import LAMBDA, RATE, STATE
from fgnumba.kernels.ops.gauss_newton import cpu as gauss_newton
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.shared.loss import RESULT
from tests import curvature_cases, tolerances


def curvature(loss, z, width, targets):
    found = np.full((z.shape[1], width), np.nan, np.float32)
    Program([loss.bind_curvature(CPU, z[0], targets, found)]).run()
    return found


def solved(gram, d, damping=0.0, state=None):
    """Return the coefficients c of a system, as the kernel solves it."""
    out = np.zeros(1 + len(d))
    state = np.zeros(STATE, np.float32) if state is None else state
    values = np.array([0.5, *d])
    Program([gauss_newton.bind_solve(values=values, gram=gram, state=state, damping=damping, out=out)]).run()
    assert out[0] == 0.5
    return out[1:] / len(d)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", curvature_cases.LOSSES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (1, 7), (33, 19)])
def test_second_derivatives(name, shape, weighted):
    batch, width = shape
    loss, targets, y, weights = curvature_cases.problem(name, width, batch, weighted)
    z = curvature_cases.dual(1, batch, width)
    h = curvature(loss, z, width, targets).astype(np.float64)
    full = h[:, :, None] * np.eye(width)
    if loss.coupled:
        full -= np.einsum("in,im->inm", h, h) / h.sum(axis=1)[:, None, None]
    expected = curvature_cases.hessians(name, z[0, :, :width].astype(np.float64), y, weights)
    tolerances.ELEMENTWISE.check(full, expected)


def test_extreme_logits_have_finite_curvatures():
    z = np.array([[[1e4, -1e4, 0.0], [-88.0, 88.0, 87.0]]], np.float32)
    softmax = curvature(fg.SoftmaxCrossEntropy(), z, 3, np.array([0, 1]))
    np.testing.assert_array_equal(softmax[0], [1, 0, 0])
    assert np.isfinite(softmax).all()
    binary = curvature(fg.BinaryCrossEntropy(), z, 3, np.zeros((2, 3), np.float32))
    assert np.isfinite(binary).all()
    assert (binary >= 0).all()


@pytest.mark.parametrize("isa", vector.executable())
@pytest.mark.parametrize("name", curvature_cases.LOSSES)
def test_matrices(name, isa, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, isa)
    for count, width, batch in curvature_cases.SHAPES:
        loss, targets, y, weights = curvature_cases.problem(name, width, batch, False)
        z = curvature_cases.dual(count, batch, width)
        h = curvature(loss, z, width, targets)
        expected = curvature_cases.gauss_newton(name, z, width, y, weights)
        for threads in (1, 3):
            found = np.zeros((count, count))
            bound = gauss_newton.bind(
                vector.instruction_set(), threads, z=z, curvature=h, coupled=loss.coupled, gram=found
            )
            Program(bound).run()
            errors = curvature_cases.relative_to_diagonal(found, expected)
            assert abs(errors).max() < tolerances.GAUSS_NEWTON, (count, width, batch, threads)


def test_matrices_do_not_depend_on_the_number_of_threads():
    count, width, batch = 131, 3, 300
    z, h = curvature_cases.dual(count, batch, width), np.ones((batch, width), np.float32)
    found = []
    for threads in (1, 2, 5):
        gram = np.zeros((count, count))
        bound = gauss_newton.bind(
            vector.instruction_set(), threads, z=z, curvature=h, coupled=True, gram=gram
        )
        Program(bound).run()
        found.append(np.tril(gram))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def spd(rng, n):
    a = rng.standard_normal((n, 2 * n))
    return a @ a.T


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 31, 64, 129])
def test_solutions(n):
    rng = np.random.default_rng(n)
    gram, d = spd(rng, n), rng.standard_normal(n)
    tolerances.SOLVED.check(solved(np.tril(gram), d), np.linalg.solve(gram, d))
    damped = gram + 3.0 * np.trace(gram) / n * np.eye(n)
    tolerances.SOLVED.check(solved(np.tril(gram), d, damping=3.0), np.linalg.solve(damped, d))


def test_a_damping_that_is_kept_takes_the_place_of_the_first():
    rng = np.random.default_rng(0)
    gram, d = spd(rng, 6), rng.standard_normal(6)
    state = np.zeros(STATE, np.float32)
    state[LAMBDA] = 0.25
    found = solved(gram, d, damping=3.0, state=state)
    tolerances.SOLVED.check(found, np.linalg.solve(gram + 0.25 * np.eye(6), d))


@pytest.mark.parametrize("n", [2, 7, 40])
def test_a_step_does_not_depend_on_the_basis_of_its_span(n):
    # With V A in place of V, G becomes Aᵀ G A and d becomes Aᵀ d, and the step is V A c.
    rng = np.random.default_rng(n)
    gram, d = spd(rng, n), rng.standard_normal(n)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0] * rng.uniform(0.5, 2.0, n)
    found = basis @ solved(basis.T @ gram @ basis, basis.T @ d)
    tolerances.SOLVED.check(found, solved(gram, d))


def test_dependent_directions_are_left_out():
    rng = np.random.default_rng(2)
    v = rng.standard_normal((5, 3))
    v[3], v[1] = v[0] - v[2], 2.0 * v[0]
    g = rng.standard_normal(3)
    c = solved(v @ v.T, v @ g)
    assert c[1] == 0
    tolerances.SOLVED.check(v.T @ c, g)


def test_nan_is_not_left_out():
    gram = np.array([[1.0, 0.0], [np.nan, np.nan]])
    assert np.isnan(solved(gram, np.ones(2))).any()


def adapted(state, slope, square, eta=0.5, rate=0.1, finite=1, steps=1):
    rates, result = np.zeros(1, RATES), np.array([(finite,)], RESULT)
    rates["learning_rate"] = eta
    operation = gauss_newton.bind_adapt(
        gram=np.diag([2.0, 4.0]),
        state=state,
        damping=5.0,
        rate=rate,
        judged=np.array([1.0, slope]),
        square=np.array([[square]]),
        rates=rates,
        result=result,
    )
    program = Program([operation])
    for _ in range(steps):
        program.run()
    return state


def test_the_first_step_sets_the_damping():
    state = adapted(np.zeros(STATE, np.float32), 0.0, 0.0)
    assert state[LAMBDA] == 15
    assert state[RATE] == np.float32(0.5)


@pytest.mark.parametrize(
    ("fraction", "share", "change"),
    # How far the minimum is, in steps: from 1 to 1.5 nothing changes, beyond it λ falls, before it λ rises, by up to r.
    [
        (1.0, 1.0, 1.0),
        (1.5, 1.0, 1.0),
        (1.75, 1.0, 1 / 1.025),
        (9.0, 1.0, 1 / 1.05),
        (0.75, 1.0, 1 / 0.975),
        (-1.0, 0.25, 1 / 0.95),
        (-9.0, 1.0, 1 / 0.9),
        # A rate that has fallen makes steps short: that is no reason for a smaller λ.
        (3.0, 0.25, 1.0),
        (9.0, 0.25, 1 / 1.05),
        # One that has fallen further shows noise.
        (-9.0, 0.125, 1.0),
        (99.0, 0.125, 1.0),
    ],
)
def test_damping_follows_what_the_next_batch_says(fraction, share, change):
    # -s/κ = fraction - 1 with s = -η slope and κ = η² square.
    eta, square = 0.5, 3.0
    state = np.array([7.0, 0.0, 0.0, eta, eta / share], np.float32)
    adapted(state, (fraction - 1) * eta * square, square, eta)
    tolerances.CARRIED.check(state[LAMBDA], 7.0 * change)


def test_a_failed_step_leaves_the_damping_alone():
    before = np.array([7.0, 0.1, 0.2, 0.3, 0.4], np.float32)
    np.testing.assert_array_equal(adapted(before.copy(), 1.0, 1.0, finite=0), before)
    # A judgement that overflowed says nothing; the step itself was finite.
    for slope, square in ((np.nan, 1.0), (1.0, np.inf)):
        np.testing.assert_array_equal(adapted(before.copy(), slope, square, eta=0.3)[:3], before[:3])


def test_without_adaptation_the_damping_stays():
    state = adapted(np.zeros(STATE, np.float32), 1.0, 1.0, rate=0.0, steps=9)
    np.testing.assert_array_equal(state, [15, 0, 0, 0, 0])


def test_matrices_read_no_padding_and_write_no_memory_beyond():
    memory = aligned((3 * 3 + 2,), np.float64)
    memory[...] = -7.0
    z, h = curvature_cases.dual(3, 4, 2), np.ones((4, 2), np.float32)
    Program(
        gauss_newton.bind(
            vector.instruction_set(), 1, z=z, curvature=h, coupled=False, gram=memory[1:10].reshape(3, 3)
        )
    ).run()
    assert memory[0] == memory[10] == -7
    assert np.isfinite(memory).all()
