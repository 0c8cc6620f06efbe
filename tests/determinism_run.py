"""The processes that ``test_determinism`` starts: short runs on several numbers of threads, printed as digests.

    python -m tests.determinism_run small 1 2 5
    python -m tests.determinism_run large 1 2 5

    python -m tests.determinism_run losses
    python -m tests.determinism_run precisions 1 2 3

The first two, and the last, print ``{run: {threads: digest}}``, with the digest of one thread under ``whole``. For the
others, small networks are divided into as many parts as large ones, while ``whole`` does not divide them. ``losses``
prints ``{run: losses of 100 steps}``.
"""

import contextlib
import hashlib
import json
import os
import sys
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.estimators import RECIPES
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.machine import work
from fgnumba.model import plan, tasks
from tests.recipes import GENERAL

OPTIMIZERS = {
    "sgd": fg.SGD(1e-3),
    "momentum": fg.SGD(1e-3, momentum=0.9),
    "nesterov": fg.SGD(1e-3, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "clipped": fg.SGD(1e-3, clip_norm=0.5),
    "adam": fg.Adam(1e-3),
    "adamw": fg.AdamW(1e-3),
    "frank-wolfe": fg.FrankWolfe(10.0, 1e-3),
    "frank-wolfe-linf": fg.FrankWolfe(1.0, 1e-3, norm="linf"),
}

STEPS = 3


def perceptron():
    """Return layers of more than one panel, and of columns that fill none."""
    return fg.Sequential([fg.Dense(70, "tanh"), fg.Dense(37, "relu"), fg.Dense(5)], 41)


def wide():
    """Return layers of enough panels that tiles multiply three parts, where there are enough rows."""
    return fg.Sequential([fg.Dense(140, "tanh"), fg.Dense(130, "relu"), fg.Dense(5)], 41)


def residual():
    """Return a block of convolutions with norms, pooling and dropout."""
    nodes = [
        fg.Node("stem", fg.Conv2d(8, 3, padding="same", activation="relu")),
        fg.Node("body", fg.Conv2d(8, 3, padding="same")),
        fg.Node("norm", fg.GroupNorm(2)),
        fg.Node("sum", fg.Add(activation="relu"), ("norm", "stem")),
        fg.Node("wide", fg.Conv2d(40, 2, stride=2, activation="relu")),
        fg.Node("layer", fg.LayerNorm()),
        fg.Node("pool", fg.AvgPool2d(2)),
        fg.Node("flat", fg.Flatten()),
        fg.Node("drop", fg.Dropout(0.2)),
        fg.Node("head", fg.Dense(5)),
    ]
    return fg.Graph(nodes, (10, 9, 3))


def recurrent():
    """Return one layer of each kind that takes sequences."""
    layers = [
        *(fg.ElementwiseLSTM(40), fg.RMSNorm(), fg.LSTM(7), fg.MinGRU(33), fg.GRU(5)),
        *(fg.LinearRecurrentUnit(9), fg.LinearRecurrentUnit(3, complex=False), fg.Flatten(), fg.Dense(5)),
    ]
    return fg.Sequential(layers, (6, 3))


def transformer():
    """Return two blocks of a transformer, one after the other and side by side."""
    layers = [
        *(fg.Dense(36), fg.PositionalEmbedding(7), fg.TransformerBlock(4, dropout=0.2)),
        fg.TransformerBlock(
            6, 50, normalization="rms_norm", parallel=True, key_heads=2, rotary=fg.RotaryEmbedding()
        ),
        *(fg.RotaryEmbedding(), fg.Flatten(), fg.Dense(5)),
    ]
    return fg.Sequential(layers, (7, 3))


def stream():
    """Return a model of sequences that block feedback trains."""
    layers = [
        *(fg.Dense(36), fg.PositionalEmbedding(7), fg.TransformerBlock(4, dropout=0.2)),
        fg.TransformerBlock(6, 50, parallel=True, key_heads=2, rotary=fg.RotaryEmbedding(), affine=False),
        *(fg.RMSNorm(), fg.Dense(5)),
    ]
    return fg.Sequential(layers, (7, 3))


SMALL = {"perceptron": perceptron, "residual": residual}
LARGE = {
    "mlp": lambda: fg.Sequential([fg.Dense(512, "relu"), fg.Dense(512, "relu"), fg.Dense(10)], 784),
    "cnn": lambda: fg.Sequential(
        [
            fg.Conv2d(32, 3, padding="same", activation="relu"),
            fg.MaxPool2d(2),
            fg.Conv2d(64, 3, padding="same", activation="relu"),
            fg.MaxPool2d(2),
            fg.Flatten(),
            fg.Dense(10),
        ],
        (28, 28, 1),
    ),
}
NETWORKS = {
    **SMALL,
    **LARGE,
    "wide": wide,
    "recurrent": recurrent,
    "transformer": transformer,
    "stream": stream,
}


def cases():
    """Return the small runs by name: recipes on both networks, optimisers with fused and with kept gradients.

    A run of weight perturbation may name the kind of its directions, where these are not those of its recipe.
    """
    found: list[tuple[str, ...]] = [(recipe, "sgd", network) for recipe in GENERAL for network in SMALL]
    found += [(recipe, "adam", "residual") for recipe in GENERAL]
    found += [("weight-perturbation", optimizer, "residual") for optimizer in OPTIMIZERS]
    found += [("activity", optimizer, "perceptron") for optimizer in OPTIMIZERS]
    directions = ("rademacher", "gaussian")
    networks = (*SMALL, "recurrent", "transformer")
    found += [("weight-perturbation", "sgd", network, kind) for network in networks for kind in directions]
    found += [("weight-perturbation", "adam", network) for network in ("recurrent", "transformer")]
    found += [("block-feedback", optimizer, "stream") for optimizer in ("sgd", "adam")]
    found += [("relayed-feedback", optimizer, "perceptron") for optimizer in ("sgd", "adam")]
    return {" ".join(case): case for case in found}


def large_cases():
    """Return the large runs by name, with the optimisers of the recipes."""
    found = [(name, recipe.optimizer, network) for name, recipe in GENERAL.items() for network in LARGE]
    return {" ".join(case): case for case in found}


def compared():
    """Return the runs whose losses are compared from processor to processor, by name."""
    recipes = ("weight-perturbation", "orthogonal", "spsa", "activity", "local-feedback")
    found = [(recipe, GENERAL[recipe].optimizer, network) for recipe in recipes for network in SMALL]
    return {" ".join(case): case for case in found}


def precision_cases():
    """Return the runs whose products are of bfloat16 by name: each kind of layer, several recipes, in two pairs."""
    pairs = ("bf16x3", "bf16x3"), ("bf16x2", "bf16")
    runs = [
        *(
            ("weight-perturbation", "sgd", network)
            for network in (*SMALL, "wide", "recurrent", "transformer")
        ),
        *(("weight-perturbation", "adam", "wide", kind) for kind in ("rademacher", "gaussian")),
        *((recipe, "adam", "wide") for recipe in ("activity", "feedback")),
        ("block-feedback", "adam", "stream"),
    ]
    return {" ".join((*run, *pair)): (run, pair) for run in runs for pair in pairs}


def trained(recipe, optimizer, network, direction=None, steps=STEPS, seed=7, *, precisions=()):
    """Return a trainer after so many steps, and its losses.

    `precisions` are those of the primal and of tangents, by default what the environment says.
    """
    rng, batch = np.random.default_rng(0), 61 if network in (*LARGE, "wide") else 13
    model = NETWORKS[network]()
    if precisions:
        parameters = model.parameters()
        model = fg.Graph(model.nodes, model.input_shape, device=Cpu(*precisions))
        model.load_parameters(parameters)
    x = rng.standard_normal((batch, *model.input_shape)).astype(np.float32)
    y = rng.integers(0, model.outputs, (batch, 7) if network == "stream" else batch)
    takes = RECIPES[recipe].takes
    estimator = RECIPES[recipe].build(recipe, direction, 3 if "directions" in takes else None)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=OPTIMIZERS[optimizer], seed=seed)
    return trainer, [trainer.step(x, y).loss for _ in range(steps)]


def digest(trainer, losses):
    """Return a digest of all that steps have left."""
    arrays = {**trainer.model.parameters(), **trainer.state.arrays}
    arrays |= {name: parameter.array() for name, parameter in trainer.state.parameters.items()}
    found = hashlib.sha256(np.array(losses).tobytes())
    for name in sorted(arrays):
        found.update(name.encode() + arrays[name].tobytes())
    return found.hexdigest()


def main(size, *threads):
    if size == "losses":
        courses = {
            name: trained(recipe, optimizer, network, steps=100)
            for name, (recipe, optimizer, network) in compared().items()
        }
        print(json.dumps({name: losses for name, (_, losses) in courses.items()}))
        return
    found: dict[str, dict[str, str]] = {}
    runs: dict[str, tuple[Any, tuple[str, ...]]] = dict(precision_cases())
    if size != "precisions":
        whole = cases() if size == "small" else large_cases()
        runs = {name: (case, ()) for name, case in whole.items()}
    for name, (case, precisions) in runs.items():
        os.environ["FGNUMBA_THREADS"] = "1"
        found[name] = {"whole": digest(*trained(*case, precisions=precisions))}
        with contextlib.nullcontext() if size == "large" else finely_cut():
            for count in threads:
                os.environ["FGNUMBA_THREADS"] = count
                found[name][count] = digest(*trained(*case, precisions=precisions))
    print(json.dumps(found))


@contextlib.contextmanager
def finely_cut():
    """Let work be cut among threads, into parts and chunks, however little there is of it."""
    before = work.THREAD_WORK, tasks.CHUNK_BYTES, plan.CACHED_PART
    work.THREAD_WORK, tasks.CHUNK_BYTES, plan.CACHED_PART = 1, 1, 1
    try:
        yield
    finally:
        work.THREAD_WORK, tasks.CHUNK_BYTES, plan.CACHED_PART = before


if __name__ == "__main__":
    main(*sys.argv[1:])
