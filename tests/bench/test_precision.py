"""The benchmark of precisions: its settings, figures and goals, and its command."""

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import timing
from fgnumba.bench.measure.timing import Timings
from fgnumba.bench.precision import command, learning, measure
from fgnumba.bench.precision.settings import MIXED, STEPS, Setting, here, multiplies, possible, precisions
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS, OVERRIDE, TWINS, executable
from tests import tolerances, tolerances_precision

TWIN = "avx512bf16-twin"


@pytest.fixture
def twin(monkeypatch):
    monkeypatch.setenv(OVERRIDE, TWIN)


def steady(seconds):
    """Return an `interleaved` in which a call takes what `seconds` say of its name, or 1 second."""
    return lambda contenders, *_: Timings({name: [seconds.get(name, 1.0)] * 5 for name in contenders})


def by_name(figures):
    return {figure.name: figure for figure in figures}


def test_settings_are_names_of_precisions():
    assert [str(setting) for setting in STEPS] == [
        *("auto", "float32", "bf16x3", "bf16x2", "bf16"),
        "float32 with bf16 tangents",
    ]
    assert MIXED in STEPS
    device = MIXED.device
    assert (device.precision, device.tangent_precision) == ("float32", "bf16")


def test_what_a_processor_without_bfloat16_is_measured_in(monkeypatch):
    monkeypatch.setenv(OVERRIDE, "generic")
    assert (here(), multiplies(), precisions()) == ([], "", ["float32"])
    assert [str(setting) for setting in STEPS if possible(setting)] == ["auto", "float32"]
    assert measure.bits() == []
    assert len(measure.peaks(0.1)) == 1


def test_a_twin_is_measured_and_has_no_goals(twin):
    assert [isa.name for isa in here()] == [TWIN]
    assert multiplies() == ""
    assert precisions() == list(PRECISIONS)
    assert all(map(possible, STEPS))


def test_every_set_of_this_processor_is_measured(monkeypatch):
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert [isa.name for isa in here()] == [name for name in executable() if f"{name}-twin" in TWINS]


def test_rates_count_the_products_multiply_adds_and_shares_the_instructions(twin, monkeypatch):
    monkeypatch.setattr(measure, "interleaved", steady({"float32": 1.0, "bf16": 0.5, "bf16x3": 2.0}))
    found = by_name(measure.products(64, 1, 0.1))
    done = 64 * 1024 * 1024 * 1e-9
    for name, seconds in (("float32", 1.0), ("bf16", 0.5), ("bf16x3", 2.0)):
        tolerances.COUNTED.check(found[f"{name} 64x1024x1024, 1 thread"].measured, done / seconds)
    tolerances.COUNTED.check(found["bf16 64x1024x1024, 1 thread, over float32"].measured, 2.0)
    shares = {
        name: found[f"{name} 64x1024x1024, 1 thread, share of peak"].measured for name in ("bf16", "bf16x3")
    }
    # Six products in four times the time, of peaks that take one second each for a sixth as many multiply-adds.
    tolerances.COUNTED.check(shares["bf16x3"] / shares["bf16"], 6 / 4)


@pytest.mark.parametrize(
    ("network", "batch", "goals"),
    [
        ("mlp", 64, {"auto": 0.7, "bf16x2": 0.55, "bf16": 0.4}),
        ("mlp", 1024, {"auto": 1.15, "bf16x2": 0.8, "bf16": 0.5}),
        ("cnn", 64, {"auto": 0.5}),
        ("logreg", 8, {}),
    ],
)
def test_goals_of_steps_on_tiles(twin, monkeypatch, network, batch, goals):
    monkeypatch.setattr(measure, "multiplies", lambda: "tiles")
    monkeypatch.setattr(measure, "trainer", lambda case: None)
    monkeypatch.setattr(measure, "peers", lambda *_, names: {"PyTorch bf16": {"reverse step": None}})
    monkeypatch.setattr(measure, "interleaved", steady({"auto": 0.6, "PyTorch bf16": 2.0, "bf16": 3.0}))
    found = by_name(measure.steps(network, batch, 0.1))
    end = "step over PyTorch bf16's reverse step"
    assert {
        setting: figure.at_most
        for setting in map(str, STEPS)
        if (figure := found[f"{network}, batch {batch}: {setting} {end}"]).at_most is not None
    } == goals
    auto = found[f"{network}, batch {batch}: auto {end}"]
    tolerances.COUNTED.check(auto.measured, 0.3)
    assert auto.met is (True if goals else None)
    assert found[f"{network}, batch {batch}: bf16 {end}"].met is (False if "bf16" in goals else None)


def test_a_goal_beside_a_framework_that_is_missing_is_not_measured(twin, monkeypatch):
    monkeypatch.setattr(measure, "multiplies", lambda: "tiles")
    monkeypatch.setattr(measure, "trainer", lambda case: None)
    monkeypatch.setattr(measure, "interleaved", steady({}))
    found = [figure for figure in measure.steps("mlp", 64, 0.1, with_peers=False) if "PyTorch" in figure.name]
    assert [figure.verdict for figure in found] == ["not measured"] * 3


def test_goals_of_pairs(twin, monkeypatch):
    monkeypatch.setattr(measure, "multiplies", lambda: "pairs")
    monkeypatch.setattr(measure, "trainer", lambda case: None)
    monkeypatch.setattr(measure, "interleaved", steady({"float32": 2.0, "bf16": 1.0}))
    found = by_name(measure.steps("mlp", 64, 0.1, with_peers=False))
    figure = found["mlp, batch 64: bf16 step over float32's"]
    assert (figure.measured, figure.at_most) == (0.5, 0.75)
    figure = by_name(measure.products(64, 2, 0.1))["bf16 64x1024x1024, 2 threads, over float32"]
    assert (figure.measured, figure.at_least) == (2.0, 1.6)


def test_rf_of_bfloat16_tangents(twin, monkeypatch):
    monkeypatch.setattr(measure, "multiplies", lambda: "tiles")
    times = {f"{Setting('bf16x3', 'bf16')} dual": 1.2, f"{Setting('float32', 'bf16')} dual": 1.5}
    monkeypatch.setattr(measure, "interleaved", steady(times))
    found = {figure.name: (figure.measured, figure.at_most) for figure in measure.tangents("logreg", 4, 0.1)}
    assert found == {
        "logreg, batch 4: Rf of float32 with bf16 tangents": (1.5, None),
        "logreg, batch 4: Rf of bf16x3 with bf16 tangents": (1.2, 1.25),
        "logreg, batch 4: Rf of bf16x2 with bf16 tangents": (1.0, None),
        "logreg, batch 4: Rf of bf16 with bf16 tangents": (1.0, None),
    }


def test_bits_that_differ_are_counted(monkeypatch):
    def output(variant, *shape_and_threads):
        isa = shape_and_threads[-1]
        return np.full((1, 2, 3), -0.0 if isa.twin else 0.0, np.float32)

    monkeypatch.setattr(measure, "here", lambda: [INSTRUCTION_SETS["avx512bf16"]])
    monkeypatch.setattr(measure, "output", output)
    figures = measure.bits()
    assert [figure.measured for figure in figures] == [4 * len(measure.BIT_SHAPES) * 6] * 3
    assert not any(figure.met for figure in figures)


@pytest.fixture
def bench(monkeypatch):
    """Return a function that runs the command with small networks and without other frameworks."""
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 1e-3)
    monkeypatch.setattr(timing, "LEAST_ROUNDS", 2)
    monkeypatch.setattr(command, "QUICK_ROWS", (3,))
    monkeypatch.setattr(command, "QUICK_CASES", (("logreg", 4),))
    return lambda *arguments: CliRunner().invoke(
        command.command, ["--quick", "--no-peers", "--seconds", "0.05", *arguments]
    )


def test_the_command(twin, bench, tmp_path):
    done = bench("--json", str(tmp_path / "out.json"))
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert report["machine"]["multiplies_bfloat16"] == [TWIN]
    assert f"training uses {TWIN}, and chooses float32" in done.stdout
    names = [figure["name"] for figure in report["figures"]]
    assert len(names) == len(set(names))
    for name in names:
        assert name in done.stdout
    for start in (
        "peak of",
        "float32 3x1024x1024, 1 thread",
        "logreg, batch 4: auto step",
        "logreg, batch 4: Rf of",
    ):
        assert any(name.startswith(start) for name in names), start


def test_a_missed_goal_is_the_exit_status(bench, monkeypatch):
    figure = measure.Figure("a ratio", 2.0, at_most=1)
    monkeypatch.setattr(command, "parts", lambda *_: {"a part": lambda: [figure]})
    assert bench().exit_code == 0
    done = bench("--goals")
    assert done.exit_code == 1
    assert "MISSED" in done.stdout
    monkeypatch.setattr(command, "parts", lambda *_: {})
    assert bench("--goals").exit_code == 0


def test_what_is_wrong_with_arguments_is_said(bench, monkeypatch):
    done = bench("--json", "no/such/out.json")
    assert (done.exit_code, "is in no folder that exists" in done.output) == (2, True)
    assert "seconds is -1.0" in bench("--seconds", "-1").output
    monkeypatch.setenv(OVERRIDE, "avx512bf17")
    assert "unknown instruction set 'avx512bf17'" in bench().output


def test_reports_say_why_tiles_are_not_used_and_whether_others_ran(twin, monkeypatch):
    monkeypatch.setattr(command, "parts", lambda *_: {})
    monkeypatch.setattr(command, "host_features", lambda: {"amx-bf16"})
    monkeypatch.setattr(command, "refusal", lambda: "no permission")
    monkeypatch.setattr(command.machine, "quiet", lambda *_: "others took 30% of the processors")
    text = command.as_text(command.run(0.1, True, False))
    assert "amx is not used: no permission" in text
    assert "NOT QUIET: others took 30% of the processors" in text


@pytest.mark.parametrize("layers", ["relu", "gelu", "convolutions"])
@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
def test_gradients_of_reverse_mode_are_of_the_models_precision(twin, precision, layers):
    of_layers: dict[str, list[Any]] = {
        "relu": [fg.Dense(70, activation="relu"), fg.Dense(40, activation="relu")],
        # Many rows: their slopes are made in the forward pass.
        "gelu": [fg.Dense(70, activation="gelu"), fg.Dense(40, activation="gelu")],
        "convolutions": [
            fg.Conv2d(33, kernel_size=3, padding="same", activation="relu"),
            fg.Conv2d(8, kernel_size=5, stride=2, activation="relu"),
            fg.Flatten(),
        ],
    }
    hidden = of_layers[layers]
    shapes: dict[str, tuple[int, ...]] = {"relu": (50,), "gelu": (4, 50), "convolutions": (9, 9, 3)}
    shape = shapes[layers]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, *shape), np.float32)
    targets = (24, 4) if layers == "gelu" else (24,)
    y = rng.integers(0, 5, targets)

    def gradient(name):
        model = fg.Sequential([*hidden, fg.Dense(5)], shape, seed=1, device=Cpu(name))
        return reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)[1]

    expected, found = gradient("float32"), gradient(precision)
    bound = tolerances.PEERS_BF16_GRADIENT if precision == "bf16" else tolerances.PEERS_GRADIENT
    assert not np.array_equal(found["0.weight"], expected["0.weight"])
    for name, array in found.items():
        error = np.linalg.norm(array - expected[name]) / np.linalg.norm(expected[name])
        assert error <= bound, f"{name}: {error:.3g}"


@pytest.mark.parametrize("degrees", [7, 9, 30])
def test_students_quantiles(degrees):
    stats = pytest.importorskip("scipy.stats")
    found = learning.student(0.95, degrees)
    tolerances_precision.STUDENT.check(found, stats.t.ppf(0.975, degrees))


def test_paired_differences_and_their_interval():
    found = learning.paired([3.0, 5.0, 4.0, 8.0], [1.0, 2.0, 3.0, 4.0])
    # Differences of 2, 3, 1, 4: their mean's standard error is the square root of 5 / 12.
    half = learning.student(0.95, 3) * np.sqrt(5 / 12)
    assert found.mean == 2.5
    tolerances_precision.STUDENT.check([found.low, found.high], [2.5 - half, 2.5 + half])


def test_learning_curves_differ_by_the_precision_alone(monkeypatch, tmp_path):
    monkeypatch.setenv(OVERRIDE, TWIN)
    monkeypatch.setattr(learning, "EVALUATIONS", 1)
    same, coarse = Setting("float32", "float32"), Setting("bf16")
    monkeypatch.setattr(learning, "SETTINGS", (Setting("float32"), same, coarse))
    file = tmp_path / "curves.json"
    done = CliRunner().invoke(learning.command, ["--seeds", "2", "--steps", "2", "--json", str(file)])
    assert done.exit_code == 0, done.output
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["steps"] == [0, 2]
    assert len(report["curves"]) == 6
    last = {name: found["last loss"] for name, found in report["differences"].items()}
    assert last[str(same)] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert last["bf16"]["low"] < last["bf16"]["mean"] < last["bf16"]["high"]
    assert "| `bf16` |" in done.output
    assert {curve["seed"] for curve in report["curves"]} == {0, 1}
