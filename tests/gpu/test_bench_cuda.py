"""The benchmark for GPUs, run on a simulated one; only the other frameworks' GPU is missing."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fgnumba as fg
from fgnumba.bench.cuda import card, command, measure, peers
from fgnumba.bench.cuda.card import rates
from fgnumba.bench.cuda.measure import Effort, Subject
from fgnumba.bench.measure import networks, timing
from fgnumba.bench.measure.timing import Timings
from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda.driver import SimulatedDriver
from tests import tolerances

EFFORT = Effort(rounds=2, seconds=0.1, steps=2, examples=3)


def small(seed=0, device="cpu"):
    return fg.Sequential([fg.Flatten(), fg.Dense(2)], (2, 2, 1), seed, device)


def large(seed=0, device="cpu"):
    return fg.Sequential([fg.Flatten(), fg.Dense(1 << 17)], (64,), seed, device)


@pytest.fixture
def bench(monkeypatch):
    """Return a function that runs the command on a GPU that is not there, with small networks."""
    subjects = {"small": Subject(small, (4, 2)), "large": Subject(large, (64, 1 << 17))}
    monkeypatch.setattr(command, "SUBJECTS", subjects)
    monkeypatch.setattr(measure, "SUBJECTS", subjects)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 1e-3)
    monkeypatch.setattr(timing, "LEAST_ROUNDS", 2)
    monkeypatch.setattr(command, "QUICK", EFFORT)
    monkeypatch.setattr(command, "QUICK_NETWORKS", ("small",))
    monkeypatch.setattr(command, "card_driver", lambda: SimulatedDriver(1 << 24))
    return lambda *arguments: CliRunner().invoke(command.command, ["--quick", *arguments])


def test_the_table_the_file_and_what_is_skipped(bench, monkeypatch, tmp_path):
    def step(name, network, x, y):
        if name != "JAX":
            raise peers.ConfigError(f"no {name}") if name == "PyTorch eager" else ValueError("a | b\nc")
        assert (network, x.shape) == ((4, 2), (3, 4))
        return peers.Steps(lambda: None, lambda: None, 0.0)

    def steady(*arguments):
        # Every round takes as long as the middle one, so that a ratio of medians is the median of ratios.
        found = timing.interleaved(*arguments)
        return timing.Timings({name: [found.seconds(name)] * len(s) for name, s in found.samples.items()})

    monkeypatch.setattr(measure, "interleaved", steady)
    monkeypatch.setattr(peers, "steps", step)
    goal = command.Goal("Rf", "rf", 3, "small", at_most=1e9)
    missed = command.Goal("our step / its", "our_step_over_its", 3, peer="JAX", at_most=1e-9)
    monkeypatch.setattr(command, "GOALS", (goal, missed, *command.GOALS))
    file = tmp_path / "report.json"
    done = bench("--json", str(file), "--batch", "3", "--network", "large", "--network", "small")
    assert done.exit_code == 0, done.output
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["card"]["name"] == "simulated GPU"
    assert report["versions"]["numpy"] == np.__version__
    (row,) = report["rows"]
    # Of the first layer, the primal alone: its tangent is of rank one.
    assert row["dual_multiply_adds"] == 3 * 4 * 2
    positive = (
        "f_ms",
        "dual_ms",
        "dual_bf16_tangents_ms",
        "dual_bf16_ms",
        "step_ms",
        "fit_ms",
        "cpu_us",
        "rf",
    )
    assert all(row[name] > 0 for name in positive)
    assert row["cpu_us"] <= 1e3 * row["fit_ms"]
    assert row["float32_share"] is None
    (skipped,) = report["skipped"]
    assert "33,554,432 bytes" in skipped["note"]
    jax, eager, compiled, graph = report["peers"]
    tolerances.COUNTED.check(jax["our_step_over_its"], row["step_ms"] / jax["reverse_step_ms"])
    assert eager["note"] == "no PyTorch eager"
    assert compiled["note"] == graph["note"] == "ValueError: a | b"
    found = {(one["goal"], one["met"]) for one in report["goals"]}
    assert {("Rf", True), ("our step / its", False), ("Rf with bf16 tangents", None)} <= found
    for line in ("| small | 3 |", "skipped: large, batch 3: device: simulated GPU has no room", "a / b |"):
        assert line in done.stdout
    assert "| our step / its | small | 3 |" in done.stdout
    assert "MISSED" in done.stdout
    assert bench("--goals", "--batch", "3", "--network", "small").exit_code == 1
    monkeypatch.setattr(command, "GOALS", (goal, *command.GOALS[2:]))
    assert bench("--goals", "--batch", "3", "--network", "small").exit_code == 0


def test_nothing_measured_is_an_error(bench):
    done = bench("--no-peers", "--network", "large", "--batch", "1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "has no room" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "smal"), "unknown network 'smal' (did you mean 'small'?)"),
        (("--batch", "0"), "batch"),
        (("--json", "nowhere/at/all.json"), "is in no folder that exists"),
    ],
)
def test_impossible_options(bench, arguments, message):
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_machine_without_a_gpu(monkeypatch):
    def missing():
        raise DeviceError("device: 'cuda' is not available: there is no NVIDIA driver")

    monkeypatch.setattr(command, "cuda", missing)
    done = CliRunner().invoke(command.command, [])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: device: 'cuda' is not available: there is no NVIDIA driver\n"


def test_cases():
    everything = command.cases((), (), quick=False)
    assert everything[:3] == [("mlp", 64), ("wide", 64), ("cnn", 64)]
    assert len(everything) == 9
    assert command.cases((), (), quick=True) == [("mlp", 64), ("cnn", 64)]
    assert command.cases(("cnn",), (8, 2), quick=True) == [("cnn", 2), ("cnn", 8)]


def test_the_networks_are_those_of_the_peers():
    for name, subject in measure.SUBJECTS.items():
        shapes = [array.shape for array in subject.make().parameters().values()]
        images = np.zeros((1, *networks.IMAGE), np.float32)
        theirs = peers.initial_parameters(subject.peer, images)
        assert shapes == [array.shape for array in theirs], name


def test_rates_of_cards():
    assert rates("NVIDIA H200", (9, 0), 132, 1.98e9) == (67e12, 989.4e12)
    assert rates("NVIDIA H100 80GB HBM3", (9, 0), 132, None) == (67e12, 989.4e12)
    assert rates("NVIDIA A100-SXM4-80GB", (8, 0), 108, None) == (19.5e12, 312e12)
    tolerances.CARD_CLOCK.check(rates("another", (8, 0), 108, 1.41e9).float32, 19.5e12)
    for name in ("NVIDIA GH200 480GB", "NVIDIA H200 NVL", "NVIDIA H100 PCIe"):
        assert rates(name, (9, 0), 100, 1e9) == (2 * 128 * 100 * 1e9, None)
    assert rates("another", (9, 0), 100, None) == (None, None)


def test_shares_are_of_the_rates(monkeypatch):
    def timed(contenders, effort):
        assert list(contenders) == ["f", "dual", "dual bf16 tangents", "dual bf16", "step"]
        seconds = dict(zip(contenders, (1.0, 2.0, 1.25, 0.5, 3.0), strict=True))
        return Timings({name: [second] * 5 for name, second in seconds.items()})

    monkeypatch.setattr(measure, "SUBJECTS", {"small": Subject(small, (4, 2))})
    monkeypatch.setattr(measure, "Asked", lambda ask, wait: None)
    monkeypatch.setattr(measure, "timed", timed)
    monkeypatch.setattr(measure, "fit", lambda *arguments: (4.0, 5e-6))
    row, peers = measure.measure("small", 2, SimulatedDriver(), card.Rates(96.0, 960.0), EFFORT, False)
    assert peers == []
    tolerances.COUNTED.check(row["float32_share"], 2 * 16 / 2.0 / 96)
    tolerances.COUNTED.check(row["bf16_share"], 2 * 16 / 0.5 / 960)
    assert (row["rf"], row["rf_bf16_tangents"], row["step_ms"], row["cpu_us"]) == (2.0, 1.25, 3e3, 5.0)


def test_a_run_s_time_is_that_of_one_of_many(monkeypatch):
    def ask():
        asked.append(waited[-1])

    asked: list[int] = []
    waited = [0]
    contender = measure.Asked(ask, lambda: waited.append(waited[-1] + 1))
    assert 1 < contender.times <= measure.MOST_AT_ONCE
    contender.times = 50
    before = len(asked)
    contender()
    # All were asked for before one was waited for.
    assert (len(asked) - before, len(set(asked[before:]))) == (50, 1)
    monkeypatch.setattr(measure, "interleaved", lambda *_: timing.Timings({"one": [2.0] * 5}))
    assert measure.timed({"one": contender}, EFFORT).seconds("one") == 2.0 / 50


def test_goals():
    least = command.Goal("share", "share", 64, "wide", at_least=0.7)
    report: command.Report = {"rows": [], "peers": []}
    assert [row["met"] for row in least.results(report)] == [None]
    for share, met in ((0.6, False), (0.7, True), (0.8, True), (None, None)):
        rows = [{"network": name, "batch": 64, "share": share} for name in ("mlp", "wide")]
        report["rows"] = [*rows, {"network": "wide", "batch": 8, "share": 0.9}]
        (found,) = least.results(report)
        assert (found["met"], found["measured"], found["bound"]) == (met, share, ">= 0.7")


def test_waiting_is_not_the_host_s_work():
    driver = SimulatedDriver()
    with measure.waiting(driver) as waited:
        assert waited() == 0
        driver.synchronize()
        first = waited()
        driver.wait(None)
        assert 0 < first < waited()
        total = waited()
    driver.synchronize()
    assert waited() == total


@pytest.mark.parametrize(("name", "network"), [("JAX", "mlp"), ("PyTorch eager", "cnn")])
def test_peers_take_steps_on_a_processor(name, network):
    pytest.importorskip("jax" if name == "JAX" else "torch")
    subject = measure.SUBJECTS[network]
    x, y = networks.data(2)
    rows = x if network == "cnn" else x.reshape(2, -1)
    steps = peers.steps(name, subject.peer, rows, y, "cpu")
    steps.ask()
    steps.wait()
    model = subject.make()
    arrays = peers.initial_parameters(subject.peer, rows)
    if network == "cnn":
        # Channels come first there, so that rows of the dense layer are in another order.
        arrays[8] = arrays[8].reshape(64, 49, -1).transpose(1, 0, 2).reshape(arrays[8].shape)
    model.load_parameters(dict(zip(model.parameters(), arrays, strict=True)))
    tolerances.MODEL_LOSS.check(steps.loss, fg.SoftmaxCrossEntropy().value(model(x), y))


def test_peers_that_are_not_there(monkeypatch):
    with pytest.raises(peers.ConfigError, match=r"not installed|installed without"):
        peers.steps("JAX", (4, 2), np.zeros((1, 4), np.float32), np.zeros(1, np.int64), "tpu")
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(peers.ConfigError, match="torch is not installed"):
        peers.steps("PyTorch compile", (4, 2), np.zeros((1, 4), np.float32), np.zeros(1, np.int64))
    assert peers.tf32() == peers.versions() == {}
