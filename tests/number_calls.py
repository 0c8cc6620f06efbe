"""Calls of functions that take numbers, and of classes that are no dataclasses."""

import contextlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import fgnumba as fg
from fgnumba import estimators
from fgnumba.bench import reverse
from fgnumba.layers.losses import FunctionLoss
from fgnumba.runs import presets
from fgnumba.training import defaults
from fgnumba.training.replay_log import read
from tests.functions_of_examples import margin
from tests.number_calls_of_sequences import SEQUENCE_CALLS
from tests.number_cases import DATA, LOSS, MODEL, Call, X, Y, after_a_step, fitted, model, state, trainer
from tests.testing.own_estimator import Own
from tests.testing.own_layer import ScaleShift

OUTPUTS = np.array([[0.5, 1.0, -4.0], [2.0, 0.25, 3.0]], np.float32)


def stopping(**given: Any) -> str:
    """Return the settings of early stopping, in a line."""
    return fg.callbacks.EarlyStopping(**given).statement


def finder(**given: Any) -> list[Any]:
    """Return the settings of a learning-rate range test."""
    one = fg.callbacks.LearningRateFinder(**given)
    return [one.lowest, one.highest, one.steps, one.smoothing, one.stop_above]


def found_rate(**given: Any) -> list[Any]:
    """Return the curve of a learning-rate range test."""
    if "steps" in given:
        found = fg.find_learning_rate(trainer(), DATA, **given)
    else:
        found = fg.callbacks.LearningRateFinder(0.125, 0.5, 12)
        found.find(trainer(), DATA, **given)
    return [found.rates, found.losses]


def checkpoints(**given: Any) -> list[Any]:
    """Return the settings of checkpoints."""
    one = fg.Checkpoints("nowhere", **given)
    return [one.every, one._seconds_between, one._keep, one._compact]


def graph(**given: Any) -> list[Any]:
    """Return shapes and parameters of a graph."""
    one = fg.Graph([fg.Node("a", fg.Flatten()), fg.Node("b", fg.Dense(3))], **given)
    return [one.shapes, one.seed, *one.parameters().values()]


def sequential(**given: Any) -> list[Any]:
    """Return shapes and parameters of a sequence."""
    one = fg.Sequential([fg.Flatten(), fg.Dense(3)], **given)
    return [one.shapes, one.seed, *one.parameters().values()]


def failed(check: Any) -> Any:
    """Return a function that calls a check with what it must refuse, and returns the message."""

    def message(**given: Any) -> str:
        try:
            check(**given)
        except AssertionError as error:
            return str(error)
        raise RuntimeError("the check passed")

    return message


def untyped(z: np.float32) -> Any:
    """Return an activation's value and slope, as no kernel may."""
    return float(z), 1.0


@cache
def logged() -> tuple[Any, Any]:
    """Return the log of a run of five steps, and the folder that it is in."""
    folder = tempfile.TemporaryDirectory()
    fitted(steps=5, checkpoints=fg.Checkpoints(folder.name))
    return read(Path(folder.name) / "replay.log"), folder


def replayed(**given: Any) -> list[Any]:
    """Return the steps that are visited when a log is taken again, and the parameters after them."""
    one = trainer()
    return [list(fg.replay.visits(one, logged()[0], **given)), *state(one)]


def replayed_at_once(**given: Any) -> list[np.ndarray]:
    """Return the parameters after a log is taken again."""
    one = trainer()
    fg.replay.replay(one, logged()[0], **given)
    return state(one)


def rates_of(step: Any, learning_rate: Any) -> bytes:
    """Return the record of a step's rates."""
    optimizer = fg.Adam(0.5)
    rates = optimizer.new_rates()
    optimizer.set_rates(rates, step, learning_rate)
    return rates.tobytes()


def batches(**given: Any) -> list[Any]:
    """Return the first batches of a data set."""
    found = DATA.batches(**given)
    return [(x.copy(), y.copy()) for x, y in (next(found) for _ in range(4))]


def cuda(graph: Any) -> list[Any]:
    """Return nothing: there may be no GPU, and a flag that is none is refused before it is looked for."""
    with contextlib.suppress(fg.DeviceError):
        fg.device.cuda(graph=graph)
    return []


def reverse_trained(**given: Any) -> list[Any]:
    """Return the parameters after a step of reverse mode."""
    one = reverse.ReverseTrainer(model(), **given)
    return [one.step(X, Y), *one.model.parameters().values()]


def newton_step(**given: Any) -> list[Any]:
    """Return a loss of physics, and the parameters after a step of Gauss and Newton's."""
    loss = harmonic_loss()
    first = fg.Sequential(loss.model.layers, input_shape=1, seed=3, device="cpu")
    loss.model.load_parameters(first.parameters())
    return [loss.gauss_newton_step(np.linspace(0, 1, 5)[:, None], **given), loss.model.parameters()]


@cache
def harmonic_loss() -> Any:
    """Return the loss of u'' = u; it is compiled once."""
    network = fg.Sequential([fg.Dense(3, "tanh"), fg.Dense(1)], input_shape=1, seed=3, device="cpu")
    return fg.PhysicsLoss(network, harmonic)


@njit
def squares(x: Any) -> Any:
    """Return the sum of the squares."""
    return (x * x).sum()


@njit
def shifted_squares(a: Any, x: Any) -> Any:
    """Return the sum of the squares of x, and a."""
    return (x * x).sum() + a


def harmonic(x: Any, u: Any, du: Any, lap: Any) -> Any:
    """Return the residual of u'' = u."""
    return lap - u


def planned(**given: Any) -> str:
    """Return the table of a plan."""
    return str(model().plan(loss=LOSS, **given))


def reverse_planned(**given: Any) -> list[Any]:
    """Return what a plan of reverse mode needs."""
    plan = reverse.ReversePlan(model(), loss=LOSS, **given)
    return [plan.batch, plan.update, plan.buffer_nbytes, sorted(plan.gradients)]


def of_direction(**given: Any) -> list[Any]:
    """Return a direction times a factor."""
    return list(fg.directions.Gaussian(1).scaled(MODEL, **given).values())


def minimized(**given: Any) -> list[Any]:
    """Return what a descent of Beale's function reached, and when it was recorded."""
    setting = {"steps": 3, "learning_rate": 0.125, "estimator": fg.WeightPerturbation(), **given}
    if "resume" in setting:
        setting["checkpoints"] = fg.Checkpoints(tempfile.mkdtemp())
    found = fg.minimize(fg.functions.beale, [0.0, 0.5], **setting)
    return [found.x, found.value, found.steps, *(record.step for record in found.history.records)]


CALLS: dict[str, Call] = {
    **SEQUENCE_CALLS,
    "minimization.minimize.minimize": Call(
        minimized, {"steps": 7, "learning_rate": 0.25, "seed": 3, "record_every": 2, "resume": True}
    ),
    "training.callbacks.EarlyStopping": Call(
        stopping, {"patience": 100, "min_delta": 0.5, "restore_best": True}
    ),
    "training.learning_rate_finder.LearningRateFinder": Call(
        finder, {"lowest": 0.125, "highest": 0.5, "steps": 12, "smoothing": 0.5, "stop_above": 4.0}
    ),
    "training.learning_rate_finder.LearningRateFinder.rate": Call(
        lambda **given: [fg.callbacks.LearningRateFinder().rate(**given)], {"i": 5}
    ),
    "training.learning_rate_finder.LearningRateFinder.find": Call(found_rate, {"batch_size": 5}),
    "training.learning_rate_finder.find_learning_rate": Call(
        found_rate, {"lowest": 0.125, "highest": 0.5, "steps": 12, "batch_size": 5}
    ),
    "training.checkpoints.Checkpoints": Call(
        checkpoints, {"every": 100, "minutes": 0.5, "keep": 3, "compact": True}
    ),
    "datasets.dataset.Dataset.order": Call(lambda **given: [DATA.order(**given)], {"seed": 3, "epoch": 5}),
    "datasets.dataset.Dataset.first": Call(lambda **given: DATA.first(**given), {"count": 3}),
    "datasets.dataset.Dataset.batches": Call(batches, {"batch_size": 5, "seed": 3, "first": 7}),
    "datasets.split.validation_split": Call(
        lambda **given: [fg.datasets.validation_split(DATA, **given).digest], {"fraction": 0.5, "seed": 3}
    ),
    "device.cuda": Call(cuda, {"graph": True}),
    "model.directions.Direction.scaled": Call(of_direction, {"factor": 0.5}),
    "estimators.base.Estimator.relative_variance": Call(
        reverse.ReverseMode().relative_variance, {"parameters": 100}
    ),
    "estimators.weight.WeightPerturbation.relative_variance": Call(
        fg.WeightPerturbation(directions=3).relative_variance, {"parameters": 100}
    ),
    "estimators.zeroth.Differences.relative_variance": Call(
        fg.HybridDifferences(directions=3).relative_variance, {"parameters": 100}
    ),
    "bench.reverse.estimator.ReverseMode.relative_variance": Call(
        reverse.ReverseMode().relative_variance, {"parameters": 100}
    ),
    "estimators.recipes.Recipe.build": Call(
        lambda **given: estimators.RECIPES["spsa"].build("spsa", None, **given), {"directions": 3}
    ),
    "model.derivatives.forward_gradient": Call(
        lambda **given: fg.forward_gradient(model(), LOSS, X, Y, fg.directions.RankOne(1), **given),
        {"training": True},
    ),
    "functions.calls.gradient": Call(
        lambda **given: [fg.gradient(shifted_squares, **given)(1.0, np.arange(3.0))],
        {"argnum": 1, "chunk": 8},
    ),
    "functions.calls.jacobian": Call(
        lambda **given: [fg.jacobian(shifted_squares, **given)(1.0, np.arange(3.0))],
        {"argnum": 1, "chunk": 8},
    ),
    "functions.calls.hvp": Call(
        lambda **given: [fg.hvp(squares, np.arange(3.0), np.ones(3), **given)], {"chunk": 8}
    ),
    "functions.calls.hessian": Call(
        lambda **given: [fg.hessian(squares, **given)(np.arange(3.0))], {"chunk": 8}
    ),
    "functions.calls.taylor": Call(
        lambda **given: fg.taylor(squares, np.arange(3.0), np.ones(3), **given), {"order": 3}
    ),
    "model.derivatives.laplacian": Call(
        lambda **given: float(fg.laplacian(squares, **given)(np.arange(3.0))), {"chunk": 8}
    ),
    "model.derivatives.jvp": Call(
        lambda **given: fg.jvp(model(), LOSS, X, Y, fg.directions.RankOne(1), **given), {"training": True}
    ),
    "model.graph.Graph": Call(graph, {"input_shape": 100, "seed": 3}),
    "model.graph.Graph.input_shapes": Call(model().input_shapes, {"index": 3}),
    "model.graph.Graph.layer_parameters": Call(
        lambda **given: sorted(MODEL.layer_parameters(**given)), {"index": 1}
    ),
    "model.graph.Graph.parts": Call(lambda **given: list(MODEL.parts(**given)), {"examples": 3}),
    "model.graph.Graph.plan": Call(
        planned, {"batch": 100, "kind": 1, "count": 2, "training": True, "moving_input": False}
    ),
    "model.sequential.Sequential": Call(sequential, {"input_shape": 100, "seed": 3}),
    "model.physics.PhysicsLoss.gauss_newton_step": Call(
        newton_step, {"directions": 3, "seed": 3, "step": 2, "damping": 0.5}
    ),
    "optimizers.base.Optimizer.rate": Call(fg.SGD(0.5, decay=0.25).rate, {"step": 100}),
    "optimizers.frank_wolfe.FrankWolfe.rate": Call(fg.FrankWolfe(2.0, 0.5).rate, {"step": 100}),
    "optimizers.base.Optimizer.set_rates": Call(rates_of, {"step": 100, "learning_rate": 0.5}),
    "training.defaults.default_learning_rate": Call(
        defaults.default_learning_rate, {"parameters": 100, "directions": 100, "momentum": 0.5, "rate": 0.5}
    ),
    "training.defaults.step_limit": Call(defaults.step_limit, {"steps": 100, "epochs": 3, "per_epoch": 5}),
    "runs.presets.layers_from": Call(
        lambda **given: presets.layers_from([{"type": "dense", "units": "classes"}], where="here", **given),
        {"classes": 5},
    ),
    "runs.presets.model_from": Call(
        lambda **given: list(
            presets.model_from([{"type": "dense", "units": "classes"}], where="here", **given)
            .parameters()
            .values()
        ),
        {"classes": 5, "input_shape": (100,), "seed": 3, "saved": True},
    ),
    "training.replay.replay": Call(replayed_at_once, {"step": 3}),
    "training.replay.visits": Call(replayed, {"step": 3, "every": 2}),
    "optimizers.measured_rate.MeasuredRate.share": Call(
        fg.schedules.MeasuredRate(fg.schedules.Exponential(1.0, 0.125)).share, {"step": 100}
    ),
    "optimizers.schedules.Constant.__call__": Call(fg.schedules.Constant(0.5), {"step": 100}),
    "optimizers.schedules.Cosine.__call__": Call(fg.schedules.Cosine(0.5, 120), {"step": 100}),
    "optimizers.schedules.Exponential.__call__": Call(fg.schedules.Exponential(0.5, 0.125), {"step": 100}),
    "optimizers.schedules.Warmup.__call__": Call(
        fg.schedules.Warmup(fg.schedules.Constant(0.5), 120), {"step": 100}
    ),
    "testing.activations.check_activation": Call(
        failed(lambda **given: fg.testing.check_activation(untyped, **given)),
        {"tolerance": 0.5, "derivative_tolerance": 0.5, "zeros": (0.5,), "kinks": (0.5,)},
    ),
    "testing.estimators.check_estimator": Call(
        failed(lambda **given: fg.testing.check_estimator(Own("statement"), **given)),
        {"draws": 100, "bias": 0.5, "rounding": 0.5, "seed": 3},
    ),
    "testing.layers.check_layer": Call(
        failed(lambda **given: fg.testing.check_layer(ScaleShift("shape"), **given)),
        {"input_shape": 100, "tolerance": 0.5, "scale": 0.5, "training": True, "seed": 3},
    ),
    "layers.losses.cross_entropy.SoftmaxCrossEntropy": Call(
        lambda **given: fg.SoftmaxCrossEntropy(**given).value(OUTPUTS, np.array([0, 2])),
        {"label_smoothing": 0.5, "class_weight": (0.5, 2.0, 4.0)},
    ),
    "layers.losses.base.Loss.from_function": Call(
        lambda **given: fg.Loss.from_function(margin, **given).value(OUTPUTS, np.array([0, 2])),
        {"class_weight": (0.5, 2.0, 4.0)},
    ),
    "layers.losses.function.FunctionLoss": Call(
        lambda **given: FunctionLoss(margin, **given).value(OUTPUTS, np.array([0, 2])),
        {"class_weight": (0.5, 2.0, 4.0)},
    ),
    "layers.losses.real_targets.Huber": Call(
        lambda **given: fg.Huber(**given).value(OUTPUTS, np.ones((2, 3))), {"delta": 0.5}
    ),
    "testing.losses.check_loss": Call(
        failed(lambda **given: fg.testing.check_loss(LOSS, reference=lambda z, y: 1e3, **given)),
        {"outputs": (100,), "tolerance": 0.5, "scale": 0.5, "seed": 3},
    ),
    "training.trainer.Trainer": Call(
        lambda **given: after_a_step(trainer(**given)), {"seed": 3, "carry_states": True}
    ),
    "training.steps.Steps.bind": Call(lambda **given: trainer().bind(**given).nbytes, {"batch": 100}),
    "training.steps.Steps.plan": Call(lambda **given: trainer().plan(**given).nbytes, {"batch": 100}),
    "training.steps.Steps.set_step": Call(lambda **given: trainer().set_step(**given), {"step": 100}),
    "training.trainer.Trainer.fit": Call(
        fitted,
        {
            **{"epochs": 2, "steps": 3, "batch_size": 5, "evaluate_every": 2, "validation": 0.5},
            **{"resume": False, "stop_above": 4.0},
        },
    ),
    "bench.reverse.plan.ReversePlan": Call(
        reverse_planned,
        {"batch": 100, "update": True, "training": True, "checkpoint": True, "accumulate": True, "kept": 2},
    ),
    "bench.reverse.training.ReverseTrainer": Call(
        reverse_trained,
        {"learning_rate": 0.125, "decay": 0.5, "seed": 3, "checkpoint": True, "carry_states": True},
    ),
    "bench.reverse.training.ReverseTrainer.plan": Call(
        lambda **given: reverse.ReverseTrainer(model(), 0.125).plan(**given).nbytes, {"batch": 100}
    ),
}
