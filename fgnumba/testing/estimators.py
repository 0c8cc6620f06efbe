"""The check of an estimator, by statistics of its estimates."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DivergenceError
from fgnumba.estimators import Estimator
from fgnumba.kernels.rules.philox import MAX_SEED
from fgnumba.layers import Dense
from fgnumba.layers.losses import Loss, SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import jvp
from fgnumba.model.sequential import Sequential
from fgnumba.objects.fingerprint import fingerprint
from fgnumba.optimizers import SGD
from fgnumba.testing.arguments import instance, numbers
from fgnumba.testing.comparison import compare, largest, require, same_bits
from fgnumba.training.trainer import Trainer
from fgnumba.validation import as_float, optional, real_number, whole_number

Array = npt.NDArray[Any]

CONFIDENCE = 1 - 1e-6
"""A right estimator fails the check by chance once in a million seeds, were its means exactly normal."""
WARM_UP = 20
"""Steps before the first estimate: what an estimator learns from step to step is there then."""
STANDING = 1e-9
"""Learning rate at which parameters hardly move."""
ROUNDING = 1e-6
"""What the mean of estimates is wrong by, of entries up to 1: sixteen roundings of float32."""
HUGE = 3e38
"""Size of parameters whose products are beyond float32."""


@dataclass(frozen=True)
class EstimatorReport:
    """What :func:`check_estimator` measured.

    Parameters
    ----------
    gradient : ndarray
        The gradient, (P,) float64: the parameters' arrays one after another.
    mean : ndarray
        Mean of the estimates, (P,).
    standard_error : ndarray
        Standard error of the mean, (P,).
    relative_bias : float
        ‖mean - gradient‖ / ‖gradient‖. It holds the noise of the mean as well.
    relative_variance : float
        Mean of ‖g - gradient‖² / ‖gradient‖² over the estimates g.
    biased_entries : int
        Entries of the mean that differ from the gradient by more than chance and rounding explain.
    """

    gradient: Array
    mean: Array
    standard_error: Array
    relative_bias: float
    relative_variance: float
    biased_entries: int


def check_estimator(
    estimator: Estimator,
    model: Graph | None = None,
    loss: Loss | None = None,
    x: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    *,
    gradient: Mapping[str, npt.ArrayLike] | None = None,
    draws: int = 600,
    bias: float | None = None,
    rounding: float = ROUNDING,
    seed: int = 0,
) -> EstimatorReport:
    """Hold an estimator to what it says of itself, and to what a trainer relies on.

    The estimator is held to the following.

    - Where it says that it is unbiased, every entry of the mean of `draws` estimates agrees with the gradient, to the
      mean's own noise. A correct estimator passes this for all entries together with a probability of at least 1 - 10⁻⁶
      (Bonferroni's inequality, normal quantiles). The mean's component along the gradient must be 1 in the same way,
      which tells a wrong factor from noise.
    - Where it states its variance, so does the mean squared error of the estimates.
    - ``Trainer.estimate`` leaves parameters as they are, and returns the same for the same step, bit for bit.
    - A step of SGD, with momentum and without, moves the parameters by the learning rate times what
      ``Trainer.estimate`` returned before it, and reports the model's loss.
    - All that it keeps from step to step is in the trainer's state: steps leave the estimator itself as it is, and a
      copy of a trainer, with the estimator as it was before any step, takes the same steps, bit for bit.
    - A step whose loss is not finite raises ``DivergenceError`` and leaves the parameters as they are.

    All of this is done with copies of the model, at the model's parameters; the model itself is left as it is.

    Parameters
    ----------
    estimator : Estimator
        Estimator to check.
    model : Graph, optional
        Model whose gradient is estimated. By default a perceptron of three layers of 32 units, 3,168 parameters.
    loss : Loss, optional
        Loss that is differentiated, by default softmax cross-entropy.
    x, y : array_like, optional
        Examples and targets; needed where a model is given.
    gradient : mapping of str to array_like, optional
        The exact gradient by the parameters' names. By default :func:`gradient_by_coordinates` computes it, with one
        pass a parameter.
    draws : int
        Number of estimates. Twice the noise takes four times as many for the same power.
    bias : float, optional
        What the mean may be off by, as a share of the gradient's largest entry. None: nothing where the estimator says
        that it is unbiased, and anything where it does not.
    rounding : float
        Error of the mean that is allowed beside that and beside its noise, for what float32 rounds.
    seed : int
        Seed of the directions.

    Returns
    -------
    EstimatorReport
        What was measured. Of an estimator that says it is biased, it tells by how much.

    Raises
    ------
    AssertionError
        The estimator breaks one of the rules; the message says which, where, and by how much. Or there is nothing to
        compare with: the gradient or an estimate is zero throughout, or not finite, or the loss is not.
    ConfigError
        An argument is not of its kind, or a number is not possible.

    Examples
    --------
    >>> import fgnumba as fg
    >>> report = fg.testing.check_estimator(fg.WeightPerturbation("rank1"), draws=100)
    >>> report.biased_entries
    0
    """
    instance("estimator", estimator, Estimator)
    optional(instance, "model", model, Graph)
    optional(instance, "loss", loss, Loss)
    draws, seed = whole_number("draws", draws, 2), whole_number("seed", seed, 0, MAX_SEED)
    bias, rounding = optional(real_number, "bias", bias), real_number("rounding", rounding)
    if model is None:
        model, x, y = _problem(seed)
    require(x is not None and y is not None, "check_estimator: a model needs examples x and targets y")
    check = _EstimatorCheck(
        estimator, model, loss or SoftmaxCrossEntropy(), np.asarray(x), np.asarray(y), seed
    )
    shapes = {name: values.shape for name, values in model.parameters().items()}
    exact = optional(numbers, "gradient", gradient, shapes)
    check.words()
    try:
        check.steps()
        check.copies()
        check.divergence()
        return check.statistics(exact, draws, bias, rounding)
    except DivergenceError as error:
        raise AssertionError(f"{check.kind}: a step at the model's parameters diverged: {error}") from error


def gradient_by_coordinates(
    model: Graph, loss: Loss, x: npt.ArrayLike, y: npt.ArrayLike
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the gradient of a model's loss, one directional derivative for each parameter.

    Parameters
    ----------
    model : Graph
        Model of P parameters.
    loss : Loss
        Loss that is differentiated.
    x, y : array_like
        Examples (B, ...) and their targets.

    Returns
    -------
    dict of str to ndarray
        The gradient, arrays shaped like ``model.parameters()``, from P passes: exact to float32's roundings.
    """
    zeros = {name: np.zeros(values.shape, np.float32) for name, values in model.parameters().items()}
    gradient = {name: np.zeros(values.shape) for name, values in zeros.items()}
    for name, one in zeros.items():
        for index in np.ndindex(one.shape):
            one[index] = 1
            gradient[name][index] = jvp(model, loss, x, y, zeros)[1]
            one[index] = 0
    return gradient


def _problem(seed: int) -> tuple[Graph, Array, Array]:
    # Sizes of whole families of orthogonal directions, whose theory holds to the letter there.
    layers = [Dense(32, activation="relu"), Dense(32, activation="tanh"), Dense(32)]
    rng = np.random.default_rng((seed, 1))
    model = Sequential(layers, 32, seed=4, device="cpu")
    return model, rng.standard_normal((12, 32), np.float32), rng.integers(0, 32, 12)


def _flat(arrays: Mapping[str, npt.ArrayLike]) -> Array:
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays.values()])


class _EstimatorCheck:
    def __init__(self, estimator: Estimator, model: Graph, loss: Loss, x: Array, y: Array, seed: int) -> None:
        self.estimator, self.model, self.loss = estimator, copy.deepcopy(model), loss
        self.unused, self.held = copy.deepcopy(estimator), fingerprint(estimator)
        self.x, self.y, self.seed = x, y, seed
        self.kind = type(estimator).__name__

    def unchanged(self) -> None:
        # What cannot be copied may have another fingerprint each time: the trainer's copy tells then.
        held = fingerprint(self.estimator)
        require(
            held == self.held or held != fingerprint(self.estimator),
            f"{self.kind}: steps changed the estimator itself; what it keeps from step to step is expected in the "
            "trainer's state",
        )

    def trainer(self, model: Graph | None = None, optimizer: SGD | None = None) -> Trainer:
        return Trainer(
            self.model if model is None else model,
            loss=self.loss,
            estimator=self.estimator,
            optimizer=optimizer or SGD(STANDING),
            seed=self.seed,
        )

    def value(self, model: Graph) -> float:
        """Return the model's loss; each position of a sequence has outputs and a target of its own."""
        rows = len(self.x) * model.positions
        targets = self.y.reshape(rows, *self.y.shape[2:]) if model.positions > 1 else self.y
        return float(self.loss.value(model(self.x).reshape(rows, -1), targets))

    def words(self) -> None:
        statement, unbiased = self.estimator.statement, self.estimator.unbiased
        require(
            isinstance(statement, str) and bool(statement.strip()) and "\n" not in statement,
            f"{self.kind}: statement is {statement!r}; one line that says what E[g] is, is expected",
        )
        require(
            isinstance(unbiased, bool), f"{self.kind}: unbiased is {unbiased!r}; True or False is expected"
        )
        name = getattr(self.estimator, "name", None)
        require(isinstance(name, str) and bool(name), f"{self.kind}: name is {name!r}; a name is expected")

    def steps(self) -> None:
        """Compare a step with the estimate before it."""
        for momentum in (0.0, 0.9):
            model = copy.deepcopy(self.model)
            trainer = self.trainer(model)
            for _ in range(3):
                trainer.step(self.x, self.y)
            before = model.parameters()
            estimate = trainer.estimate(self.x, self.y)
            where = f"{self.kind}, SGD with a momentum of {momentum}"
            require(
                {name: g.shape for name, g in estimate.items()} == {n: p.shape for n, p in before.items()},
                f"{where}: the estimate's names or shapes are not the parameters'",
            )
            for name, values in model.parameters().items():
                same_bits(f"{where}: {name!r} after an estimate", values, before[name])
            for name, again in trainer.estimate(self.x, self.y).items():
                same_bits(f"{where}: estimate of {name!r}, asked for again,", again, estimate[name])
            size = max(largest(g) for g in estimate.values())
            require(
                size > 0,
                f"{where}: the estimate is zero for every parameter; no step can be compared with it",
            )
            # A power of two: what a step multiplies by it is rounded as the estimate was, in any precision.
            rate = 2.0 ** math.floor(math.log2(0.01 / size))
            other = self.trainer(copy.deepcopy(model), SGD(rate, momentum=momentum))
            other.steps_done = trainer.steps_done
            other.plan(len(self.x))
            for name, array in trainer.state.arrays.items():
                if name in other.state.arrays:
                    other.model.processor.copy(other.state.arrays[name], array)
            for name, parameter in trainer.state.parameters.items():
                other.model.processor.copy(other.state.parameters[name].packed, parameter.packed)
            result = other.step(self.x, self.y)
            value = self.value(model)
            compare(f"{where}: the loss of a step", result.loss, value, 1e-3 * (1 + abs(value)))
            for name, after in other.model.parameters().items():
                moved = after.astype(np.float64) - before[name]
                expected = -rate * estimate[name].astype(np.float64)
                allowed = 1e-5 + 2 * np.spacing(np.abs(before[name]))
                compare(f"{where}: what a step moves {name!r} by", moved, expected, allowed)
        self.unchanged()

    def copies(self) -> None:
        """Let a trainer and its copy, which has the estimator as it was before any step, take the same steps."""
        trainer = self.trainer(copy.deepcopy(self.model), SGD(1e-4))
        for _ in range(5):
            trainer.step(self.x, self.y)
        # The copy holds this in the estimator's place.
        other = copy.deepcopy(trainer, {id(trainer.estimator): copy.deepcopy(self.unused)})
        for batch in (len(self.x), max(1, len(self.x) // 2), len(self.x)):
            for one in (trainer, other):
                one.step(self.x[:batch], self.y[:batch])
        for name, values in other.model.parameters().items():
            same_bits(
                f"{self.kind}: after three more steps of a trainer's copy, {name!r}",
                values,
                trainer.model.parameters()[name],
            )
        self.unchanged()

    def divergence(self) -> None:
        model = copy.deepcopy(self.model)
        rng = np.random.default_rng(self.seed)
        huge = {
            name: (rng.choice([-1.0, 1.0], values.shape) * HUGE).astype(np.float32)
            for name, values in model.parameters().items()
        }
        model.load_parameters(huge)
        try:
            result = self.trainer(model).step(self.x, self.y)
        except DivergenceError:
            for name, values in model.parameters().items():
                compare(
                    f"{self.kind}: {name!r} after a step that diverged",
                    values,
                    huge[name],
                    1e-6 * np.abs(huge[name]),
                )
            return
        require(
            bool(np.isfinite(result.loss)),
            f"{self.kind}: a step whose loss is {result.loss} was taken; a DivergenceError is expected",
        )

    def statistics(
        self, given: Mapping[str, npt.ArrayLike] | None, draws: int, bias: float | None, rounding: float
    ) -> EstimatorReport:
        trainer, parameters = self.trainer(), self.model.parameters()
        for _ in range(WARM_UP):
            trainer.step(self.x, self.y)
        # The steps are small, but the estimates are meant to be those at the parameters that were given.
        self.model.load_parameters(parameters)
        names = list(parameters)
        exact = gradient_by_coordinates(self.model, self.loss, self.x, self.y) if given is None else given
        gradient = _flat({name: exact[name] for name in names})
        require(
            bool(np.isfinite(gradient).all()) and bool(gradient.any()),
            f"{self.kind}: the gradient is zero or not finite; estimates cannot be compared with it",
        )
        found = np.empty((draws, gradient.size))
        for draw in range(draws):
            trainer.steps_done = WARM_UP + draw
            estimate = trainer.estimate(self.x, self.y)
            found[draw] = _flat({name: estimate[name] for name in names})
        require(bool(np.isfinite(found).all()), f"{self.kind}: an estimate is not finite")
        mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(draws)
        allowed = _quantile(gradient.size) * error + rounding
        squared = np.sum((found - gradient) ** 2, axis=1) / (gradient @ gradient)
        report = EstimatorReport(
            gradient=gradient,
            mean=mean,
            standard_error=error,
            relative_bias=float(np.linalg.norm(mean - gradient) / np.linalg.norm(gradient)),
            relative_variance=float(squared.mean()),
            biased_entries=int(np.count_nonzero(np.abs(mean - gradient) > allowed)),
        )
        if self.estimator.unbiased or bias is not None:
            off = (bias or 0.0) * largest(gradient)
            self._compare_by_name(mean, gradient, allowed + off)
            shares = found @ gradient / (gradient @ gradient)
            noise = _quantile(1) * float(shares.std(ddof=1)) / np.sqrt(draws)
            compare(
                f"{self.kind}: mean of g·∇f / ‖∇f‖² of {draws} estimates",
                shares.mean(),
                1.0,
                noise + (off + rounding) * np.abs(gradient).sum() / (gradient @ gradient),
            )
        theory = self.estimator.relative_variance(self.model.parameter_count)
        if theory is not None:
            require(
                as_float(theory) is not None,
                f"{self.kind}: relative_variance returned {theory!r}; a number or None is expected",
            )
            noise = _quantile(1) * float(squared.std(ddof=1)) / np.sqrt(draws)
            compare(
                f"{self.kind}: E‖g - ∇f‖² / ‖∇f‖² of {draws} estimates",
                report.relative_variance,
                theory,
                noise + max(1e-4, bias or 0.0) * theory,
            )
        return report

    def _compare_by_name(self, mean: Array, gradient: Array, allowed: Array) -> None:
        first = 0
        for name, values in self.model.parameters().items():
            part = slice(first, first + values.size)
            first += values.size
            compare(
                f"{self.kind}: mean of the estimates of ∂f/∂{name!r}",
                mean[part].reshape(values.shape),
                gradient[part].reshape(values.shape),
                allowed[part].reshape(values.shape),
            )


def _quantile(tests: int) -> float:
    """Return how many standard errors bound each of so many statistics, all of them with `CONFIDENCE`."""
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * tests))
