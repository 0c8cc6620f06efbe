"""Sequences: real-time recurrent learning beside truncated backpropagation, ratios of layers, memory against length."""

import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import sequence_memory
from fgnumba.bench.measure.sequence_peers import jax_steps
from fgnumba.bench.measure.timing import Contender, interleaved
from fgnumba.kernels.machine.threads import OVERRIDE
from fgnumba.model.directions import BY_NAME

SYMBOLS, UNITS, BATCH, WINDOW = 65, 512, 32, 64
LOSS = fg.SoftmaxCrossEntropy()
LAYERS = {
    "elementwise-lstm": lambda units: fg.ElementwiseLSTM(units),
    "min-gru": lambda units: fg.MinGRU(units),
    "complex linear": lambda units: fg.LinearRecurrentUnit(units),
    "real linear": lambda units: fg.LinearRecurrentUnit(units, complex=False),
    "lstm": lambda units: fg.LSTM(units),
    "gru": lambda units: fg.GRU(units),
}


def text(batch: int = BATCH, length: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, (batch, length + 1))
    return symbols[:, :-1].astype(np.float32), symbols[:, 1:]


def network() -> fg.Sequential:
    layers = [fg.ElementwiseLSTM(UNITS, symbols=SYMBOLS), fg.Dense(SYMBOLS)]
    return fg.Sequential(layers, (WINDOW,), device="cpu")


def steps(estimator: fg.estimators.Estimator) -> Contender:
    """Return a function that takes a step on the next window, and carries the states on."""
    trainer = fg.Trainer(network(), estimator=estimator, optimizer=fg.Adam(1e-7), carry_states=True)
    x, y = text()
    return lambda: trainer.step(x, y)


@pytest.mark.quick
@pytest.mark.benchmark(group="sequences")
def test_symbols_a_second(benchmark, goal, monkeypatch):
    """Whole steps on windows of 32 streams, on one thread: ours forward, ours in reverse mode, and JAX's."""
    monkeypatch.setenv(OVERRIDE, "1")
    contenders = {
        "forward": steps(fg.RealTimeRecurrentLearning()),
        "reverse": steps(reverse.ReverseMode()),
    }
    theirs = jax_steps(network().parameters(), *(array.astype(np.int32) for array in text()))
    if theirs is not None:
        contenders["JAX"] = theirs
    timings = interleaved(contenders)
    benchmark.pedantic(contenders["forward"], rounds=10, warmup_rounds=1)
    symbols = BATCH * WINDOW
    rates = {name: symbols / timings.seconds(name) for name in contenders}
    goal(
        "real-time recurrent learning, one thread",
        rates["forward"] / 1e3,
        at_least=150,
        unit="thousand symbols/s",
    )
    goal("our truncated backpropagation, one thread", rates["reverse"] / 1e3, unit="thousand symbols/s")
    goal("forward over reverse, in time", timings.ratio("forward", "reverse"))
    if theirs is not None:
        # XLA takes as many threads as the process may use: `taskset -c 0` leaves it one.
        goal("JAX's truncated backpropagation", rates["JAX"] / 1e3, unit="thousand symbols/s")
        goal("JAX's time over ours", timings.ratio("JAX", "forward"), at_least=3)


@pytest.mark.benchmark(group="sequences")
@pytest.mark.parametrize("name", LAYERS)
def test_ratios_of_a_layer(benchmark, goal, name, threads):
    """Rf and Rb of a layer of 256 units above 256 numbers, 16 sequences of 64 positions."""
    layers = [fg.Embedding(SYMBOLS, 256), LAYERS[name](256), fg.Dense(SYMBOLS)]
    model = fg.Sequential(layers, (WINDOW,), device="cpu")
    x, symbols = text(16)
    y = symbols.reshape(-1)
    primal = model.plan(16, loss=LOSS)
    dual = model.plan(16, BY_NAME["rank1"].kind, 1, LOSS)
    backward = reverse.ReversePlan(model, 16, LOSS)
    windows = reverse.ThroughTime(model, 16, LOSS)
    timings = interleaved(
        {
            "f": lambda: primal.run(x, y),
            "forward": lambda: dual.run(x, y),
            "reverse": lambda: backward.run(x, y),
            "checkpoints": lambda: windows.run(x, y),
        }
    )
    benchmark.pedantic(lambda: dual.run(x, y), rounds=10, warmup_rounds=1)
    what = f"{name}, {threads} threads"
    goal(f"{what}: f", timings.seconds("f") * 1e3, unit="ms")
    goal(f"{what}: Rf", timings.ratio("forward", "f"))
    goal(f"{what}: Rb", timings.ratio("reverse", "f"))
    goal(f"{what}: Rb with checkpoints of states", timings.ratio("checkpoints", "f"))
    goal(f"{what}: Rf/Rb", timings.ratio("forward", "reverse"), at_most=1)


@pytest.mark.benchmark(group="sequences")
@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
@pytest.mark.parametrize(("width", "heads", "length", "batch"), [(128, 4, 64, 12), (256, 8, 256, 8)])
def test_ratio_of_a_transformer_block(benchmark, goal, width, heads, length, batch, parallel, threads):
    """Rf of a block of a transformer on the rows of an embedding, whose tangents are those of a block in a model."""
    block = fg.TransformerBlock(heads, parallel=parallel)
    model = fg.Sequential([fg.Embedding(SYMBOLS, width), block], (length,), device="cpu")
    x, _ = text(batch, length)
    primal, dual = model.plan(batch), model.plan(batch, BY_NAME["rank1"].kind, 1)
    timings = interleaved({"f": lambda: primal.run(x), "forward": lambda: dual.run(x)})
    benchmark.pedantic(lambda: dual.run(x), rounds=10, warmup_rounds=1)
    what = (
        f"{'parallel ' * parallel}block, {heads} heads of {width // heads}, L = {length}, {threads} threads"
    )
    goal(f"{what}: f", timings.seconds("f") * 1e3, unit="ms")
    goal(f"{what}: Rf", timings.ratio("forward", "f"), at_most=2.2)


@pytest.mark.benchmark(group="sequences")
@pytest.mark.parametrize(
    ("mode", "lengths"),
    [("forward", (10**4, 10**6)), ("checkpoints", (10**4, 10**6)), ("reverse", (10**4, 10**5))],
)
def test_resident_memory_against_length(benchmark, goal, mode, lengths):
    """How much a process grows while it takes the gradient of one sequence; 128 units."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    grown = {length: sequence_memory.resident(mode, length) for length in lengths}
    benchmark.pedantic(lambda: sequence_memory.go_through(mode, 1000), rounds=1)
    for length, nbytes in grown.items():
        goal(f"{mode}, {length:,} positions", nbytes / 1e6, unit="MB")
    if mode == "forward":
        short, long = lengths
        goal("growth of forward mode's memory", (grown[long] - grown[short]) / 1e6, at_most=1, unit="MB")
