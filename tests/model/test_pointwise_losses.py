"""Binary cross-entropy and Huber's loss against float64: sizes, extremes, impossible targets, targets of one output."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.binary_cross_entropy import cpu as binary_cross_entropy
from fgnumba.kernels.ops.huber import cpu as huber
from fgnumba.kernels.shared.loss import RESULT
from tests import loss_cases, tolerances
from tests.tolerances_losses import CERTAIN

DELTA = 1.25
SHAPES = [(1, 1), (5, 1000), (100, 101)]


def dual(batch, width, count, scale=1.0):
    """Return a dual buffer whose padding is NaN: nobody may read it."""
    rng = np.random.default_rng(0)
    z = aligned((1 + count, batch, width + 5))
    z[...] = np.nan
    z[:, :, :width] = rng.standard_normal((1 + count, batch, width))
    z[0] *= scale
    return z


def run(operation, z, width, y, threads=1, **more):
    result, values = np.zeros(1, RESULT), np.zeros(len(z))
    Program(operation.bind(threads, z=z, width=width, targets=y, result=result, values=values, **more)).run()
    return values, bool(result["finite"][0])


def residual_of(operation, z, y, **more):
    e = aligned(z.shape)
    Program([operation.bind_residual(1, z=np.ascontiguousarray(z), targets=y, residual=e, **more)], 1).run()
    return e


def labels(batch, width, kind):
    rng = np.random.default_rng(1)
    drawn = rng.random((batch, width)) if kind == "soft" else rng.integers(0, 2, (batch, width))
    return drawn.astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_binary_cross_entropy(batch, width, kind, count):
    z, y = dual(batch, width, count, 3.0), labels(batch, width, kind)
    values, finite = run(binary_cross_entropy, z, width, y)
    loss, derivatives, residual = loss_cases.binary(z[0, :, :width], z[1:, :, :width], y)
    assert finite
    tolerances.LOSS.check(values, [loss, *derivatives])
    tolerances.RESIDUAL.check(residual_of(binary_cross_entropy, z[0, :, :width], y), residual)


@pytest.mark.parametrize("logit", [0.0, 1e-30, 1.0, 15.0, 80.0, 1e4, 3e38])
def test_labels_that_are_certain_keep_relative_accuracy(logit):
    z = np.array([[[logit, -logit]], [[1.0, 2.0]]], np.float32)
    for label in ([[1, 0]], [[0, 1]]):
        y = np.array(label, np.float32)
        values, finite = run(binary_cross_entropy, z, 2, y)
        loss, derivatives, residual = loss_cases.binary(z[0], z[1:], y)
        assert finite
        # Nothing cancels. Below the least normal float32, a rounding counts as zero.
        CERTAIN.check(values, [loss, *derivatives])
        CERTAIN.check(residual_of(binary_cross_entropy, z[0], y), residual)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
def test_what_is_not_finite_is_reported(bad, block, label):
    z = dual(4, 10, 1)
    z[block, 2, 5] = bad
    y = np.full((4, 10), label, np.float32)
    assert not run(binary_cross_entropy, z, 10, y)[1]
    assert not run(huber, z, 10, y, constants=np.array([DELTA]))[1]


@pytest.mark.parametrize("label", [-1e-6, 1.0000001, np.nan, np.inf])
def test_labels_out_of_range_are_never_finite(label):
    z, y = dual(4, 10, 1), labels(4, 10, "hard")
    y[1, 3] = label
    values, finite = run(binary_cross_entropy, z, 10, y)
    assert not finite
    assert np.isnan(values).all()
    e = residual_of(binary_cross_entropy, z[0, :, :10], y)
    assert np.isnan(e[1, 3])
    assert np.isfinite(np.delete(e.reshape(-1), 13)).all()
    with pytest.raises(fg.DatasetError, match=r"targets\[1, 3\] is .*; a number from 0 to 1 is required"):
        fg.BinaryCrossEntropy().check_target_values(y, 10)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_huber(batch, width, count):
    z = dual(batch, width, count, 2.0)
    y = np.random.default_rng(1).standard_normal((batch, width)).astype(np.float32)
    values, finite = run(huber, z, width, y, constants=np.array([DELTA]))
    loss, derivatives, residual = loss_cases.huber(z[0, :, :width], z[1:, :, :width], y, DELTA)
    assert finite
    tolerances.SAME_LOSS.check(values[0], loss)
    tolerances.LOSS.check(values[1:], derivatives)
    found = residual_of(huber, z[0, :, :width], y, constants=np.array([DELTA]))
    tolerances.CARRIED.check(found, residual.astype(np.float32))


@pytest.mark.parametrize("delta", [1e-30, 1e-3, 1.0, 1e19, 1e300])
@pytest.mark.parametrize("size", [1e-15, 1.0, 1e19, 1e37])
def test_huber_of_any_size(size, delta):
    z = dual(3, 35, 2, size)
    y = (size * np.random.default_rng(1).standard_normal((3, 35))).astype(np.float32)
    values, finite = run(huber, z, 35, y, constants=np.array([delta]))
    with np.errstate(over="ignore"):
        loss, derivatives, residual = loss_cases.huber(z[0, :, :35], z[1:, :, :35], y, delta)
    tolerances.SAME_LOSS.check(values[0], loss)
    terms = np.minimum(size, delta)
    tolerances.Within(absolute=tolerances.LOSS.absolute * terms).check(values[1:], derivatives)
    assert finite == (loss <= loss_cases.MOST)
    found = residual_of(huber, z[0, :, :35], y, constants=np.array([delta]))
    CERTAIN.check(found, residual.astype(np.float32))


def test_huber_at_its_joint_and_its_target():
    z = np.array([[DELTA, -DELTA, 0.0]], np.float32)
    e = residual_of(huber, z, np.zeros((1, 3), np.float32), constants=np.array([DELTA]))
    np.testing.assert_array_equal(e, np.array([[DELTA, -DELTA, 0]], np.float32) / np.float32(3))
    assert fg.Huber(DELTA).value(z, np.zeros((1, 3))) == DELTA * DELTA / 3


@pytest.mark.parametrize("operation", [binary_cross_entropy, huber])
def test_losses_do_not_depend_on_threads(operation):
    z, y = dual(101, 700, 2), labels(101, 700, "soft")
    more = {"constants": np.array([DELTA])} if operation is huber else {}
    one, _ = run(operation, z, 700, y, threads=1, **more)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(operation, z, 700, y, threads=threads, **more)[0], one)


@pytest.mark.parametrize("loss", [fg.BinaryCrossEntropy(), fg.Huber(), fg.MeanSquaredError()])
def test_targets_of_one_output_may_be_a_vector(loss):
    def model():
        return fg.Sequential([fg.Dense(3, "tanh"), fg.Dense(1)], 4, seed=1)

    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    y = np.array([0, 1, 1, 0, 1, 0])
    z = model()(x)
    assert loss.value(z, y) == loss.value(z, y[:, None].astype(np.float32))
    v = fg.directions.RankOne(seed=1)
    assert fg.jvp(model(), loss, x, y, v) == fg.jvp(model(), loss, x, y[:, None], v)
    for estimator in (fg.WeightPerturbation(), fg.ActivityPerturbation()):
        found = []
        for targets in (y, y.astype(bool), y[:, None].astype(np.float64)):
            trainer = fg.Trainer(model(), loss=loss, estimator=estimator, optimizer=fg.SGD(0.1))
            losses = [trainer.step(x, targets).loss for _ in range(3)]
            found.append([*losses, *np.concatenate([p.ravel() for p in trainer.model.parameters().values()])])
        assert found[0] == found[1] == found[2]
    with pytest.raises(fg.ShapeError, match=r"targets have shape \(6,\); \(6, 2\) is required"):
        loss.check_targets(y, 6, 2)


def test_a_diverged_step_with_targets_in_a_vector_is_diagnosed():
    model = fg.Sequential([fg.Dense(1, bias=False)], 1)
    model.load_parameters({"0.weight": np.ones((1, 1))})
    x = np.array([[1.0], [1e25]], np.float32)
    with pytest.raises(fg.DivergenceError, match="MeanSquaredError is inf of finite outputs of example 1"):
        fg.Trainer(model, optimizer=fg.SGD(1e-3), loss="mse").step(x, np.zeros(2))


@pytest.mark.parametrize("delta", [0, -1.0, np.inf, np.nan, "1", None, True])
def test_a_delta_that_is_no_number_above_zero_is_refused(delta):
    with pytest.raises(fg.ConfigError, match=r"^delta is .*; a finite number above 0 is required$"):
        fg.Huber(delta)
    loss = fg.Huber()
    loss.delta = delta
    model = fg.Sequential([fg.Dense(1)], 2)
    with pytest.raises(fg.ConfigError, match="delta is"):
        fg.jvp(model, loss, np.ones((1, 2)), np.ones(1), fg.directions.RankOne(seed=1))


def test_a_large_delta_is_half_the_squared_error():
    z, y = dual(7, 5, 3), np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    values, _ = run(huber, z, 5, y, constants=np.array([1e6]))
    loss, derivatives, _ = loss_cases.squared(z[0, :, :5], z[1:, :, :5], y)
    tolerances.SAME_LOSS.check(values, np.array([loss, *derivatives]) / 2)


@pytest.mark.parametrize(
    ("loss", "torch_name"), [(fg.BinaryCrossEntropy(), "BCEWithLogitsLoss"), (fg.Huber(0.7), "HuberLoss")]
)
def test_values_are_pytorchs(loss, torch_name):
    torch = pytest.importorskip("torch")
    z, y = dual(11, 6, 0, 4.0)[0, :, :6], labels(11, 6, "soft")
    theirs = torch.nn.HuberLoss(delta=0.7) if torch_name == "HuberLoss" else torch.nn.BCEWithLogitsLoss()
    expected = theirs(torch.tensor(z, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)).item()
    tolerances.SAME_LOSS.check(loss.value(z, y), expected)
