"""The benchmark harness: statistics, rows, the command, the results in the repository."""

import json
import os
import re
import subprocess

import numba
import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import machine, networks, peers, ratio_goals, ratios
from fgnumba.bench.measure.peer_networks import CALLS
from fgnumba.bench.measure.ratios import RATE, Case, cases, forward_work, measure, reverse_work
from fgnumba.bench.measure.timing import Timings, interleaved
from fgnumba.bench.report import results_page, suite
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import MULTIPLYING, executable, instruction_set
from fgnumba.kernels.rules.directions import RANK1
from tests import tolerances
from tests.bench.conftest import BANDWIDTH


def test_intervals_hold_the_median_with_their_confidence():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        ones = [1.0] * 21
        timings = Timings({"a": list(2 * np.exp(0.1 * rng.standard_normal(21))), "b": ones})
        interval = timings.interval("a", "b")
        assert interval.low <= interval.value <= interval.high
        held += interval.low <= 2 <= interval.high
    # The percentile bootstrap of a median of 21 is conservative.
    assert held / 300 > 0.95 - tolerances.OF_CONFIDENCE * np.sqrt(0.95 * 0.05 / 300)


def test_contenders_are_interleaved_until_time_is_up():
    heard = []
    contenders = {name: lambda name=name: heard.append(name) for name in "ab"}
    timings = interleaved(contenders, rounds=50, seconds=0.0)
    assert len(timings.samples["a"]) == len(timings.samples["b"]) == 5
    runs = [key for i, key in enumerate(heard) if i == 0 or heard[i - 1] != key]
    assert runs == ["a", "b"] * 6


def test_quiet_says_why_it_was_not():
    assert machine.quiet(0.0, 0.01) is None
    assert machine.quiet(None, 0.01) is None
    assert "others took 20%" in str(machine.quiet(0.2, 0.01))
    assert "varied by 30%" in str(machine.quiet(0.0, 0.3))


def test_a_busy_process_is_foreign():
    watch = machine.Watch()
    if watch.foreign_share() is None and machine._times() is None:
        pytest.skip("this system does not say how busy its processors are")
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        watch = machine.Watch()
        with pytest.raises(subprocess.TimeoutExpired):
            busy.wait(1.5)
        share = watch.foreign_share()
    finally:
        busy.kill()
        busy.wait()
    assert share is not None
    # One of the processors, where another test does not keep this process off it.
    assert share > 0.3 / (machine.facts()["threads"] + 1)


def test_a_row_counts_what_the_passes_do():
    row = measure(Case("mlp", "rademacher", 4, batch=16), BANDWIDTH, seconds=0.1, rounds=5)
    products = [784 * 1024, 1024 * 1024, 1024 * 10]
    total = sum(products)
    tolerances.COUNTED.check(row["rf_ideal"], (5 * products[0] + 9 * sum(products[1:])) / total)
    tolerances.COUNTED.check(row["rb_ideal"], (2 * products[0] + 3 * sum(products[1:])) / total)
    for name in ("rf", "rb", "rf_over_rb", "step_over_reverse_step"):
        low, high = row[f"{name}_interval"]
        assert 0 < low <= row[name] <= high
    assert row["reverse_peak_bytes"] > row["peak_bytes"] > row["parameter_bytes"]
    json.dumps(row, allow_nan=False)


def test_ratios_are_of_what_they_are_called(monkeypatch):
    # Seconds a call that no noise is in.
    seconds = {"f": 1.0, "forward": 2.0, "reverse": 4.0, "forward step": 3.0, "reverse step": 12.0}

    def timed(contenders, *_):
        return Timings({name: [seconds.get(name, 1.5)] * 5 for name in contenders})

    monkeypatch.setattr(ratios, "interleaved", timed)
    row = measure(Case("logreg"), BANDWIDTH)
    assert (row["rf"], row["rb"], row["rf_over_rb"], row["step_over_reverse_step"]) == (2, 4, 0.5, 0.25)
    assert (row["drawing_share"], row["checkpointed_over_f"]) == (0.5, 1.5)
    assert row["rf_interval"] == [2, 2]


def test_work_of_a_convolutional_network():
    model = networks.cnn()
    loss = fg.SoftmaxCrossEntropy()
    primal, dual = model.plan(2, loss=loss), model.plan(2, RANK1, 1, loss)
    f, forward = forward_work(model, primal, 2), forward_work(model, dual, 2)
    backward = reverse_work(model, reverse.ReversePlan(model, 2, loss))
    convolutions = [28 * 28 * 9 * 64, 28 * 28 * 9 * 64**2, 14 * 14 * 9 * 64**2, 14 * 14 * 9 * 64**2]
    products = 2 * (sum(convolutions) + 3136 * 1024 + 1024 * 10)
    assert f.multiply_adds == products
    assert backward.multiply_adds == 3 * products - 2 * convolutions[0]
    assert forward.multiply_adds == 2 * products - 2 * convolutions[0]
    # Filtering: 16 products for 36, of all convolutions but the first.
    saved = 2 * sum(convolutions[1:]) * (1 - 16 / 36)
    tolerances.COUNTED.check(f.executed, products - saved)
    tolerances.COUNTED.check(backward.executed, backward.multiply_adds - 3 * saved)
    tolerances.COUNTED.check(f.floor(f.executed / 1e9, 1e30), f.executed / 1e9)


def test_goals_are_of_one_direction_at_batch_64(report):
    (logreg, sixteen, gaussian, small), found = report["ratios"][:4], ratio_goals.of_ratios
    bounds = [(figure.name.partition(" (")[0], figure.at_most) for figure in found(logreg)]
    assert bounds == [
        ("drawing's share of a step, logreg, rank1", 0.03),
        ("Rf of logreg, rank1", 1.5),
        ("Rf/Rb of logreg, rank1", 1.0),
        ("forward step over reverse step of logreg, rank1", 1.0),
    ]
    assert [figure.measured for figure in found(logreg)][1:] == [
        logreg[key] for key in ("rf", "rf_over_rb", "step_over_reverse_step")
    ]
    assert found(sixteen) == found(gaussian) == found(small) == []
    assert len(found(logreg | {"direction": "rademacher"})) == 1


def test_the_faster_peer_has_the_goal(report):
    (jax, *_), torch = report["peers"], report["peers"][0] | {"peer": "PyTorch", "reverse_step_ms": 1.25}
    (figure,) = ratio_goals.of_peers([jax, torch | {"our_step_over_its_reverse_step": 0.75}])
    assert (figure.name, figure.met) == ("logreg step over PyTorch's reverse step (1.25 ms)", False)
    assert [one.at_most for one in ratio_goals.of_peers(report["peers"])] == [0.5, 0.5, 0.36]
    assert ratio_goals.of_peers([]) == ratio_goals.of_peers([jax | {"direction": "gaussian"}]) == []


def test_a_report_shows_its_goals_and_one_of_old_has_none(report):
    figures = ratio_goals.of_ratios(report["ratios"][0] | {"rf": 1.25, "step_over_reverse_step": 2.0})
    with_goals = report | {"goals": [figure.as_json() for figure in figures]}
    text = suite.as_text(with_goals)
    assert re.search(r"^Rf of logreg, rank1 \(.*\) +1\.25 +<= 1\.5  met$", text, re.M)
    assert re.search(r"^forward step over reverse step of logreg, rank1 +2 +<= 1  MISSED$", text, re.M)
    assert "Goals" not in suite.as_text(report)


def test_the_command_without_peers_and_with_a_goal_that_is_missed(fgtrain, folder, monkeypatch):
    monkeypatch.setattr("fgnumba.bench.measure.peers.PEERS", {})
    monkeypatch.setattr(ratio_goals, "RATIOS", {"logreg": (1e9, 1e-9)})
    short = ("bench", "--quick", "--network", "logreg", "--seconds", 0.2)
    done = fgtrain(*short, "--json", "out.json")
    assert done.code == 0
    report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert report["peers"] == []
    assert [figure["met"] for figure in report["goals"]][1:] == [True, False, False]
    assert done.out.count("MISSED") >= 2
    done = fgtrain(*short, "--goals")
    assert done.code == 1
    assert "goal missed: Rf/Rb of logreg, rank1" in done.err
    assert "Rf of logreg, rank1" in done.out
    assert "goal missed: Rf of" not in done.err


def test_what_was_measured_is_printed_whatever_becomes_of_its_files(fgtrain, folder, report, monkeypatch):
    monkeypatch.setattr(suite, "run", lambda *_: report)

    def fail(content, *_):
        if content["ratios"]:
            raise RuntimeError("no fonts")
        return ""

    monkeypatch.setattr("fgnumba.bench.report.report.page", fail)
    done = fgtrain("bench", "--html", "out.html", "--json", "out.json")
    assert (done.code, "Rf/Rb" in done.out) == (0, True)
    assert "out.html is left out: RuntimeError: no fonts" in done.err.splitlines()
    assert json.loads((folder / "out.json").read_text(encoding="utf-8"))["ratios"]
    (folder / "folder").mkdir()
    assert "is a folder, or in one that is not writable" in fgtrain("bench", "--json", "folder").error


def test_links_stay_and_devices_are_refused(fgtrain, folder, report, monkeypatch):
    monkeypatch.setattr(suite, "run", lambda *_: report)
    (folder / "link").symlink_to("file")
    assert fgtrain("bench", "--json", "link").code == 0
    assert (folder / "link").is_symlink()
    assert json.loads((folder / "file").read_text())["ratios"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        assert fgtrain("bench", "--html", "pipe").error.startswith("--html: 'pipe' is no file; ")


def test_steps_of_the_harness_move_nothing():
    trainer = fg.Trainer(networks.logreg(), optimizer=fg.SGD(RATE))
    before = trainer.model.parameters()["1.weight"]
    x, y = networks.data(64)
    for _ in range(3):
        trainer.step(x, y)
    # Parameters of 1e-5 or less may feel it in their last bit.
    tolerances.UNMOVED.check(trainer.model.parameters()["1.weight"], before)


def test_every_direction_count_and_batch_is_measured():
    found = cases()
    for name in networks.NETWORKS:
        of_network = [case for case in found if case.network == name]
        assert {(c.direction, c.directions) for c in of_network if c.batch == 64} == {
            (direction, count)
            for direction in ("rank1", "orthogonal", "rademacher", "gaussian")
            for count in (1, 4, 16)
        }
        assert {case.batch for case in of_network} == {1, 8, 64, 256, 1024}


def test_the_command(fgtrain, folder):
    done = fgtrain(
        "bench", "--quick", "--network", "logreg", "--no-peers", "--seconds", 0.2, "--json", "out.json"
    )
    assert done.code == 0
    assert "Rf/Rb" in done.out
    assert "measuring 2/2: logreg, 1 x rank1, batch 64" in done.err
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    (row,) = found["ratios"]
    assert (row["name"], row["direction"], row["directions"], row["batch"]) == ("logreg", "rank1", 1, 64)
    assert {"rf", "rb", "rf_ideal", "rb_ideal", "step_ms", "peak_bytes"} <= row.keys()
    assert found["peers"] == []
    assert found["machine"]["threads"] >= 1


def test_reports_name_the_precisions_and_no_goals_of_bfloat16(monkeypatch):
    monkeypatch.setenv("FGNUMBA_VECTOR", "avx512bf16-twin")
    row = measure(Case("logreg", batch=64, device=Cpu("float32", "bf16")), BANDWIDTH, 0.1, rounds=5)
    named = ("avx512bf16-twin", "float32", "bf16")
    assert tuple(row[key] for key in ("instruction_set", "precision", "tangent_precision")) == named
    facts = machine.facts(Cpu("float32", "bf16"))
    assert tuple(facts[key] for key in ("instruction_set", "precision", "tangent_precision")) == named
    assert ratio_goals.of_ratios(row) == []
    assert ratio_goals.of_ratios(row | {"tangent_precision": "float32"}) != []
    facts |= {"bandwidth_bytes_per_second": BANDWIDTH, "peak_flops": 1e9}
    text = suite.as_text({"machine": facts, "ratios": [row], "peers": []})
    assert "products on avx512bf16-twin: float32, those of tangents bf16\n" in text


def test_the_precision_reaches_passes_steps_and_reverse_mode(monkeypatch):
    monkeypatch.setenv("FGNUMBA_VECTOR", "avx512bf16-twin")
    device, seen = Cpu("bf16x2", "bf16"), []

    def timed(contenders, *_):
        seen.extend(contenders)
        return Timings({name: [1.0] * 5 for name in contenders})

    monkeypatch.setattr(ratios, "interleaved", timed)
    measure(Case("logreg", device=device), BANDWIDTH)
    assert {"peak", "bf16x2 peak", "bf16 peak"} <= set(seen)
    model = networks.network("logreg", device)
    plan = reverse.ReversePlan(model, 2, fg.SoftmaxCrossEntropy())
    assert (plan.isa.precision, plan.isa.tangent_precision) == ("bf16x2", "bf16")
    trainer = ratios.trainer(Case("logreg", device=device))
    assert trainer.model.processor is device
    assert all(case.device is device for case in (*cases(device=device), *cases(True, device)))


def test_peaks_by_precision(monkeypatch):
    monkeypatch.setenv("FGNUMBA_VECTOR", "avx512bf16-twin")
    twin = instruction_set()
    counts = {name: machine.Peak(1, twin.multiplying(name)).multiply_adds for name in PRECISIONS}
    # A twin multiplies as float32 does, once for each term.
    assert [counts["float32"] // counts[name] for name in ("bf16", "bf16x2", "bf16x3")] == [1, 3, 6]
    peak = machine.Peak(1)
    assert peak.multiply_adds == counts["float32"]
    peak()
    hardware = [name for name in MULTIPLYING if name in executable()]
    for name in hardware:
        peak = machine.Peak(1, instruction_set(name).multiplying("bf16"))
        assert peak.multiply_adds > counts["float32"]
        if not numba.config.CPU_NAME:
            peak()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precision", "bf8"), "precision is 'bf8'"),
        (("--tangent-precision", "bf16x"), "tangent_precision is 'bf16x' (did you mean"),
        (("--network", "mpl"), "network: unknown network 'mpl' (did you mean 'mlp'?)"),
        (("--batch", "0"), "batch is 0; a whole number of at least 1 is required"),
        (("--seconds", "0"), "seconds is 0.0; a finite number above 0 is required"),
        (("--json", "no/such/out.json"), "--json: 'no/such/out.json' is in no folder that exists"),
        (("--html", ""), "--html: '' is in no folder that exists"),
    ],
)
def test_bad_options(fgtrain, arguments, message):
    assert message in fgtrain("bench", *arguments).error


def test_a_processor_without_the_precision_is_refused(fgtrain, monkeypatch):
    monkeypatch.setenv("FGNUMBA_VECTOR", "generic")
    error = fgtrain("bench", "--quick", "--precision", "bf16").error
    assert "precision: bf16 needs a processor that multiplies bfloat16" in error


def test_the_command_with_a_precision(fgtrain, folder, monkeypatch):
    monkeypatch.setenv("FGNUMBA_VECTOR", "avx512bf16-twin")
    short = ("bench", "--quick", "--network", "logreg", "--no-peers", "--seconds", 0.2, "--json", "out.json")
    done = fgtrain(*short, "--precision", "bf16x3", "--tangent-precision", "bf16")
    assert done.code == 0
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert found["goals"] == []
    for values in (found["machine"], *found["ratios"]):
        assert values["instruction_set"] == "avx512bf16-twin"
        assert (values["precision"], values["tangent_precision"]) == ("bf16x3", "bf16")


@pytest.mark.parametrize(("precision", "count"), [("float32", 2), ("bf16", 6)])
def test_peers_of_bfloat16_run_beside_products_of_bfloat16(monkeypatch, precision, count):
    monkeypatch.setenv("FGNUMBA_VECTOR", "avx512bf16-twin")
    monkeypatch.setattr(peers, "installed", lambda names: dict.fromkeys(names, calls))

    def calls(*_):
        return dict.fromkeys(CALLS, lambda: None)

    monkeypatch.setattr(
        suite, "interleaved", lambda contenders, *_: Timings({name: [1.0] * 5 for name in contenders})
    )
    rows = suite.measure_peers("logreg", "rank1", 0.1, device=Cpu(precision))
    assert [row["peer"] for row in rows] == list(peers.PEERS)[:count]
    assert {row["precision"] for row in rows} == {precision}
    assert bool(ratio_goals.of_peers(rows)) == (precision == "float32")


def test_the_table_of_a_report(report):
    text = suite.as_text(report)
    assert len(text.splitlines()) > 15
    disturbed = report | {
        "ratios": [report["ratios"][0] | {"disturbed": "others took 30% of the processors"}]
    }
    assert "NOT QUIET during logreg, 1 x rank1, batch 64: others took 30%" in suite.as_text(disturbed)


def test_the_table_of_ratios_and_the_page(report, tmp_path, monkeypatch):
    monkeypatch.setattr(results_page, "DATA", tmp_path)
    for name in results_page.BENCHES:
        for run in ("", ".1", ".2"):
            (tmp_path / f"{name}{run}.json").write_text(json.dumps(report))
    table = results_page.ratios_table()
    assert all(line.count("|") == 4 for line in table.splitlines())
    assert len(table.splitlines()) == 2 + len(results_page.LINES)
    text = results_page.with_table(f"before {results_page.BEGIN} old {results_page.END} after", table)
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert " old " not in text
    assert results_page.with_table(text, table) == text
    assert "## One core" in results_page.page()


def test_the_committed_results_are_what_the_page_is_made_of():
    folder = results_page.FOLDER
    if not (folder / "README.md").exists():
        pytest.skip("installed without the repository")
    assert (folder / "README.md").read_text(encoding="utf-8") == results_page.page()
    assert results_page.ratios_table() in results_page.BENCHMARKS.read_text(encoding="utf-8")
    assert results_page.learning_table() in results_page.BENCHMARKS.read_text(encoding="utf-8")
