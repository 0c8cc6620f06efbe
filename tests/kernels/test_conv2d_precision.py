"""Convolutions whose factors are bfloat16, against float64 sums over the taps of zero-padded images.

Small whole numbers are exact in every precision, and so are their sums: results must be equal, wherever they lie.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program, Stage
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.kernels.ops.conv2d import cpu as conv2d
from fgnumba.kernels.ops.conv2d import filtering
from fgnumba.kernels.rules.philox import STREAM, set_stream
from tests import tolerances, tolerances_precision
from tests.gpu.moved_weights import KINDS, activated, moved, random
from tests.gpu.patches import grouped_product, output_size, packed_groups, patches

HARDWARE = [name for name in ("avx512bf16", "amx") if name in vector.executable()]
SETS = [*HARDWARE, *(f"{name}-twin" for name in ("avx512bf16", "amx") if name not in HARDWARE)]
"""The sets that multiply bfloat16, by their own instructions where this machine has them."""

PLAIN = Geometry((3, 3), padding=Border(1, 1, 1, 1))
RAGGED = Geometry((3, 2), stride=(3, 2), dilation=(2, 3), padding=Border(2, 1, 1, 2))
"""Different along both axes and on all sides."""


pytestmark = pytest.mark.usefixtures("three_parts")


@dataclass(frozen=True)
class Layer:
    """A convolution of random images (B, H, W, C) to N channels."""

    images: tuple[int, int, int, int]
    outputs: int
    geometry: Geometry
    kind: str = "rank1"
    has_tangent: bool = True
    tangents: int = 1
    precision: str = "bf16"
    tangent_precision: str | None = None
    whole: bool = True
    activation: str = "relu"
    border: Border = NO_BORDER

    @property
    def inputs(self):
        return int(np.prod(self.geometry.kernel_size)) * self.images[3] // self.geometry.groups


class Memory:
    """The arrays of weights on the host, see :func:`tests.gpu.moved_weights.moved`."""

    packed = staticmethod(pack)

    def stacked(self, arrays, groups=1):
        return np.stack([pack(array, groups) for array in arrays])

    def stream(self, seed, step):
        stream = np.zeros(1, STREAM)
        set_stream(stream, seed, step)
        return stream


@cache
def given(layer):
    """Return the dual images and the moved weights."""
    x = random(1, (1 + layer.tangents, *layer.images), layer.whole)
    groups = packed_groups(layer.images[3], layer.outputs, layer.geometry)
    one = moved(
        Memory(), layer.kind, layer.tangents, layer.inputs, layer.outputs, groups=groups, whole=layer.whole
    )
    return x, one


def run(layer, name, threads=1, images=1):
    """Return the dual output as an instruction set computes it, `images` at a time."""
    isa = vector.instruction_set(name).multiplying(layer.precision, layer.tangent_precision)
    x, one = given(layer)
    batch, high, wide, channels = layer.images
    border = conv2d.needed_border(layer.geometry, (high, wide, channels), layer.outputs).union(layer.border)
    has_tangent = layer.has_tangent and layer.tangents > 0
    shape = (high + border.top + border.bottom, wide + border.left + border.right, channels)
    memory = aligned((x.shape[0] if has_tangent else 1, batch, *shape))
    memory[...] = np.nan
    inner = memory[:, :, border.top : border.top + high, border.left : border.left + wide]
    inner[...] = x[: len(memory)]
    row, image = shape[1] * channels, int(np.prod(shape))
    source = Images(
        memory,
        border.top * row + border.left * channels,
        (high, wide, channels),
        *(batch * image, image, row, channels, images * image),
        has_tangent,
        border=border,
    )
    size = output_size(layer.images, layer.geometry)
    y = aligned((1 + layer.tangents, batch, int(np.prod(size)) * layer.outputs))
    y[...] = -7777.0
    operations = conv2d.bind(
        isa,
        threads,
        batch=batch,
        images_a_part=images,
        x=source,
        y=Images.of_batch(y, (*size, layer.outputs), layer.tangents > 0, images),
        geometry=layer.geometry,
        weights=one.weights,
        activation_name=layer.activation,
    )
    parts = -(-batch // images)
    sharing = min(parts, threads, thread_count(None))
    Program([op if op.once else Stage((op,), parts, sharing, 0) for op in operations]).run()
    return y.reshape(1 + layer.tangents, batch, *size, layer.outputs)


def expected(layer):
    """Return the dual output in float64."""
    x, one = given(layer)
    groups = layer.geometry.groups
    columns = patches(x, layer.geometry)
    z = grouped_product(columns[0], one.weight, groups) + one.bias
    dz = np.stack([grouped_product(columns[0], v, groups) for v in one.v] or [0 * z])[: layer.tangents]
    dz = dz + one.v_bias[:, None, None, None]
    if layer.has_tangent:
        dz += grouped_product(columns[1:], one.weight, groups)
    return activated(layer.activation, z, dz)


def agrees(layer, name, **how):
    found = run(layer, name, **how)
    tolerances.Within().check(found, expected(layer), name)
    return found


MIXED = [
    ("bf16", None),
    ("bf16x2", None),
    ("bf16x3", None),
    ("float32", "bf16"),
    ("bf16x3", "bf16"),
    ("bf16", "float32"),
]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gaussian"])
@pytest.mark.parametrize("precisions", MIXED, ids=str)
@pytest.mark.parametrize("name", SETS)
def test_every_kind_of_direction_in_every_precision(name, precisions, kind):
    # Rows that are copied, and rows that are read where they lie.
    for channels in (3, 32):
        layer = Layer((2, 5, 6, channels), 35, RAGGED, kind, True, 2, *precisions)
        agrees(layer, name)
        if kind != "none":
            agrees(replace(layer, has_tangent=False), name, images=2)


@pytest.mark.parametrize(
    "layer",
    [
        Layer((2, 4, 5, 1), 3, PLAIN, tangents=0),
        Layer((1, 1, 1, 1), 1, Geometry((1, 1)), "rademacher", has_tangent=False, tangents=2),
        Layer((2, 5, 7, 6), 5, Geometry((1, 1), stride=(2, 3)), "explicit", has_tangent=False, tangents=2),
        Layer((1, 7, 1, 2), 4, Geometry((5, 1), dilation=(2, 1), padding=Border(4, 4, 0, 0))),
        Layer((1, 2, 3, 4), 2, Geometry((3, 3), stride=(4, 4), padding=Border(5, 5, 4, 4)), "rademacher"),
        Layer((1, 4, 37, 2), 67, Geometry((2, 3)), tangents=7),
        Layer((1, 4, 3, 64), 97, Geometry((2, 3)), "explicit", tangents=2, border=Border(1, 2, 3, 1)),
        Layer((1, 3, 4, 13), 31, PLAIN, "explicit", border=Border(2, 1, 1, 2)),
        # Panels of V that one cache does not hold.
        Layer((1, 3, 3, 128), 64, replace(PLAIN, stride=(2, 1)), "rademacher", tangents=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SETS)
def test_shapes(name, layer):
    agrees(layer, name)


FILTERED = [
    Layer((2, 5, 7, 16), 33, PLAIN, "rademacher", tangents=2),
    Layer((3, 4, 9, 48), 70, PLAIN, tangents=3),
    Layer((2, 6, 5, 64), 16, Geometry((3, 3), padding=Border(1, 0, 2, 1)), "explicit"),
    Layer((1, 4, 4, 32), 16, PLAIN, "none", tangents=0),
    Layer((2, 4, 6, 16), 96, PLAIN, "explicit", has_tangent=False, tangents=2, border=Border(2, 3, 1, 2)),
]


@pytest.mark.parametrize("layer", FILTERED, ids=str)
@pytest.mark.parametrize("precisions", MIXED, ids=str)
@pytest.mark.parametrize("name", SETS)
def test_filtering(name, precisions, layer):
    layer = replace(layer, precision=precisions[0], tangent_precision=precisions[1])
    agrees(layer, name, images=2)


@pytest.mark.parametrize("kind", ["rank1", "explicit"])
@pytest.mark.parametrize(("own", "each"), [(4, 34), (3, 5), (32, 33)])
@pytest.mark.parametrize("name", SETS)
def test_groups(name, own, each, kind):
    geometry = Geometry((2, 2), padding=Border(0, 1, 1, 0), groups=2)
    agrees(Layer((2, 3, 3, 2 * own), 2 * each, geometry, kind), name)


@pytest.mark.parametrize("name", SETS)
def test_channel_by_channel_is_float32(name):
    layer = Layer((1, 4, 4, 6), 6, replace(PLAIN, groups=6), "gaussian", whole=False, activation="tanh")
    np.testing.assert_array_equal(run(layer, name), run(replace(layer, precision="float32"), name))


def sizes(layer):
    """Return the sums of the sizes of products: of x W, of x V, and of dx W, or as many as there are."""
    x, one = given(layer)
    groups, filtered = layer.geometry.groups, layer in ROUNDED[2:]
    x, weight, v = np.abs(x), np.abs(one.weight), np.abs(one.v)
    columns = patches(x, layer.geometry)

    def product(images, columns, matrix):
        return filtered_sizes(images, matrix) if filtered else grouped_product(columns, matrix, groups)

    moved = np.stack([product(x[0], columns[0], each) for each in v])
    return product(x[0], columns[0], weight), moved, product(x[1:], columns[1:], weight)


def filtered_sizes(x, weight):
    """Return |Aᵀ| [(|G| |W| |Gᵀ|) ⊙ (|Bᵀ| |X| |B|)] |A| summed over channels, for even heights and padding of 1."""
    a, b, g = (np.abs(matrix) for matrix in (filtering.OUTPUT, filtering.INPUT, filtering.KERNEL))
    around = np.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    tiles = np.lib.stride_tricks.sliding_window_view(around, (4, 4), (-3, -2))[..., ::2, ::2, :, :, :]
    moved = np.einsum("ik,...ckl,jl->...cij", b, tiles, b)
    kernels = np.einsum("ik,klcn,jl->ijcn", g, weight.reshape(3, 3, x.shape[-1], -1), g)
    places = np.einsum("...hwcij,ijcn->...hwijn", moved, kernels)
    pixels = np.einsum("ik,...hwkln,jl->...hiwjn", a, places, a)
    return pixels.reshape(*x.shape[:-1], -1)


ROUNDED = [
    Layer((2, 5, 6, 3), 35, RAGGED, "gaussian", tangents=2, whole=False, activation="identity"),
    Layer((3, 7, 5, 64), 35, RAGGED, "explicit", tangents=1, whole=False, activation="identity"),
    Layer((3, 6, 8, 64), 40, PLAIN, "rank1", tangents=2, whole=False, activation="identity"),
    Layer((2, 4, 6, 16), 33, PLAIN, "gaussian", tangents=1, whole=False, activation="identity"),
]
"""Rows that are copied, rows that are read where they lie, and two layers that are filtered where that is faster."""


@pytest.mark.parametrize("layer", ROUNDED, ids=str)
@pytest.mark.parametrize("precisions", MIXED, ids=str)
@pytest.mark.parametrize("name", SETS)
def test_errors_are_those_of_the_precision(name, precisions, layer):
    x_w, x_v, dx_w = sizes(layer)
    layer = replace(layer, precision=precisions[0], tangent_precision=precisions[1])
    exact = expected(layer)
    error = np.abs(run(layer, name) - exact)
    primal, tangent = precisions[0], precisions[1] or precisions[0]
    of_v = "float32" if layer.kind == "rank1" else tangent

    def bound(precision):
        return tolerances_precision.filtered_within(precision, layer.inputs)

    allowed = np.concatenate([bound(primal) * x_w[None], bound(tangent) * dx_w + bound(of_v) * x_v])
    # The bias is added at the end.
    allowed += tolerances.CARRIED.relative * np.abs(exact)
    assert (error <= allowed).all(), (error / allowed).max()
    # Factors of one part have an effect: rounding by 2^-9 is seen in results, by 2^-17 hardly.
    least = 2.0**-12 * np.sqrt(np.mean(np.square(exact), axis=(1, 2, 3, 4)))
    assert (error[0].max() > least[0]) == (primal == "bf16")
    assert (error[1:].max() > least[1:].max()) == (tangent == "bf16")


@pytest.mark.parametrize("layer", ROUNDED, ids=str)
@pytest.mark.parametrize("precisions", [("bf16", None), ("bf16x3", "bf16"), ("float32", "bf16")], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_threads_and_parts_of_a_batch_change_no_bit(name, precisions, layer):
    layer = replace(layer, precision=precisions[0], tangent_precision=precisions[1])
    one = run(layer, name)
    for threads, images in ((1, 3), (2, 1), (3, 2)):
        np.testing.assert_array_equal(run(layer, name, threads=threads, images=images), one)


@pytest.mark.parametrize("layer", ROUNDED, ids=str)
@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
@pytest.mark.parametrize("name", HARDWARE)
def test_twins_have_the_same_bits(name, precision, layer):
    layer = replace(layer, precision=precision)
    np.testing.assert_array_equal(run(layer, f"{name}-twin"), run(layer, name))
