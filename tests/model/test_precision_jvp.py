"""JVPs by precision of products, against float64 NumPy that shares no code with ours."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.devices.precision import EXACT
from fgnumba.kernels.emit import vector
from tests import precision_networks as networks
from tests import tolerances_precision as tolerances
from tests.places import ROOT
from tests.references.graph_reference import nearest_kink
from tests.tolerances import NEAR_A_KINK

HARDWARE = tuple(name for name in vector.MULTIPLYING if name in vector.executable())
SET = "avx512bf16" if "avx512bf16" in HARDWARE else "avx512bf16-twin"
"""The set of most tests, whose products are in parts however small they are; the twin has the same bits."""
PROMISED = 1e-5
"""The error, over ‖∇f‖ ‖v‖, that is promised of what `auto` stands for."""


QUICK = ("digits, 64 x 64 x 10", 0), ("digits, 64 x 64 x 10", 300), ("convolutions", 0), ("LSTM", 0)
"""Networks and steps of training."""


def worst(name, seed=1, steps=0, draws=2, pairs=networks.PAIRS):
    """Return the largest error by pair of precisions, each of which is within its bound."""
    network, found = networks.NETWORKS[name], dict[tuple[str, str], float]()
    near = network.kinks and nearest_kink(*networks.problem(name, seed, steps)[:2]) <= NEAR_A_KINK
    for pair, kinds in networks.errors(name, seed, steps, draws, pairs).items():
        bound = tolerances.derivative_within(pair, network.products, network.kinks)
        bound += tolerances.CROSSED if near else 0.0
        for kind, errors in kinds.items():
            largest = float(errors[:, 0].max())
            assert largest <= bound, f"{'/'.join(pair)}, {kind}: {largest:.3g} over a bound of {bound:.3g}"
            found[pair] = max(found.get(pair, 0.0), largest)
    return found


def written():
    """Return the errors on the page of precisions, by network and pair."""
    text = (ROOT / "docs" / "concepts" / "precision.md").read_text(encoding="utf-8")
    rows = [
        [cell.replace("`", "").strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| network") or any(line.startswith(f"| {name} |") for name in networks.NETWORKS)
    ]
    (_, *heads), *rows = rows
    pairs = {networks.pair_name(pair): pair for pair in networks.PAIRS}
    return {
        name: {pairs[head]: float(cell) for head, cell in zip(heads, cells, strict=True)}
        for name, *cells in rows
    }


def follows_the_page(name, pair):
    """Return whether an error is one of tangents, or smooth: not of a unit on the other side of its kink."""
    return not networks.NETWORKS[name].kinks or pair[1] == "bf16"


@pytest.mark.parametrize(("name", "steps"), QUICK)
def test_errors_of_derivatives_are_within_their_bounds_and_those_of_the_page(name, steps, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, SET)
    page = written()[name]
    for pair, largest in worst(name, steps=steps, pairs=page).items():
        assert not follows_the_page(name, pair) or largest <= tolerances.PAGE * page[pair], pair


@pytest.mark.slow
@pytest.mark.parametrize("name", written())
def test_the_page_has_the_largest_errors(name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, SET)
    found = networks.largest(name)
    for pair, expected in written()[name].items():
        if follows_the_page(name, pair):
            assert expected / tolerances.PAGE <= found[pair] <= tolerances.PAGE * expected, pair


def test_what_auto_may_stand_for_keeps_the_promise_on_the_page():
    page = written()
    assert {name for name, _ in QUICK} < set(page)
    for name, errors in page.items():
        assert errors["bf16", "bf16"] > PROMISED
        if networks.NETWORKS[name].kinks:
            continue
        for precision in ("float32", EXACT):
            assert (
                errors[precision, precision]
                <= tolerances.derivative_within((precision, precision), 1)
                <= PROMISED
            )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("steps", networks.STEPS)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_errors_of_derivatives_of_every_network(name, steps, seed, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, SET)
    worst(name, seed, steps, draws=6)


@pytest.mark.parametrize("isa", [*HARDWARE, *vector.TWINS])
def test_errors_of_derivatives_on_every_set(isa, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, isa)
    worst("3 x 4 x 3", steps=30, pairs=(("bf16x3", "bf16x3"), ("bf16x3", "bf16x2"), ("bf16", "bf16")))


@pytest.mark.slow
@pytest.mark.parametrize("isa", vector.TWINS)
@pytest.mark.parametrize("name", ["digits, 64 x 64 x 10", "convolutions", "LSTM", "transformer block"])
def test_errors_of_derivatives_of_layers_on_twins(name, isa, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, isa)
    worst(name, steps=30)


def test_a_precision_is_as_exact_as_its_parts(monkeypatch):
    """See that fewer parts are less exact: the errors are those of the precisions, and the bounds can be broken."""
    monkeypatch.setenv(vector.OVERRIDE, SET)
    pairs = ("bf16x3",) * 2, ("bf16x3", "bf16x2"), ("float32", "bf16"), ("bf16",) * 2
    found = networks.errors("64 x 10", seed=1, draws=4, pairs=pairs)
    largest = [max(errors[:, 0].max() for errors in found[pair].values()) for pair in pairs]
    assert largest == sorted(largest)
    assert largest[0] <= tolerances.derivative_within(("bf16x3", "bf16x3"), 1)
    assert largest[2] > tolerances.derivative_within(("bf16x3", "bf16x2"), 1)


def products(pair, rng, count=4000):
    """Return relative errors of single products w x, and of the derivatives v x beside them: numbers of one layer."""
    x, w, v = (rng.uniform(1, 2, count).astype(np.float32) for _ in range(3))
    model = fg.Sequential([fg.Dense(1, bias=False)], 1, device=Cpu(*pair))
    found = np.empty((count, 2))
    for i in range(count):
        model.load_parameters({"0.weight": w[i].reshape(1, 1)})
        value, d = fg.jvp(
            model,
            fg.MeanSquaredError(),
            x[i].reshape(1, 1),
            np.zeros((1, 1), np.float32),
            {"0.weight": v[i].reshape(1, 1)},
        )
        exact = np.float64(x[i]) * w[i], np.float64(x[i]) * v[i]
        found[i] = np.sqrt(value) / exact[0] - 1, d / (2 * exact[0] * exact[1]) - 1
    return np.abs(found)


def test_a_derivative_of_one_product_tells_two_parts_from_three(monkeypatch):
    """A network of one product is where a tangent's precision shows: its derivative is ‖∇f‖ ‖v‖ itself."""
    monkeypatch.setenv(vector.OVERRIDE, SET)
    rng = np.random.default_rng(0)
    exact = products(("bf16x3", "bf16x3"), rng)[:, 1].max()
    two = products(("bf16x3", "bf16x2"), rng)[:, 1].max()
    assert exact <= tolerances.derivative_within(("bf16x3", "bf16x3"), 1)
    # More than the contract allows: why tangents of two parts are not chosen for anybody.
    assert tolerances.derivative_within(("bf16x3", "bf16x3"), 1) < two
    assert two <= tolerances.derivative_within(("bf16x3", "bf16x2"), 1)
