"""Second derivatives of losses in outputs, Gauss-Newton matrices, their solution and damping on a GPU."""

import numpy as np
import pytest

from fgnumba.kernels.ops.gauss_newton import STATE
from fgnumba.kernels.ops.gauss_newton import cuda as gauss_newton
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.ops.output_curvature import cuda as output_curvature
from fgnumba.kernels.shared.loss import RESULT
from tests import curvature_cases, tolerances

SHAPES = [(1, 1, 1), (3, 7, 5), (18, 3, 9), (2, 33, 3)]
KINDS = {"softmax": "softmax", "class weights": "softmax", "squared": "squared", "huber": "huber"}


def curvature(gpu, name, z, width, targets, weighted):
    constants = {"class weights": np.array([0.0, *np.arange(1, width + 1) / 4]), "huber": np.array([0.7])}
    found = gpu.array(np.full((z.shape[1], width), np.nan, np.float32))
    gpu.run(
        output_curvature.bind(
            1,
            loss=KINDS.get(name, name),
            z=gpu.array(z[0]),
            targets=gpu.array(targets),
            curvature=found,
            constants=gpu.array(constants[name]) if name in constants else None,
            weighted=weighted,
        )
    )
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["softmax", "class weights", "squared", "huber", "binary"])
def test_matrices(gpu, name, weighted):
    for count, width, batch in SHAPES:
        loss, targets, y, weights = curvature_cases.problem(name, width, batch, weighted)
        z = curvature_cases.dual(count, batch, width)
        h = curvature(gpu, name, z, width, targets, weighted)
        gram = gpu.zeros((count, count), np.float64)
        gpu.run(*gauss_newton.bind(None, 1, z=gpu.array(z), curvature=h, coupled=loss.coupled, gram=gram))
        expected = curvature_cases.gauss_newton(name, z, width, y, weights)
        errors = curvature_cases.relative_to_diagonal(gram.download(), expected)
        assert abs(errors).max() < tolerances.GAUSS_NEWTON, (count, width, batch)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_solutions(gpu, n):
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, 2 * n))
    gram, d = a @ a.T, rng.standard_normal(n)
    out = gpu.zeros((1 + n,), np.float64)
    operation = gauss_newton.bind_solve(
        values=gpu.array(np.array([0.5, *d])),
        gram=gpu.array(np.tril(gram)),
        state=gpu.zeros((STATE,), np.float32),
        damping=2.0,
        out=out,
    )
    gpu.run(operation)
    expected = np.linalg.solve(gram + 2.0 * np.trace(gram) / n * np.eye(n), d)
    assert out.download()[0] == 0.5
    tolerances.SOLVED.check(out.download()[1:] / n, expected)


@pytest.mark.parametrize("finite", [1, 0])
def test_damping(gpu, finite):
    rates, result = np.zeros(1, RATES), np.array([(finite,)], RESULT)
    rates["learning_rate"] = 0.25
    before = np.array([7.0, 0.0, 0.0, 0.5, 0.75], np.float32)
    state = gpu.array(before)
    operation = gauss_newton.bind_adapt(
        gram=gpu.array(np.eye(2)),
        state=state,
        damping=5.0,
        rate=0.1,
        judged=gpu.array(np.array([1.0, -3.0])),
        square=gpu.array(np.array([[6.0]])),
        rates=gpu.array(rates),
        result=gpu.array(result),
    )
    gpu.run(operation)
    # s = 1.5 and κ = 1.5, of which a fiftieth enters the means: -s/κ is -1, at two thirds of the highest rate.
    expected = [7.0 / (1 - 0.1 * 2 / 3), 0.03, 0.03, 0.25, 0.75] if finite else before
    tolerances.CARRIED.check(state.download(), expected)
