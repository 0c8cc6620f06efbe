"""Gradients of weights on the CPU whose factors are bfloat16, against float64: dense layers, and convolutions."""

from dataclasses import dataclass

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.layout.packing import unpack
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.ops.conv2d import cpu as conv2d
from fgnumba.kernels.ops.conv2d import filtered_gradient, split_gradient
from fgnumba.kernels.ops.example_panels import cpu as example_panels
from fgnumba.kernels.shared.product import split_factors
from tests import tolerances, tolerances_precision

HARDWARE = [name for name in vector.executable() if vector.INSTRUCTION_SETS[name].dots]
REDUCED = [name for name, precision in PRECISIONS.items() if precision.parts]
EVERY = [*HARDWARE, *vector.TWINS]


pytestmark = pytest.mark.usefixtures("three_parts")


def isa_of(name, precision, primal="float32"):
    isa = vector.TWINS.get(name) or vector.INSTRUCTION_SETS[name]
    return isa.multiplying(primal, precision)


def rounded(x):
    """Return the nearest bfloat16, as float64; of two, the even one."""
    bits = x.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def normal(rng, shape):
    return rng.standard_normal(shape).astype(np.float32)


def panels_of(values, rows):
    """Return a matrix in panels of its columns, whose padding holds nothing that may be multiplied."""
    panels = aligned((-(-values.shape[1] // PANEL), rows, PANEL))
    panels[...] = np.nan
    for n in range(values.shape[1]):
        panels[n // PANEL, : len(values), n % PANEL] = values[:, n]
    return panels


def gradient(isa, x, d, threads=1, start=None):
    """Return xᵀ δ (K, N) of x (B, K) and δ (B, N), added to `start` if there is one."""
    (batch, inputs), columns = x.shape, d.shape[1]
    a, w = panels_of(x.T.copy(), inputs), panels_of(d, -(-batch // PANEL) * PANEL)
    out = panels_of(np.zeros((inputs, columns), np.float32) if start is None else start, inputs)
    operation = example_panels.bind_product(
        *("gradient", isa, threads),
        **{"a": a, "w": w, "out": out, "rows": inputs, "terms": batch, "columns": columns},
        onto=start is not None,
        multiply_adds=batch * inputs * columns,
    )
    CPU.program([operation]).run()
    return unpack(out, columns)


def check(found, precision, product, magnitude, terms, exact):
    """Check a product, and that of rounded factors: bfloat16 is multiplied exactly, and no other number."""
    tolerances_precision.product_within(precision, terms, magnitude).check(found, product)
    if precision == "bf16":
        tolerances_precision.product_within("float32", terms, magnitude).check(found, exact)


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("batch", "inputs", "columns"), [(1, 1, 1), (7, 13, 5), (33, 67, 70), (2, 31, 97), (67, 1, 33)]
)
def test_products_over_examples(name, precision, batch, inputs, columns):
    rng = np.random.default_rng(batch)
    x, d, start = (normal(rng, shape) for shape in ((batch, inputs), (batch, columns), (inputs, columns)))
    found = gradient(isa_of(name, precision), x, d)
    product, magnitude = x.T.astype(np.float64) @ d, float((abs(x.T) @ abs(d)).max())
    check(found, precision, product, magnitude, batch, rounded(x).T @ rounded(d))
    added = gradient(isa_of(name, precision), x, d, start=start)
    check(
        *(added, precision, product + start, magnitude + abs(start).max(), batch + 1),
        start + rounded(x).T @ rounded(d),
    )


@pytest.mark.parametrize("name", ["avx512bf16-twin", "amx-twin", "bfmmla-twin"])
def test_chunks_of_rows_and_threads_change_no_bit(name, monkeypatch):
    rng = np.random.default_rng(0)
    x, d = normal(rng, (67, 300)), normal(rng, (67, 131))
    isa = isa_of(name, "bf16x2")
    found = {gradient(isa, x, d, threads).tobytes() for threads in (1, 2, 3, 7)}
    monkeypatch.setattr(split_factors, "CACHED_ROWS", 1)
    found |= {gradient(isa, x, d, threads).tobytes() for threads in (1, 5)}
    assert len(found) == 1


def test_the_precision_is_that_of_tangents():
    rng = np.random.default_rng(0)
    x, d = normal(rng, (50, 40)), normal(rng, (50, 33))
    twin = "avx512bf16-twin"
    exact = gradient(isa_of(twin, "float32"), x, d)
    np.testing.assert_array_equal(gradient(isa_of(twin, "float32", "bf16"), x, d), exact)
    coarse = gradient(isa_of(twin, "bf16", "bf16"), x, d)
    np.testing.assert_array_equal(gradient(isa_of(twin, "bf16"), x, d), coarse)
    assert not np.array_equal(coarse, exact)


@dataclass(frozen=True)
class Case:
    """A convolution of B images (H, W, C) to N channels, and whether its gradients are added to others."""

    images: tuple[int, int, int, int]
    outputs: int
    geometry: Geometry
    onto: bool = False


EVEN = Border(1, 1, 1, 1)
CASES = {
    "3x3": Case((3, 11, 33, 64), 33, Geometry((3, 3), padding=EVEN), True),
    "few": Case((2, 7, 5, 3), 5, Geometry((3, 3), padding=EVEN)),
    "strided": Case((2, 9, 9, 20), 70, Geometry((3, 3), (2, 2), padding=EVEN)),
    "groups": Case(
        (3, 8, 7, 12), 8, Geometry((2, 3), dilation=(2, 1), padding=Border(2, 0, 1, 3), groups=2), True
    ),
    "wide groups": Case((2, 7, 8, 12), 140, Geometry((1, 2), (1, 3), (1, 2), Border(), 2)),
    "pixels": Case((17, 1, 1, 16), 3, Geometry((1, 1))),
    "blocks": Case((1, 70, 37, 17), 3, Geometry((3, 2), (2, 1), padding=EVEN)),
}


def convolved(isa, case, x, d, threads=1):
    """Return dW (K, N / groups) of each group, and db (N,), of images with a border around them, and of δ."""
    (batch, height, width, channels), outputs, geometry = case.images, case.outputs, case.geometry
    border, groups = geometry.padding, geometry.groups
    row, each = x.shape[2] * channels, outputs // groups
    start = (border.top * x.shape[2] + border.left) * channels
    memory, signal = aligned(x.shape), aligned(d.shape)
    memory[...], signal[...] = x, d
    images = Images(memory, start, (height, width, channels), 0, x[0].size, row, channels, 0, False)
    of_d = Images(signal, 0, d.shape[1:], 0, d[0].size, d.shape[2] * outputs, outputs, 0, False)
    inputs = int(np.prod(geometry.kernel_size)) * channels // groups
    out, bias = (
        aligned((groups * -(-each // PANEL), inputs, PANEL)),
        aligned((groups * -(-each // PANEL) * PANEL,)),
    )
    out[...] = bias[...] = 0.5 if case.onto else np.nan
    operation = conv2d.bind_gradient(
        *(isa, threads),
        batch=batch,
        x=images,
        dz=of_d,
        geometry=geometry,
        out=out,
        bias=bias,
        onto=case.onto,
        multiply_adds=d[..., 0].size * inputs * outputs,
    )
    CPU.program([operation]).run()
    packed = out.reshape(groups, -1, inputs, PANEL)
    return np.stack([unpack(each_out, each) for each_out in packed]), bias.reshape(groups, -1)[
        :, :each
    ].ravel()


def given(case):
    """Return random images within a border of zeros, and random error signals."""
    rng = np.random.default_rng(0)
    (batch, height, width, channels), geometry = case.images, case.geometry
    border = geometry.padding
    x = np.zeros(
        (batch, border.top + height + border.bottom, border.left + width + border.right, channels), np.float32
    )
    x[:, border.top : border.top + height, border.left : border.left + width] = normal(rng, case.images)
    size = [
        (extent - (kernel - 1) * dilation - 1) // stride + 1
        for extent, kernel, dilation, stride in zip(
            x.shape[1:3], geometry.kernel_size, geometry.dilation, geometry.stride, strict=True
        )
    ]
    return x, normal(rng, (batch, *size, case.outputs))


def direct(geometry, x, d):
    """Return the sum over pixels of x under each tap times δ, (groups, K, N / groups), in float64."""
    (rows, columns), (down, across), (stride, step) = geometry.kernel_size, geometry.dilation, geometry.stride
    height, width = d.shape[1:3]
    d = np.stack(np.split(d.astype(np.float64), geometry.groups, 3))
    found = []
    for i in range(rows):
        for j in range(columns):
            under = x[:, i * down :: stride, j * across :: step][:, :height, :width].astype(np.float64)
            under = np.stack(np.split(under, geometry.groups, 3))
            found.append(np.einsum("gbyxc,gbyxn->gcn", under, d))
    return np.concatenate(found, 1)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("name", EVERY)
def test_gradients_of_convolutions(name, kind):
    case = CASES[kind]
    x, d = given(case)
    product, exact = direct(case.geometry, x, d), direct(case.geometry, rounded(x), rounded(d))
    magnitude, pixels = direct(case.geometry, abs(x), abs(d)).max(), d[..., 0].size
    start = 0.5 * case.onto
    for precision in ("bf16", "bf16x3"):
        isa = isa_of(name, precision)
        weight, bias = convolved(isa, case, x, d)
        check(weight, precision, start + product, start + magnitude, pixels + 1, start + exact)
        tolerances.sums(pixels + 1).check(bias, start + d.sum((0, 1, 2), np.float64))
        for threads in (2, 5):
            for found, one in zip(convolved(isa, case, x, d, threads), (weight, bias), strict=True):
                np.testing.assert_array_equal(found, one)


@pytest.mark.parametrize("name", ["avx512bf16-twin", "amx-twin", "bfmmla-twin"])
def test_blocks_of_lines_change_no_bit_of_a_weight(name, monkeypatch):
    case = CASES["3x3"]
    x, d = given(case)
    isa = isa_of(name, "bf16x2")
    weight, _ = convolved(isa, case, x, d)
    monkeypatch.setattr(split_gradient, "PIXELS", 1)
    np.testing.assert_array_equal(convolved(isa, case, x, d)[0], weight)


@pytest.mark.parametrize("name", HARDWARE)
def test_twins_give_the_same_bits(name):
    rng = np.random.default_rng(0)
    x, d = normal(rng, (67, 45)), normal(rng, (67, 39))
    for precision in REDUCED:
        isa, twin = isa_of(name, precision), isa_of(f"{name}-twin", precision)
        np.testing.assert_array_equal(gradient(isa, x, d), gradient(twin, x, d))
        for case in CASES.values():
            for found, other in zip(
                convolved(isa, case, *given(case)), convolved(twin, case, *given(case)), strict=True
            ):
                np.testing.assert_array_equal(found, other)


def test_threads_change_no_bit_of_a_filtered_gradient(monkeypatch):
    """In float32, where fewer channels of a thread leave room for more rows of tiles in a block."""
    monkeypatch.setattr(filtered_gradient, "CACHED_TILES", 150_000)
    isa = vector.instruction_set("generic")
    case = Case((2, 16, 16, 64), 32, Geometry((3, 3), padding=EVEN))
    x, d = given(case)
    weight, bias = convolved(isa, case, x, d)
    for threads in (2, 4):
        for found, one in zip(convolved(isa, case, x, d, threads), (weight, bias), strict=True):
            np.testing.assert_array_equal(found, one)
