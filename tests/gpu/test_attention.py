"""Attention on a GPU, its tangents and its slope in closed form, against float64 and against the CPU."""

from typing import Any

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.attention import cpu, cuda
from fgnumba.kernels.rules.philox import STREAM, set_stream
from tests import tolerances_attention_gpu as tolerances
from tests.references import dual_attention_reference as reference

SEED, STEP, LAYER = 0xFEDCBA9876543210, 123456, 5
NONE = (False, False, False)
ALL = (True, True, True)
MOST = 100
"""Keys, beyond which sums are long."""


class Case:
    """Random operands: (1 + T, B, H, Lq, D) queries, (1 + T, B, G, Lk, D) keys and (1 + T, B, G, Lk, Dv) values."""

    def __init__(self, batch=1, heads=1, groups=1, queries=5, keys=7, size=4, values=4, count=1):
        self.rng = np.random.default_rng(queries + size)
        self.count, self.batch, self.scale = count, batch, 0.5
        self.q = self.normal(1 + count, batch, heads, queries, size)
        self.k = self.normal(1 + count, batch, groups, keys, size)
        self.v = self.normal(1 + count, batch, groups, keys, values)
        self.shape = (batch, heads, queries, keys)

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def forward(self, gpu, tangents=ALL, mask=None, rate=0.0, **options):
        """Return y and its tangents, and the logarithms of the sums, as a GPU computes them."""
        options = options | self.options(gpu, mask, rate)
        given = {
            name: Heads.of_array(gpu.array(values), has_tangent)
            for name, values, has_tangent in zip("qkv", (self.q, self.k, self.v), tangents, strict=True)
        }
        y = gpu.nans(1 + self.count, *self.shape[:3], self.v.shape[-1])
        sums = gpu.nans(*self.shape[:3])
        placed = {**given, "y": Heads.of_array(y, self.count > 0), "log_sum_exp": sums}
        gpu.run(cuda.bind(None, 1, batch=self.batch, count=self.count, scale=self.scale, **placed, **options))
        return y.download(), sums.download()

    def options(self, gpu, mask, rate):
        found: dict[str, Any] = {}
        if mask is not None:
            example, head, row = (
                stride // mask.itemsize for stride in np.broadcast_to(mask, self.shape).strides[:3]
            )
            found["mask"] = Mask(gpu.array(mask, mask.dtype), example, head, row, mask.dtype == np.bool_)
        if rate:
            found |= {"dropout": rate, "stream": gpu.stream(SEED, STEP), "layer": LAYER}
        return found

    def expected(self, tangents=ALL, **options):
        """Return the same in float64."""
        moved = (np.arange(1 + self.count) == 0).reshape(-1, 1, 1, 1, 1)
        q, k, v = (
            values if has_tangent else values * moved
            for values, has_tangent in zip((self.q, self.k, self.v), tangents, strict=True)
        )
        return reference.attention(q, k, v, self.scale, **options)

    def check(self, gpu, tangents=ALL, mask=None, rate=0.0, **options):
        found, sums = self.forward(gpu, tangents, mask, rate, **options)
        m = reference.factors(self.shape, rate, LAYER, STEP, SEED) if rate else 1.0
        y, expected_sums = self.expected(tangents, mask=mask, m=m, **options)
        self.compare(tolerances.ATTENDED, found[0], y[0])
        self.compare(tolerances.ATTENDED_TANGENT, found[1:], y[1:])
        self.compare(tolerances.LOG_SUM_EXP, sums, expected_sums)
        return found

    def compare(self, within, found, expected):
        (tolerances.ATTENDED_LONG if self.shape[-1] > MOST else within).check(found, expected)

    def check_gradients(self, gpu, mask=None, rate=0.0, **options):
        signal = self.normal(*self.shape[:3], self.v.shape[-1])
        m = reference.factors(self.shape, rate, LAYER, STEP, SEED) if rate else 1.0
        y, sums = self.expected(mask=mask, m=m, **options)
        given = {"q": self.q[0], "k": self.k[0], "v": self.v[0], "y": y[0], "signal": signal}
        written = {name: gpu.nans(1, *given[name[1:]].shape) for name in ("dq", "dk", "dv")}
        placed: Any = {name: gpu.array(values[None], np.float32) for name, values in given.items()} | written
        heads: Any = {name: Heads.of_array(array) for name, array in placed.items()}
        operations = cuda.bind_gradients(
            None,
            1,
            batch=self.batch,
            scale=self.scale,
            log_sum_exp=gpu.array(sums, np.float32),
            **heads,
            **options,
            **self.options(gpu, mask, rate),
        )
        gpu.run(*operations)
        expected = reference.gradients(
            self.q[0], self.k[0], self.v[0], signal, self.scale, mask=mask, m=m, **options
        )
        for array, signals in zip(written.values(), expected, strict=True):
            self.compare(tolerances.ATTENDED_SIGNALS, array.download()[0], signals)


# Sizes of 1 and primes, more than one tile of queries, of keys, of columns of queries and of values.
SIZES = [
    {"queries": 1, "keys": 1, "size": 1, "values": 1},
    {"batch": 2, "heads": 2, "queries": 3, "size": 5, "values": 3},
    {"queries": 33, "keys": 34, "size": 2, "values": 2},
    {"queries": 2, "keys": 2, "size": 37, "values": 65},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_and_tangents(gpu, sizes):
    Case(**sizes).check(gpu)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_slope_in_closed_form(gpu, sizes):
    Case(**sizes).check_gradients(gpu)


def test_heads_that_share_keys(gpu):
    case = Case(heads=4, groups=2, queries=2, keys=3, size=2, values=2)
    case.check(gpu)
    case.check_gradients(gpu)


@pytest.mark.parametrize(("queries", "keys"), [(33, 34), (5, 3)])
def test_causal(gpu, queries, keys):
    case = Case(queries=queries, keys=keys, size=2, values=2)
    case.check(gpu, causal=True)
    case.check_gradients(gpu, causal=True)


@pytest.mark.parametrize("tangents", [(True, False, False), (False, True, False), (False, False, True)])
def test_tangents_that_are_not_there(gpu, tangents):
    Case(count=2).check(gpu, tangents)


def test_no_tangents_at_all(gpu):
    np.testing.assert_array_equal(Case(count=2).check(gpu, NONE)[1:], 0)
    Case(count=0).check(gpu)


MASKS = {
    "boolean": lambda rng: rng.random((2, 1, 4, 5)) < 0.5,
    "additive": lambda rng: np.where(rng.random((1, 2, 4, 5)) < 0.5, rng.random((1, 2, 4, 5)), -np.inf),
    "of keys": lambda rng: rng.random((2, 1, 1, 5)) < 0.5,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(gpu, name):
    case = Case(batch=2, heads=2, queries=4, keys=5, size=2, values=2)
    mask = MASKS[name](case.rng)
    mask = mask if mask.dtype == np.bool_ else mask.astype(np.float32)
    hidden = (0, 0, -1)  # the last query of an example, or all of its queries
    mask[hidden] = False if mask.dtype == np.bool_ else -np.inf
    found = case.check(gpu, mask=mask)
    np.testing.assert_array_equal(found[:, 0, 0, -1], 0)
    case.check_gradients(gpu, mask=mask)


def test_dropout_is_that_of_the_cpu(gpu):
    case = Case(batch=2, heads=2, queries=3, keys=6)
    found = case.check(gpu, rate=0.375)
    stream, y = np.zeros(1, STREAM), np.empty_like(found)
    set_stream(stream, SEED, STEP)
    operation = cpu.bind(
        vector.instruction_set(),
        1,
        batch=2,
        count=1,
        q=Heads.of_array(case.q, True),
        k=Heads.of_array(case.k, True),
        v=Heads.of_array(case.v, True),
        y=Heads.of_array(y, True),
        scale=case.scale,
        dropout=0.375,
        stream=stream,
        layer=LAYER,
    )
    Program([operation]).run()
    tolerances.ATTENDED_TANGENT.check(found, y)


def test_dropout_of_later_tiles(gpu):
    Case(queries=34, keys=3).check(gpu, rate=0.5)
    Case(queries=2, keys=37).check_gradients(gpu, rate=0.5)


@pytest.mark.parametrize("size", [4, 3])
def test_heads_that_are_columns_of_one_buffer(gpu, size):
    rng = np.random.default_rng(size)
    batch, length, heads, groups, count = 2, 3, 2, 1, 1
    columns = (heads + 2 * groups) * size
    packed = rng.standard_normal((1 + count, batch * length, columns)).astype(np.float32)
    images = Images.of_batch(gpu.array(packed), (length, columns), True, by_position=True)
    q = Heads.of(images.channels_from(0, heads * size), heads)
    k = Heads.of(images.channels_from(heads * size, groups * size), groups)
    v = Heads.of(images.channels_from((heads + groups) * size, groups * size), groups)
    memory = gpu.nans(1 + count, batch * length, heads * size)
    out = Images.of_batch(memory, (length, heads * size), True, by_position=True)
    gpu.run(cuda.bind(None, 1, batch=batch, count=count, q=q, k=k, v=v, y=Heads.of(out, heads), scale=0.5))

    values = packed.reshape(1 + count, batch, length, -1, size).swapaxes(2, 3)
    y, _ = reference.attention(values[:, :, :2], values[:, :, 2:3], values[:, :, 3:], 0.5)
    found = memory.download().reshape(1 + count, batch, length, heads, size).swapaxes(2, 3)
    tolerances.ATTENDED_TANGENT.check(found, y)


@pytest.mark.gpu
def test_full_size(gpu):
    case = Case(heads=8, groups=4, queries=1030, keys=1030, size=64, values=64, count=2)
    case.scale = 0.125
    case.check(gpu, causal=True)
    case.check_gradients(gpu, causal=True)
