"""The dense kernel beyond the JVPs of models: memory that it must not touch, parts, threads, NaN."""

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM, set_stream
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances

KINDS = {
    "none": directions.NONE,
    "rank1": directions.RANK1,
    "rademacher": directions.RADEMACHER,
    "gaussian": directions.GAUSSIAN,
    "explicit": directions.EXPLICIT,
}
CASES = [
    (kind, has_tangent, bias, count)
    for kind in KINDS
    for has_tangent in (False, True)
    for bias in (False, True)
    for count in ((0,) if kind == "none" else (1, 3))
]
SHAPES = [
    (1, 1, 1),
    (1, 300, 131),
    (2, 17, 33),
    (11, 64, 32),
    (12, 7, 10),
    (23, 129, 65),
    (64, 31, 16),
    (97, 13, 257),
]


def run(case, shape, threads=1, isa=None, poison=False):
    """Return the dual output of a dense layer on random numbers, after checking what may not change."""
    (kind, has_tangent, bias, count), (batch, inputs, outputs) = case, shape
    rng = np.random.default_rng(batch + inputs)
    blocks = 1 + count
    x = aligned((blocks if has_tangent else 1, batch, leading(inputs)))
    x[...] = np.nan
    x[:, :, :inputs] = rng.standard_normal((x.shape[0], batch, inputs))
    if poison:
        x[0, batch // 2, 0] = np.nan
    weight, biases = pack(rng.standard_normal((inputs, outputs))), pack(rng.standard_normal(outputs) * bias)
    stream = np.zeros(1, STREAM)
    set_stream(stream, 99, 4)
    panels = len(weight)
    guard = 64
    memory = aligned((guard + blocks * batch * leading(outputs) + guard,))
    memory[...] = -7777.0
    y = memory[guard:-guard].reshape(blocks, batch, leading(outputs))
    explicit = kind == "explicit"
    operation = dense.bind(
        isa or vector.instruction_set(),
        threads,
        batch=batch,
        x=Images.of_batch(x, (inputs,), has_tangent and count > 0),
        y=Images.of_batch(y, (outputs,), count > 0),
        outputs=outputs,
        weights=Weights(
            weight=weight,
            bias=biases,
            kind=KINDS[kind],
            count=count,
            first=5,
            parameter=2,
            bias_parameter=3 if bias else -1,
            stream=stream,
            v=np.stack([pack(rng.standard_normal((inputs, outputs))) for _ in range(count)])
            if explicit
            else None,
            v_bias=np.stack([pack(rng.standard_normal(outputs)) for _ in range(count)])
            if explicit and bias
            else None,
        ),
        activation_name="tanh",
    )
    before = x.copy(), weight.copy(), biases.copy()
    Program([operation]).run()
    for array, copy in zip((x, weight, biases), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert (memory[:guard] == -7777.0).all()
    assert (memory[-guard:] == -7777.0).all()
    assert (y[:, :, panels * PANEL :] == -7777.0).all()
    return y[:, :, :outputs].copy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads_and_cuts_change_no_bit(case, shape):
    one = run(case, shape)
    assert np.isfinite(one).all()
    for threads in (2, 5):
        np.testing.assert_array_equal(run(case, shape, threads=threads), one)


@pytest.mark.parametrize("kind", KINDS)
def test_large_layers_are_cut_for_threads_and_change_no_bit(kind):
    count = 0 if kind == "none" else 1
    for shape in ((97, 700, 300), (200, 600, 20), (1, 3000, 500), (130, 2100, 40)):
        one = run((kind, True, True, count), shape)
        for threads in (2, 3, 4):
            np.testing.assert_array_equal(run((kind, True, True, count), shape, threads=threads), one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", vector.executable())
def test_instruction_sets_agree(name, kind):
    count = 0 if kind == "none" else 2
    for shape in ((1, 5, 7), (13, 67, 45), (40, 33, 129)):
        found = run((kind, True, True, count), shape, isa=vector.INSTRUCTION_SETS[name])
        # The same sums in the same order; where multiply-adds do not fuse, each rounds once more.
        tolerances.INSTRUCTION_SETS.check(found, run((kind, True, True, count), shape))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_in_its_row(kind):
    count = 0 if kind == "none" else 1
    y = run((kind, True, True, count), (9, 20, 40), poison=True)
    nan = np.isnan(y).any(axis=2)
    assert nan[:, 4].all()
    assert not nan[:, np.arange(9) != 4].any()
