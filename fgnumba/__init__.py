"""fgnumba: train neural networks with forward gradients, on fused Numba kernels, without a reverse pass.

Each name is imported when it is first used, so ``import fgnumba`` alone loads neither NumPy nor Numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgnumba import (
        callbacks,
        datasets,
        device,
        directions,
        errors,
        functions,
        layers,
        losses,
        replay,
        schedules,
        testing,
    )
    from fgnumba.errors import (
        CodeError,
        ConfigError,
        DatasetError,
        DeviceError,
        Diagnosis,
        DifferentiationError,
        DivergenceError,
        DtypeError,
        FgError,
        RunError,
        ShapeError,
    )
    from fgnumba.estimators.activity import Feedback, LocalLosses
    from fgnumba.estimators.activity.estimator import ActivityPerturbation
    from fgnumba.estimators.blocks.estimator import BlockFeedback
    from fgnumba.estimators.recurrent.estimator import RealTimeRecurrentLearning
    from fgnumba.estimators.relayed.estimator import RelayedFeedback
    from fgnumba.estimators.subspace import SubspaceGaussNewton
    from fgnumba.estimators.weight import WeightPerturbation
    from fgnumba.estimators.zeroth import SPSA, CoordinateDifferences, HybridDifferences
    from fgnumba.functions.calls import derivative, gradient, hessian, hvp, jacobian, taylor
    from fgnumba.functions.differentiable import differentiable
    from fgnumba.interchange.onnx_in import from_onnx
    from fgnumba.interchange.onnx_out import to_onnx
    from fgnumba.interchange.torch_in import from_torch
    from fgnumba.interchange.torch_out import to_torch
    from fgnumba.layers import (
        GRU,
        LSTM,
        Activation,
        Add,
        AvgPool2d,
        Concatenate,
        Conv2d,
        Dense,
        Dropout,
        ElementwiseLSTM,
        Embedding,
        Flatten,
        GlobalAveragePool2d,
        GroupNorm,
        LayerNorm,
        LinearRecurrentUnit,
        MaxPool2d,
        MinGRU,
        PositionalEmbedding,
        RMSNorm,
        RotaryEmbedding,
        SelfAttention,
        TransformerBlock,
    )
    from fgnumba.layers.losses import (
        BinaryCrossEntropy,
        Huber,
        Loss,
        MeanSquaredError,
        SoftmaxCrossEntropy,
    )
    from fgnumba.layers.own_activation import activation
    from fgnumba.minimization.minimize import minimize
    from fgnumba.minimization.minimum import Minimum
    from fgnumba.model.derivatives import forward_gradient, jvp, laplacian
    from fgnumba.model.graph import Graph
    from fgnumba.model.nodes import Node
    from fgnumba.model.physics import PhysicsLoss
    from fgnumba.model.sequential import Sequential
    from fgnumba.operations.attention import attention, attention_jvp
    from fgnumba.optimizers import SGD, Adam, AdamW, FrankWolfe
    from fgnumba.runs.loading import load
    from fgnumba.training.callbacks import Callback
    from fgnumba.training.checkpoints import Checkpoints
    from fgnumba.training.evaluation import Evaluation, evaluate
    from fgnumba.training.learning_rate_finder import find_learning_rate
    from fgnumba.training.online import OnlineLearner
    from fgnumba.training.records import History, Record, StepResult
    from fgnumba.training.trainer import Trainer

__version__ = "0.1.0"

_MODULES = (
    *("callbacks", "datasets", "device", "directions", "errors", "functions"),
    *("layers", "losses", "replay", "schedules", "testing"),
)
_NAMES = {
    "training.callbacks": ("Callback",),
    "training.records": ("History", "Record", "StepResult"),
    "training.checkpoints": ("Checkpoints",),
    "errors": (
        *("CodeError", "ConfigError", "DatasetError", "DeviceError", "Diagnosis", "DifferentiationError"),
        *("DivergenceError", "DtypeError", "FgError", "RunError", "ShapeError"),
    ),
    "estimators.activity.settings": ("Feedback", "LocalLosses"),
    "estimators.activity.estimator": ("ActivityPerturbation",),
    "estimators.blocks.estimator": ("BlockFeedback",),
    "estimators.recurrent.estimator": ("RealTimeRecurrentLearning",),
    "estimators.relayed.estimator": ("RelayedFeedback",),
    "estimators.subspace": ("SubspaceGaussNewton",),
    "estimators.weight": ("WeightPerturbation",),
    "estimators.zeroth": ("SPSA", "CoordinateDifferences", "HybridDifferences"),
    "training.evaluation": ("Evaluation", "evaluate"),
    "training.learning_rate_finder": ("find_learning_rate",),
    "training.online": ("OnlineLearner",),
    # The module that lets compiled functions call them, too.
    "functions.compiled_calls": ("derivative", "gradient", "hessian", "hvp", "jacobian", "taylor"),
    "functions.differentiable": ("differentiable",),
    "minimization.minimize": ("minimize",),
    "minimization.minimum": ("Minimum",),
    "model.derivatives": ("forward_gradient", "jvp", "laplacian"),
    "model.graph": ("Graph",),
    "layers": (
        *("Activation", "Add", "AvgPool2d", "Concatenate", "Conv2d", "Dense", "Dropout", "ElementwiseLSTM"),
        *("Embedding", "Flatten", "GRU", "GlobalAveragePool2d", "GroupNorm", "LSTM", "LayerNorm"),
        *("LinearRecurrentUnit", "MaxPool2d", "MinGRU", "PositionalEmbedding", "RMSNorm", "RotaryEmbedding"),
        *("SelfAttention", "TransformerBlock"),
    ),
    "runs.loading": ("load",),
    "interchange.onnx_in": ("from_onnx",),
    "interchange.onnx_out": ("to_onnx",),
    "interchange.torch_in": ("from_torch",),
    "interchange.torch_out": ("to_torch",),
    "layers.losses": (*("BinaryCrossEntropy", "Huber", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"),),
    "layers.own_activation": ("activation",),
    "model.nodes": ("Node",),
    "model.physics": ("PhysicsLoss",),
    "model.sequential": ("Sequential",),
    "operations.attention": ("attention", "attention_jvp"),
    "optimizers": ("SGD", "Adam", "AdamW", "FrankWolfe"),
    "training.trainer": ("Trainer",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "GRU",
    "LSTM",
    "SGD",
    "SPSA",
    "Activation",
    "ActivityPerturbation",
    "Adam",
    "AdamW",
    "Add",
    "AvgPool2d",
    "BinaryCrossEntropy",
    "BlockFeedback",
    "Callback",
    "Checkpoints",
    "CodeError",
    "Concatenate",
    "ConfigError",
    "Conv2d",
    "CoordinateDifferences",
    "DatasetError",
    "Dense",
    "DeviceError",
    "Diagnosis",
    "DifferentiationError",
    "DivergenceError",
    "Dropout",
    "DtypeError",
    "ElementwiseLSTM",
    "Embedding",
    "Evaluation",
    "Feedback",
    "FgError",
    "Flatten",
    "FrankWolfe",
    "GlobalAveragePool2d",
    "Graph",
    "GroupNorm",
    "History",
    "Huber",
    "HybridDifferences",
    "LayerNorm",
    "LinearRecurrentUnit",
    "LocalLosses",
    "Loss",
    "MaxPool2d",
    "MeanSquaredError",
    "MinGRU",
    "Minimum",
    "Node",
    "OnlineLearner",
    "PhysicsLoss",
    "PositionalEmbedding",
    "RMSNorm",
    "RealTimeRecurrentLearning",
    "Record",
    "RelayedFeedback",
    "RotaryEmbedding",
    "RunError",
    "SelfAttention",
    "Sequential",
    "ShapeError",
    "SoftmaxCrossEntropy",
    "StepResult",
    "SubspaceGaussNewton",
    "Trainer",
    "TransformerBlock",
    "WeightPerturbation",
    "activation",
    "attention",
    "attention_jvp",
    "callbacks",
    "datasets",
    "derivative",
    "device",
    "differentiable",
    "directions",
    "errors",
    "evaluate",
    "find_learning_rate",
    "forward_gradient",
    "from_onnx",
    "from_torch",
    "functions",
    "gradient",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "laplacian",
    "layers",
    "load",
    "losses",
    "minimize",
    "replay",
    "schedules",
    "taylor",
    "testing",
    "to_onnx",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"fgnumba.{name}")
    elif name in _HOME:
        value = getattr(import_module(f"fgnumba.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'fgnumba' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
