"""Layer and group normalisation on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.group_norm import cuda as group_norm
from fgnumba.kernels.ops.layer_norm import cuda as layer_norm
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.philox import ORTHOGONAL
from fgnumba.kernels.shared.affine.cpu import Affine
from tests import tolerances
from tests.normalization_cases import KINDS as KINDS_OF_NUMBERS
from tests.normalization_cases import TANGENT_KINDS
from tests.normalization_cases import check as check_numbers
from tests.references import reference
from tests.references.graph_reference import normalized

SEED, STEP, FIRST, EPSILON = 0x123456789ABCDEF0, 77, 3, 1e-3
SCALE, SHIFT = 4, 9
KINDS = {NONE: None, RANK1: "rademacher", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}

# Batch, image, groups; None: over the channels of each pixel. Units of a warp and of a block, fewer and more than one
# block of them; channels fewer and more than a team's threads, and no divisor of them.
CASES = [
    (1, (1, 1, 1), None),
    (3, (1, 1, 37), None),
    (3, (5, 6, 5), None),
    (3, (1, 1, 601), None),
    (1, (1, 1, 6), 3),
    (5, (3, 4, 14), 7),
    (2, (7, 13, 12), 2),
    (1, (3, 1, 270), 1),
    (2, (7, 11, 8), 1),
]


def drawn(gpu, kind, count, channels, first=FIRST):
    """Return (C,) scale and shift, (T, C) directions of both, and the GPU's value of them."""
    rng = np.random.default_rng(channels)
    p = {"scale": 1 + rng.random(channels), "shift": rng.standard_normal(channels)}
    explicit = {}
    if kind == EXPLICIT:
        v = {name: rng.standard_normal((count, channels)) for name in p}
        explicit = {f"v_{name}": packed(gpu, v[name]) for name in v}
    else:
        name = KINDS[kind]
        v = {
            which: np.array(
                [
                    reference.direction(name, (channels,), first + t, parameter, STEP, SEED)
                    if name
                    else np.zeros(channels)
                    for t in range(count)
                ]
            ).reshape(count, channels)
            for which, parameter in (("scale", SCALE), ("shift", SHIFT))
        }
    weights = Affine(
        gpu.packed(p["scale"]),
        gpu.packed(p["shift"]),
        kind=kind,
        count=count,
        first=first,
        scale_parameter=SCALE,
        shift_parameter=SHIFT,
        stream=gpu.stream(SEED, STEP),
        **explicit,
    )
    return p, v, weights


def packed(gpu, vectors):
    values = np.full((len(vectors), -(-vectors.shape[1] // 32) * 32), np.nan)
    values[:, : vectors.shape[1]] = vectors
    return gpu.array(values, np.float32)


def run(gpu, x, y, batch, groups, weights, epsilon=EPSILON):
    arguments = {"batch": batch, "images_a_part": 0, "x": x, "y": y, "weights": weights, "epsilon": epsilon}
    if groups is None:
        gpu.run(layer_norm.bind(None, **arguments))
    else:
        gpu.run(group_norm.bind(None, groups=groups, **arguments))
    return gpu.values(y)


@pytest.mark.parametrize("has_tangent", [True, False])
@pytest.mark.parametrize(("batch", "shape", "groups"), CASES[2:4] + CASES[5:6])
def test_without_scale_and_shift(gpu, batch, shape, groups, has_tangent):
    x = np.random.default_rng(batch).standard_normal((3, batch, *shape))
    y = gpu.images(shape=shape, blocks=3, batch=batch)
    weights = Affine(None, None, kind=RADEMACHER, count=2)
    found = run(gpu, gpu.images(x, has_tangent=has_tangent), y, batch, groups, weights)
    wide = x.astype(np.float32).astype(np.float64)
    value, tangent = normalized((wide[0], wide[1:]), groups, EPSILON, {}, {})
    tolerances.NORMALISED.check(found[0], value)
    if has_tangent:
        tolerances.NORMALISED.check(found[1:], tangent)
    else:
        assert np.isnan(found[1:]).all()


def check(gpu, batch, shape, groups, kind, count, has_tangent=True, mean=1, within=tolerances.NORMALISED):
    rng = np.random.default_rng(batch + count)
    x = rng.standard_normal((1 + count, batch, *shape))
    x[0] += mean
    x = x.astype(np.float32).astype(np.float64)
    p, v, weights = drawn(gpu, kind, count, shape[-1])
    y = gpu.images(shape=shape, blocks=1 + count, batch=batch)
    found = run(gpu, gpu.images(x, has_tangent=has_tangent), y, batch, groups, weights)
    value, tangent = normalized((x[0], x[1:] * has_tangent), groups, EPSILON, p, v)
    within.check(found, np.concatenate([value[None], tangent]))


@pytest.mark.parametrize(("batch", "shape", "groups"), CASES)
def test_explicit_directions(gpu, batch, shape, groups):
    check(gpu, batch, shape, groups, EXPLICIT, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_are_drawn(gpu, kind):
    check(gpu, 2, (2, 1, 150), None, kind, 2)


@pytest.mark.parametrize(("batch", "shape", "groups"), [(3, (5, 4, 6), None), (2, (9, 8, 16), 2)])
def test_an_input_without_a_tangent(gpu, batch, shape, groups):
    check(gpu, batch, shape, groups, EXPLICIT, 2, has_tangent=False)


@pytest.mark.parametrize(("batch", "shape", "groups"), [(3, (5, 4, 6), None), (2, (9, 8, 16), 2)])
def test_no_directions(gpu, batch, shape, groups):
    check(gpu, batch, shape, groups, NONE, 0)


@pytest.mark.parametrize(("batch", "shape", "groups"), [(5, (3, 5, 4), None), (8, (9, 19, 3), 1)])
def test_one_team_takes_all_directions_of_a_unit(gpu, batch, shape, groups):
    check(gpu, batch, shape, groups, EXPLICIT, 3)


@pytest.mark.parametrize(("batch", "shape", "groups"), [(3, (1, 1, 40), None), (1, (8, 9, 16), 1)])
def test_a_mean_far_from_zero(gpu, batch, shape, groups):
    # A variance of E x² - (E x)² would be wrong by 0.06.
    check(gpu, batch, shape, groups, EXPLICIT, 1, mean=1000)


def test_a_family_of_orthogonal_directions(gpu):
    x = np.zeros((3, 1, 1, 1, 40))
    _, _, weights = drawn(gpu, RADEMACHER, 2, 40, first=ORTHOGONAL + 34)
    found = run(gpu, gpu.images(x, has_tangent=False), gpu.images(shape=(40,), blocks=3), 1, None, weights)
    # The same numbers normalise to zeros: what is left are the directions of the shift.
    first = reference.direction("rademacher", (40,), 32, SHIFT, STEP, SEED)
    for t in range(2):
        walsh = [-1.0 if ((lane % 32) & (2 + t)).bit_count() % 2 else 1.0 for lane in range(40)]
        np.testing.assert_array_equal(found[1 + t].ravel(), first * walsh)


@pytest.mark.parametrize(("groups", "shape"), [(None, (3, 4, 9)), (3, (9, 20, 9))])
def test_some_of_the_channels(gpu, groups, shape):
    x = np.random.default_rng(0).standard_normal((2, 2, *shape[:2], 16))
    p, v, weights = drawn(gpu, EXPLICIT, 1, shape[2])
    y = gpu.images(shape=(*shape[:2], 12), blocks=2, batch=2)
    run(gpu, gpu.images(x).channels_from(5, 9), y.channels_from(2, 9), 2, groups, weights)
    value, tangent = normalized((x[0][..., 5:14], x[1:][..., 5:14]), groups, EPSILON, p, v)
    found = gpu.values(y)
    tolerances.NORMALISED_WIDE.check(found[..., 2:11], np.concatenate([value[None], tangent]))
    assert np.isnan(found[..., :2]).all()
    assert np.isnan(found[..., 11:]).all()


def hard(gpu):
    """Return what ``normalization_cases.check`` runs."""

    def run_dual(dual, p, v, groups, epsilon):
        blocks, batch, *shape = dual.shape
        vectors = {f"v_{name}": packed(gpu, v[name]) for name in v}
        weights = Affine(
            gpu.packed(p["scale"]), gpu.packed(p["shift"]), kind=EXPLICIT, count=blocks - 1, **vectors
        )
        y = gpu.images(shape=tuple(shape), blocks=blocks, batch=batch)
        return run(gpu, gpu.images(dual), y, batch, groups, weights, epsilon)

    return run_dual


@pytest.mark.parametrize("kind", KINDS_OF_NUMBERS)
@pytest.mark.parametrize(
    ("batch", "shape", "groups"), [(2, (1, 1, 17), None), (1, (2, 1, 601), None), (2, (3, 5, 6), 3)]
)
def test_numbers_that_are_hard_to_normalise(gpu, kind, batch, shape, groups):
    rng = np.random.default_rng(batch)
    ordinary = rng.standard_normal((1, batch, *shape))
    check_numbers(hard(gpu), batch, shape, groups, KINDS_OF_NUMBERS[kind](rng, (batch, *shape)), ordinary)
    numbers = KINDS_OF_NUMBERS[kind](rng, (1, batch, *shape))
    check_numbers(hard(gpu), batch, shape, groups, ordinary[0], numbers)


@pytest.mark.parametrize("kind", KINDS_OF_NUMBERS)
@pytest.mark.parametrize(("shape", "groups"), [((1, 1, 4), None), ((2, 2, 6), 3)])
def test_hard_tangents_of_hard_numbers(gpu, kind, shape, groups):
    rng = np.random.default_rng(7)
    x = KINDS_OF_NUMBERS[kind](rng, (1, *shape))
    dx = np.stack([of_tangents(rng, x.shape) for of_tangents in TANGENT_KINDS.values()])
    check_numbers(hard(gpu), 1, shape, groups, x, dx)
