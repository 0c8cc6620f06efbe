"""Dense layers whose factors are bfloat16, on every set of instructions and its twin.

Given directions are compared with float64; those that are drawn with the same draws in float32, whose kernels are
compared with float64 elsewhere.
"""

import numpy as np
import pytest

from fgnumba.bench.measure.dense_products import VARIANTS, output
from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.ops.dense import split_cpu
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.kernels.shared.product import dot_tiles
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances_precision

SETS = [name for name in vector.MULTIPLYING if name in vector.executable()] + list(vector.TWINS)
PAIRS = [
    ("bf16x3", "bf16x3"),
    ("bf16x2", "bf16x2"),
    ("bf16", "bf16"),
    ("float32", "bf16"),
    ("bf16x3", "bf16"),
    ("bf16", "float32"),
]
SHAPES = [(1, 65, 10), (35, 70, 40), (66, 161, 130)]
"""Rows, K and N: less than a tile, whole tiles and a rest, and several panels of which the last is not whole."""


pytestmark = pytest.mark.usefixtures("three_parts")


def isa_of(name, pair):
    return vector.instruction_set(name).multiplying(*pair)


def explicit(isa, rows, inputs, outputs, count=2, seed=0):
    """Return what a layer without an activation computes, its float64 values, and the sizes of their sums."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x, w, v, b, c = (
        normal(1 + count, rows, inputs),
        normal(inputs, outputs),
        normal(count, inputs, outputs),
        normal(outputs),
        normal(count, outputs),
    )
    buffer = aligned((1 + count, rows, leading(inputs)))
    buffer[..., :inputs] = x
    y = aligned((1 + count, rows, leading(outputs)))
    weight = pack(w)
    biases = aligned((len(weight) * PANEL,)), aligned((count, len(weight) * PANEL))
    biases[0][:outputs], biases[1][:, :outputs] = b, c
    weights = Weights(
        weight,
        biases[0],
        EXPLICIT,
        count,
        bias_parameter=1,
        v=np.stack([pack(each) for each in v]),
        v_bias=biases[1],
    )
    operation = dense.bind(
        isa,
        1,
        batch=rows,
        x=Images.of_batch(buffer, (inputs,), True),
        y=Images.of_batch(y, (outputs,), True),
        outputs=outputs,
        weights=weights,
        activation_name="identity",
    )
    Program([operation], 1).run()
    x, w, v = x.astype(float), w.astype(float), v.astype(float)
    exact = np.concatenate([(x[0] @ w + b)[None], x[1:] @ w + x[0] @ v + c[:, None]])
    sizes = np.concatenate([(abs(x[0]) @ abs(w))[None], abs(x[1:]) @ abs(w) + abs(x[0]) @ abs(v)])
    return y[..., :outputs], exact, sizes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
@pytest.mark.parametrize("name", SETS)
def test_errors_are_those_of_the_precisions(name, pair, shape):
    found, exact, sizes = explicit(isa_of(name, pair), *shape)
    for t, precision in enumerate((pair[0], pair[1], pair[1])):
        terms = shape[1] * (1 + (t > 0))
        magnitude = sizes[t].max() + abs(exact[t]).max()
        tolerances_precision.product_within(precision, terms, magnitude).check(found[t], exact[t])
        # Factors of eight bits are seen in the results, longer ones hardly.
        least = 2.0**-12 * np.sqrt(np.mean(np.square(exact[t])))
        assert (abs(found[t] - exact[t]).max() > least) == (precision == "bf16")


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
@pytest.mark.parametrize("variant", VARIANTS)
def test_drawn_directions_are_those_of_float32(variant, pair):
    rows, inputs, outputs = 35, 161, 40
    name = SETS[0]
    exact = output(variant, rows, inputs, outputs, 1, isa_of(name, ("float32", "float32")))
    found = output(variant, rows, inputs, outputs, 1, isa_of(name, pair))
    assert found.shape == exact.shape
    # A unit close to its kink may be on the other side.
    same = (found[0] > 0) == (exact[0] > 0)
    assert np.mean(same) > 0.95
    # Both factors of a sum's terms are normal numbers: its size is about 0.64 K, 0.8 K with V's.
    for t, precision in enumerate((pair[0], *[pair[1]] * (len(found) - 1))):
        bound = tolerances_precision.product_within(precision, 2 * inputs, 8 * inputs)
        bound.check(found[t][same], exact[t][same].astype(float))


@pytest.mark.parametrize("precision", [name for name, each in PRECISIONS.items() if each.parts])
@pytest.mark.parametrize("variant", ["primal", "rank1", "rank1-x4", "gaussian", "explicit-input"])
def test_bits_depend_neither_on_threads_nor_on_chunks_and_blocks(variant, precision, monkeypatch):
    shape = 101, 200, 200
    for name in (SETS[0], "amx-twin"):
        isa = isa_of(name, (precision, precision))
        expected = output(variant, *shape, 1, isa)
        np.testing.assert_array_equal(output(variant, *shape, thread_count(None), isa), expected)
        with monkeypatch.context() as patch:
            patch.setattr(split_cpu, "CACHED_ROWS", dict.fromkeys(split_cpu.CACHED_ROWS, 1))
            patch.setattr(split_cpu, "CACHED_BLOCK", dict.fromkeys(split_cpu.CACHED_BLOCK, 64))
            for kept in (0, split_cpu.KEPT):
                patch.setattr(split_cpu, "KEPT", kept)
                np.testing.assert_array_equal(output(variant, *shape, 1, isa), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pair", PAIRS[:3], ids="/".join)
def test_a_set_computes_the_bits_of_its_twin(variant, pair):
    for name in SETS:
        if f"{name}-twin" in vector.TWINS:
            for shape in SHAPES:
                one = output(variant, *shape, 1, isa_of(name, pair))
                other = output(variant, *shape, 1, isa_of(f"{name}-twin", pair))
                np.testing.assert_array_equal(one, other)


def test_float32_stands_for_three_parts_where_it_is_faster(monkeypatch):
    monkeypatch.undo()
    isa = isa_of("amx-twin", ("bf16x3", "bf16x3"))
    exact, few = isa.multiplying("float32"), (dot_tiles.LEAST_ROWS - 1, 40, dot_tiles.LEAST_PANELS * PANEL)
    narrow = dot_tiles.LEAST_ROWS, 40, (dot_tiles.LEAST_PANELS - 1) * PANEL
    for shape in (few, narrow):
        np.testing.assert_array_equal(output("rank1", *shape, 1, isa), output("rank1", *shape, 1, exact))
    large = dot_tiles.LEAST_ROWS, 40, dot_tiles.LEAST_PANELS * PANEL
    assert (output("rank1", *large, 1, isa) != output("rank1", *large, 1, exact)).any()
    other = isa_of("avx512bf16-twin", ("bf16x3", "bf16x3"))
    assert (output("rank1", *few, 1, other) != output("rank1", *few, 1, exact)).any()
