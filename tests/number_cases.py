"""The table of everything that takes a number, with a way to make each; ``test_numbers.py`` goes through it.

The test fails if a class or function that takes a number, or an argument of one, is missing in the table.
"""

import inspect
import re
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import fgnumba as fg
from fgnumba import estimators, layers
from fgnumba.bench import reverse
from fgnumba.datasets import augmentation
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.model.directions import Direction
from fgnumba.runs import configuration, search

MODULES = (
    *fg._MODULES,
    *("layers", "optimizers", "optimizers.base", "estimators", "estimators.activity", "layers.losses"),
    *("training.defaults", "runs.configuration", "runs.presets", "runs.search", "bench.reverse"),
)

X = np.random.default_rng(0).standard_normal((12, 4, 4, 3)).astype(np.float32)
Y = np.arange(12) % 4
DATA = fg.datasets.Dataset("few", X, Y, X[:4], Y[:4], 4)
MODEL = fg.Sequential([fg.Flatten(), fg.Dense(4)], (4, 4, 3))
LOSS = SoftmaxCrossEntropy()


class Call(NamedTuple):
    """A function, or a class that is no dataclass: what it returns for these arguments, as something to compare."""

    run: Any
    arguments: dict[str, Any]


def model(**more: Any) -> fg.Sequential:
    """Return a small model of dropout, a convolution and a dense layer."""
    parts = [fg.Dropout(0.5), fg.Conv2d(5, 3, activation="tanh"), fg.Flatten(), fg.Dense(4)]
    return fg.Sequential(parts, **{"input_shape": (4, 4, 3), **more})


def trainer(estimator: Any = None, optimizer: Any = None, **more: Any) -> fg.Trainer:
    """Return a trainer of a small model."""
    return fg.Trainer(model(), estimator=estimator, optimizer=optimizer or fg.SGD(0.125), **more)


def state(one: fg.Trainer) -> list[np.ndarray]:
    """Return parameters."""
    return list(one.model.parameters().values())


def after_a_step(one: Any) -> list[Any]:
    """Return what a step returns, and the parameters after it."""
    return [one.step(X, Y), *one.model.parameters().values()]


def fitted(**more: Any) -> list[Any]:
    """Return records, but for their times, and parameters after a training run."""
    one = trainer()
    history = one.fit(DATA, **{"steps": 3, "batch_size": 4, "epochs": None, **more})
    return [[(r.step, r.loss, r.validation_loss, r.test_loss) for r in history.records], *state(one)]


Kinds = dict[Any, dict[str, Any]]

LAYER: Kinds = {
    fg.Conv2d: {
        **{"filters": 6, "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "groups": 3},
        "bias": True,
    },
    fg.Dense: {"units": 7, "bias": True, "deviation": 0.5},
    fg.Dropout: {"rate": 0.5},
    fg.GroupNorm: {"groups": 3, "epsilon": 0.125, "affine": False},
    fg.LayerNorm: {"epsilon": 0.125, "affine": False},
    fg.RMSNorm: {"epsilon": 0.125, "affine": False},
    fg.MaxPool2d: {"pool_size": 2, "stride": 1, "padding": 1},
    fg.AvgPool2d: {"pool_size": 2, "stride": 1, "padding": 1},
}
SEQUENCE: Kinds = {
    fg.ElementwiseLSTM: {"units": 7, "symbols": 5},
    fg.Embedding: {"symbols": 5, "width": 3, "deviation": 0.5},
    fg.GRU: {"units": 7, "symbols": 5},
    fg.LSTM: {"units": 7, "symbols": 5},
    fg.LinearRecurrentUnit: {"units": 7, "complex": True, "symbols": 5, "radius": (0.5, 0.75), "phase": 0.5},
    fg.MinGRU: {"units": 7, "symbols": 5},
}
OF_POSITIONS: Kinds = {
    fg.PositionalEmbedding: {"length": 5},
    fg.RotaryEmbedding: {"base": 100.0, "heads": 2},
    fg.SelfAttention: {
        **{"heads": 4, "key_heads": 2, "size": 6, "causal": True, "bias": True},
        **{"dropout": 0.5, "scale": 0.25, "deviation": 0.5},
    },
    fg.TransformerBlock: {
        "heads": 4,
        "hidden": 7,
        "affine": False,
        "parallel": True,
        "causal": True,
        "key_heads": 2,
        "dropout": 0.5,
        "deviation": 0.5,
    },
}
ESTIMATOR: Kinds = {
    fg.ActivityPerturbation: {"draws": 2, "layerwise": True},
    fg.BlockFeedback: {"relayed": False, "noise": 5, "rate": 0.5},
    fg.RealTimeRecurrentLearning: {"traces": False},
    fg.RelayedFeedback: {"noise": 5, "rate": 0.5, "every": 2, "warmup": 1},
    fg.CoordinateDifferences: {"coordinates": 3, "epsilon": 0.125},
    fg.HybridDifferences: {"directions": 2, "coordinates": 3, "epsilon": 0.125},
    fg.SPSA: {"directions": 2, "epsilon": 0.125},
    fg.SubspaceGaussNewton: {"directions": 3, "damping": 2.0, "adaptation": 0.125},
    fg.WeightPerturbation: {"directions": 3, "control": 0.5, "clip": 2.0},
    reverse.ReverseMode: {"checkpoint": False, "within_blocks": True},
}
RATE = {"learning_rate": 0.125, "decay": 0.25}
OPTIMIZER: Kinds = {
    fg.Adam: {**RATE, "beta1": 0.5, "beta2": 0.75, "epsilon": 0.125, "weight_decay": 0.5, "clip_norm": 2.0},
    fg.AdamW: {**RATE, "beta1": 0.5, "beta2": 0.75, "epsilon": 0.125, "weight_decay": 0.5, "clip_norm": 2.0},
    fg.FrankWolfe: {**RATE, "radius": 2.0, "averaging": 0.5},
    fg.SGD: {**RATE, "momentum": 0.5, "nesterov": True, "weight_decay": 0.5, "clip_norm": 2.0},
}
SCHEDULE: Kinds = {
    fg.schedules.Constant: {"learning_rate": 0.5},
    fg.schedules.Cosine: {"learning_rate": 0.5, "steps": 100, "final": 0.25},
    fg.schedules.Exponential: {"learning_rate": 0.5, "decay": 0.25},
    fg.schedules.Warmup: {"steps": 100},
}
DIRECTION: Kinds = {
    kind: {"seed": 3, "step": 100, "index": 5}
    for kind in (
        Direction,
        *(getattr(fg.directions, n) for n in ("RankOne", "Orthogonal", "Rademacher", "Gaussian")),
    )
}
VALUES: Kinds = {
    **{**LAYER, **SEQUENCE, **OF_POSITIONS, **ESTIMATOR, **OPTIMIZER, **SCHEDULE, **DIRECTION},
    fg.Feedback: {"rate": 0.5, "control": 0.0, "cells": 3, "every": 2, "warmup": 1, "follow": True},
    fg.LocalLosses: {"cells": 3, "groups": 2},
    fg.datasets.Dataset: {"classes": 5},
    fg.datasets.TableDataset: {"classes": 5},
    configuration.RunConfig: {
        **{"widths": (5, 7), "directions": 3, "epochs": 2, "steps": 2, "validation": 0.5, "patience": 3},
        **{"restore_best": True, "batch_size": 100, "learning_rate": 0.5, "decay": 0.5, "momentum": 0.5},
        **{
            "nesterov": True,
            "weight_decay": 0.5,
            "clip_norm": 2.0,
            "radius": 2.0,
            "stop_above": 2.0,
            "seed": 3,
            "context": 5,
            "warmup": 5,
        },
    },
    estimators.Recipe: {
        "learning_rate": 0.5,
        "rates": {"mlp": 0.5},
        "momentum": 0.5,
        "steps": 3,
        "epochs": 2,
        "general": False,
    },
    estimators.Setting: {"batch": 5, "carry": True},
    layers.Perturbation: {"kind": 1, "count": 100, "first": 3},
    layers.Site: {"batch": 100, "images": 3, "index": 2},
    augmentation.RandomCrop: {"padding": 3, "fill": 0.5},
    augmentation.RandomFlip: {"p": 0.5},
    search.Search: {"lowest": 0.25, "highest": 0.5, "count": 4, "falls": (0.5, 2.0), "steps": 100},
    search.Trial: {"learning_rate": 0.5, "fall": 0.5, "steps": 100, "accuracy": 0.5, "loss": 0.5},
}
"""Dataclasses, and a value for every field that is a number or a flag: exact in float16, and below 128."""

OTHERS: Kinds = {
    fg.Activation: {"activation": "relu"},
    fg.schedules.Warmup: {"schedule": fg.schedules.Constant(0.5)},
    fg.datasets.Dataset: {"name": "few", "x_train": X, "y_train": Y, "x_test": X, "y_test": Y},
    fg.datasets.TableDataset: {
        "name": "few",
        "x_train": X,
        "y_train": Y,
        "x_test": X,
        "y_test": Y,
        "rules": None,
    },
    estimators.Recipe: {"make": fg.SPSA},
    # Bytes that a byte can count are too few: tests/bench/test_reverse_checkpoints.py.
    reverse.ReverseMode: {"memory_limit": None, "kept": None},
    estimators.Setting: dict.fromkeys(("loss", "stream", "state")) | {"model": MODEL},
    layers.Perturbation: {"stream": np.zeros(1, STREAM)},
    layers.Site: dict.fromkeys(("device", "inputs", "output", "parameters", "perturbation", "shapes")),
}
"""What else these need."""

EXCLUDED_PAIRS = {configuration.RunConfig: {"epochs": {"steps": None}, "steps": {"epochs": None}}}
"""Where two fields exclude each other: what the other one is."""


RESULTS = "what the library returns: nobody gives it numbers"
PROTOCOL = "called by the library with its own numbers: a model's shapes, a run's counters"
EXEMPT = {
    "optimizers.measured_rate.MeasuredRate": "its shape is a function of numbers",
    "optimizers.measured_rate.MeasuredRate.__call__": "it refuses whatever it is given",
    **dict.fromkeys(
        (
            *(
                "training.records.History",
                "minimization.minimum.Minimum",
                "training.records.Record",
                "training.records.StepResult",
                "errors.Diagnosis",
                "testing.estimators.EstimatorReport",
            ),
            *("errors.DivergenceError", "training.evaluation.Evaluation", "training.defaults.Defaults"),
        ),
        RESULTS,
    ),
    **dict.fromkeys(
        (
            *(f"training.callbacks.Callback.{name}" for name in ("on_start", "on_resume", "on_step")),
            "training.optuna_pruning.OptunaPruning.on_start",
            *(
                f"training.{kind}.{name}"
                for kind in (
                    "callbacks.EarlyStopping",
                    "best_checkpoint.BestCheckpoint",
                    "loggers.base.Logger",
                )
                for name in ("on_start", "on_resume")
            ),
            *(
                f"training.loggers.{kind}.{name}"
                for kind in (
                    "base.Logger",
                    "csv_file.CSVLogger",
                    "mlflow.MLflow",
                    "tensorboard.TensorBoard",
                    "wandb.WeightsAndBiases",
                )
                for name in ("begin", "write", "drop")
                if not (name == "drop" and kind.startswith(("mlflow", "wandb")))
            ),
            *(
                f"training.checkpoints.Checkpoints.{name}"
                for name in ("opened", "begin", "begin_at", "go_back", "log_end", "due", "save")
            ),
            *(
                f"estimators.base.{name}"
                for name in ("Estimate.device_pass", "Estimate.taking_back", "Update.taking_back")
            ),
            *(
                "estimators.base.Estimator.own_parameters",
                "estimators.activity.estimator.ActivityPerturbation.own_parameters",
                "estimators.blocks.estimator.BlockFeedback.own_parameters",
                "estimators.recurrent.estimator.RealTimeRecurrentLearning.own_parameters",
                "estimators.relayed.estimator.RelayedFeedback.own_parameters",
                "estimators.relayed.estimator.RelayedFeedback.learns",
                "estimators.activity.estimator.ActivityPerturbation.quiet",
                "estimators.activity.settings.Feedback.quiet",
                "bench.reverse.estimator.ReverseMode.own_parameters",
            ),
            *(
                "estimators.base.Setting.kept_state",
                "estimators.base.State.array",
                "optimizers.base.Optimizer.updates",
                "optimizers.base.clipping",
                "optimizers.base.norm_of",
            ),
            *(
                "training.steps.Steps.fail",
                "training.steps.Steps.take",
                "training.position.Standing.move_by",
            ),
            "estimators.activity.plan.ActivityPlan",
            *(
                f"layers.losses.{kind}.{name}"
                for kind, names in (
                    ("base.Loss", "bind laid_out target_layout check_targets check_target_values"),
                    ("example_weights.WeighableLoss", "bind"),
                    (
                        "example_weights.ExampleWeights",
                        "bind target_layout check_targets check_target_values",
                    ),
                    ("cross_entropy.SoftmaxCrossEntropy", "target_layout check_targets check_target_values"),
                    ("real_targets.RealTargets", "target_layout check_targets check_target_values"),
                    ("real_targets.BinaryCrossEntropy", "check_target_values"),
                    ("function.FunctionLoss", "target_layout check_targets check_target_values"),
                )
                for name in names.split()
            ),
        ),
        PROTOCOL,
    ),
    # PyTorch may be missing: tests/interchange/test_torch.py.
    "interchange.torch_in.from_torch": "its shape is checked as that of a Graph, by shape_of",
    "layers.function.Function": "a number is one way to give an array: tests/model/test_function_layer.py",
    "runs.presets.written_out": "its number goes into a table, and is checked when a layer is made of it",
    "runs.presets.tables": "its numbers go into a table, and are checked when a layer is made of it",
}
_NUMBER = re.compile(r"\b(int|float|bool)\b")


def numbers_of(function: Any) -> dict[str, str]:
    """Return the parameters that are annotated as numbers or flags, and how."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    found = {}
    for one in parameters:
        annotation = (
            one.annotation if isinstance(one.annotation, str) else inspect.formatannotation(one.annotation)
        )
        if (
            one.annotation is not one.empty
            and "Mapping[str, tuple" not in annotation
            and _NUMBER.search(annotation)
        ):
            found[one.name] = annotation
    return found


def public() -> dict[str, Any]:
    """Return every public class, function and method that takes a number, by where it is defined."""
    found: dict[str, Any] = {}
    homes = [fg, *(import_module(f"fgnumba.{name}") for name in MODULES)]
    for module in homes:
        names = getattr(module, "__all__", None) or [
            name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__
        ]
        for value in (getattr(module, name) for name in names if not name.startswith("_")):
            if inspect.isclass(value) and value.__module__.startswith("fgnumba"):
                found[_name(value)] = value
                for name, method in inspect.getmembers(value, inspect.isfunction):
                    if name == "__call__" or not name.startswith("_"):
                        found[_name(method)] = method
            elif inspect.isfunction(value):
                found[_name(value)] = value
    return {name: value for name, value in found.items() if numbers_of(value) and not _of_a_layer(name)}


def _of_a_layer(name: str) -> bool:
    """Whether it is a method of a layer: a model calls those, with its own shapes."""
    return name.startswith("layers.") and not name.startswith("layers.losses.") and name.count(".") == 3


def _name(value: Any) -> str:
    return f"{value.__module__.removeprefix('fgnumba.')}.{value.__qualname__}"


NAMES = {_name(kind): kind for kind in VALUES}
"""The dataclasses by name."""
