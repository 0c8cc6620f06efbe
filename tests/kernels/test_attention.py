"""The kernels of attention: slope in closed form, logarithms, and the same bits however work is cut."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.attention import cpu
from fgnumba.kernels.rules.philox import STREAM, set_stream
from tests.attention_cases import case, wide
from tests.references import attention_reference
from tests.tolerances_attention import attention_within

ISA = vector.instruction_set()
CASES = [0, 4, 6, 7, 12, 19, 22, 41, 56, 58, 63, 179]
"""Case numbers: with and without masks and dropout, grouped heads, queries that see no key, several blocks."""


def heads(*arrays):
    """Return a buffer of a primal and the tangents that there are, as heads."""
    blocks = [array for array in arrays if array is not None]
    memory = aligned((sum(len(x) for x in blocks), *blocks[0].shape[1:]), blocks[0].dtype)
    np.concatenate(blocks, out=memory)
    return Heads.of_array(memory, len(blocks) > 1)


class Bound:
    """One case bound to its kernels, forward and slope in closed form."""

    def __init__(self, one, isa=ISA, threads=1):
        options = dict(one.options)
        stream = np.zeros(1, STREAM)
        set_stream(stream, options.pop("seed", 0), 0)
        mask = options.pop("mask", None)
        shape = one.seen.shape
        options |= {"scale": one.scale, "stream": stream, "batch": shape[0]}
        options["mask"] = None if mask is None else Mask.of_array(np.broadcast_to(mask, shape))
        q, k, v = (heads(x[None], dx) for x, dx in zip(one.operands, one.tangents, strict=True))
        count = next((len(x) for x in one.tangents if x is not None), 0)
        dtype = one.operands[0].dtype
        result = (*shape[:3], one.operands[2].shape[-1])
        self.y = np.full((1 + count, *result), np.nan, dtype)
        self.logs = np.full(shape[:3], np.nan, dtype)
        signal = np.random.default_rng(1).standard_normal((1, *result)).astype(dtype)
        self.signal = signal[0]
        self.gradients = [np.full((1, *x.shape), np.nan, dtype) for x in one.operands]
        dq, dk, dv = (Heads.of_array(x) for x in self.gradients)
        y = Heads.of_array(self.y, True)
        shared = {"q": q, "k": k, "v": v, "y": y, "log_sum_exp": self.logs, **options}
        forward = cpu.bind(isa, threads, count=count, **shared)
        slope = cpu.bind_gradients(isa, threads, signal=Heads.of_array(signal), dq=dq, dk=dk, dv=dv, **shared)
        self.parts = forward.parts
        for operations in ([forward], slope):
            Program(operations, 1).run()

    @property
    def results(self):
        return [self.y, self.logs, *self.gradients]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", CASES)
def test_the_slope_in_closed_form_agrees_with_float64(seed, dtype):
    one = case(seed, dtype)
    bound = Bound(one)
    q, k, v = (wide(x) for x in one.operands)
    expected, sizes = attention_reference.gradients(
        q, k, v, wide(bound.signal), one.scale, one.seen, one.added, one.factors
    )
    for name, found, right, size in zip("qkv", bound.gradients, expected, sizes, strict=True):
        attention_within(dtype, size).check(found[0], right, f"d{name} of case {seed}")
    logs = one.expected()[3]
    seen = np.isfinite(logs)
    np.testing.assert_array_equal(bound.logs[~seen], -np.inf)
    attention_within(dtype, 1 + abs(logs[seen]).max(initial=0)).check(bound.logs[seen], logs[seen])


def test_the_reference_is_the_slope_of_its_own_result():
    rng = np.random.default_rng(2)
    one = case(4, "float64")
    q, k, v = operands = [wide(x) for x in one.operands]
    moved = [rng.standard_normal((1, *x.shape)) for x in operands]
    signal = rng.standard_normal((*one.seen.shape[:3], operands[2].shape[-1]))
    rest = one.scale, one.seen, one.added, one.factors
    _, dy, _, _ = attention_reference.attention_jvp(q, k, v, moved, *rest)
    found, _ = attention_reference.gradients(q, k, v, signal, *rest)
    along = sum((x * dx[0]).sum() for x, dx in zip(found, moved, strict=True))
    size = sum(abs(x * dx[0]).sum() for x, dx in zip(found, moved, strict=True))
    attention_within("float64", size).check(along, (signal * dy[0]).sum())


@pytest.mark.parametrize("seed", [6, 19, 179])
def test_bits_do_not_depend_on_parts_and_instruction_sets(seed):
    for dtype in ("float32", "float64"):
        one = case(seed, dtype)
        first = Bound(one)
        others = [Bound(one, threads=8)]
        others += [Bound(one, INSTRUCTION_SETS[name]) for name in vector.executable()[1:]]
        for other in others:
            for found, right in zip(other.results, first.results, strict=True):
                np.testing.assert_array_equal(found, right)


def test_work_is_cut_into_parts_for_threads():
    one = case(22, "float32")
    q = np.ones((1, 2, 300, 64), np.float32)
    held = Heads.of_array(q[None])
    operation = cpu.bind(
        ISA, 8, batch=1, count=0, q=held, k=held, v=held, y=Heads.of_array(q.copy()[None]), scale=1.0
    )
    assert operation.parts == 6
    assert operation.multiply_adds == 2 * 2 * 300 * 300 * 64
    assert Bound(one).parts == 1


def test_causality_saves_half_of_the_products():
    q = Heads.of_array(np.ones((1, 1, 1, 64, 8), np.float32))
    k = Heads.of_array(np.ones((1, 1, 1, 100, 8), np.float32))
    y = Heads.of_array(np.ones((1, 1, 1, 64, 8), np.float32))
    for one, other, pairs in ((q, k, sum(range(37, 101))), (k, q, sum(range(65)))):
        out = y if one is q else Heads.of_array(np.ones((1, 1, 1, 100, 8), np.float32))
        operation = cpu.bind(ISA, 1, batch=1, count=0, q=one, k=other, v=other, y=out, scale=1.0, causal=True)
        assert operation.multiply_adds == pairs * 16


@pytest.mark.parametrize("mask", ["boolean", "added"])
def test_the_slope_of_what_is_not_seen_is_no_nan(mask):
    one = case(13, "float32")
    hidden = np.arange(one.seen.shape[-1]) % 5 == 1
    seen = np.broadcast_to(~hidden, one.seen.shape)
    given = seen if mask == "boolean" else np.where(seen, 0, -np.inf).astype(np.float32)
    one = replace(one, options={"mask": given}, seen=seen)
    right = Bound(one)
    q, *others = (x.copy() for x in one.operands)
    for x in others:
        x[:, :, hidden] = np.nan
    found = Bound(replace(one, operands=(q, *others)))
    for bad, good in zip(found.gradients, right.gradients, strict=True):
        attention_within("float32", 1 + abs(good).max()).check(bad, good)
    assert not found.gradients[1][0][:, :, hidden].any()


def test_columns_of_sequences_by_position_are_heads():
    buffer = np.zeros((3, 2 * 5, 40), np.float32)
    images = Images.of_batch(buffer, (5, 24), has_tangent=True, by_position=True)
    found = Heads.of(images.channels_from(12, 12), 3)
    assert found.shape == (3, 5, 4)
    assert (found.start, found.block, found.example, found.head, found.row) == (12, 400, 200, 4, 40)
    assert found.has_tangent


def test_operands_that_do_not_fit_are_refused():
    q = Heads.of_array(np.ones((1, 1, 4, 5, 8), np.float32))
    k = Heads.of_array(np.ones((1, 1, 3, 5, 8), np.float32))
    short = Heads.of_array(np.ones((1, 1, 4, 5, 7), np.float32))
    wide_q = Heads.of_array(np.ones((1, 1, 4, 5, 8)))
    mask = Mask.of_array(np.ones((1, 4, 5, 5)))
    for operands, more, error, text in (
        ((q, k, k), {}, ShapeError, "4 heads of queries, 3 of keys, 3 of values"),
        ((q, short, q), {}, ShapeError, r"D and Dv from 1 to 256"),
        ((q, wide_q, q), {}, ConfigError, "k is float64, q float32"),
        ((q, q, q), {"mask": mask}, ConfigError, "the mask is float64"),
        ((q, q, q), {"dropout": 0.5}, ConfigError, "come with a stream"),
    ):
        named: Any = dict(zip("qkv", operands, strict=True))
        with pytest.raises(error, match=text):
            cpu.bind(ISA, 1, batch=1, count=0, **named, y=q, scale=1.0, **more)
