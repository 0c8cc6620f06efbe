"""Layer, group and RMS normalisation on the CPU against float64, with numbers that are hard to normalise."""

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.group_norm import cpu as group_norm
from fgnumba.kernels.ops.layer_norm import cpu as layer_norm
from fgnumba.kernels.ops.rms_norm import cpu as rms_norm
from fgnumba.kernels.rules.directions import EXPLICIT, RADEMACHER
from fgnumba.kernels.shared.affine.cpu import Affine
from tests.normalization_cases import KINDS, PAIRED, SHAPES, TANGENT_KINDS, check


def packed(vectors):
    found = aligned((len(vectors), -(-vectors.shape[1] // 32) * 32))
    found[:, : vectors.shape[1]] = vectors
    return found


def run(dual, p, v, groups, epsilon, centred=True, affine=True, has_tangent=True):
    blocks, batch, *shape = dual.shape
    x, y = aligned((blocks, batch, int(np.prod(shape)))), aligned((blocks, batch, int(np.prod(shape))))
    x[...], y[...] = dual.reshape(x.shape), np.nan
    explicit = {f"v_{name}": packed(v[name]) for name in v}
    shift = pack(p["shift"]) if centred else None
    weights = Affine(pack(p["scale"]), shift, kind=EXPLICIT, count=blocks - 1, **explicit)
    if not affine:
        weights = Affine(None, None, kind=RADEMACHER, count=blocks - 1)
    arguments = {"batch": batch, "images_a_part": batch, "weights": weights, "epsilon": epsilon}
    arguments |= {
        name: Images.of_batch(array, tuple(shape), has_tangent=has_tangent, images=batch)
        for name, array in (("x", x), ("y", y))
    }
    isa = vector.instruction_set()
    if not centred:
        operation = rms_norm.bind(isa, **arguments)
    elif groups is None:
        operation = layer_norm.bind(isa, **arguments)
    else:
        operation = group_norm.bind(isa, groups=groups, **arguments)
    Program([operation], 1).run()
    return y.reshape(dual.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "shape", "groups"), SHAPES)
def test_values_and_tangents_are_those_of_float64(kind, batch, shape, groups):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = KINDS[kind](rng, (batch, *shape))
        check(run, batch, shape, groups, x, rng.standard_normal((2, batch, *shape)), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "shape", "groups"), SHAPES)
def test_tangents_of_any_kind(kind, batch, shape, groups):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch, *shape))
        dx = np.stack([KINDS[kind](rng, (batch, *shape)) for _ in range(2)])
        check(run, batch, shape, groups, x, dx, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "shape", "groups"), [*SHAPES, *PAIRED])
def test_hard_tangents_of_hard_numbers(kind, batch, shape, groups):
    for seed, of_tangents in enumerate(TANGENT_KINDS):
        rng = np.random.default_rng(seed)
        x = KINDS[kind](rng, (batch, *shape))
        dx = np.stack([TANGENT_KINDS[of_tangents](rng, (batch, *shape)) for _ in range(2)])
        for epsilon in (1e-5, 8e-31):
            check(run, batch, shape, groups, x, dx, epsilon, seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [shape for _, shape, groups in SHAPES if groups is None], ids=str)
def test_root_mean_squares(kind, shape):
    def of(dual, p, v, groups, epsilon):
        return run(dual, p, v, groups, epsilon, centred=False)

    for seed, of_tangents in enumerate(TANGENT_KINDS):
        rng = np.random.default_rng(seed)
        x = KINDS[kind](rng, (2, *shape))
        dx = np.stack([TANGENT_KINDS[of_tangents](rng, x.shape), rng.standard_normal(x.shape)])
        # One number and its tangent cancel but for ε, even where both terms are beyond float32.
        for epsilon in (1e-5, 8e-31) if shape != (1, 1, 1) else (1e-5, 1.0):
            check(of, 2, shape, None, x, dx, epsilon, seed, centred=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "shape", "groups"), [(2, (2, 3, 15), None), (3, (5, 7, 14), 7)])
@pytest.mark.parametrize("centred", [True, False])
def test_without_scale_and_shift(kind, batch, shape, groups, centred):
    groups = groups if centred else None

    def of(dual, p, v, groups, epsilon):
        return run(dual, p, v, groups, epsilon, centred=centred, affine=False)

    for seed, of_tangents in enumerate(TANGENT_KINDS):
        rng = np.random.default_rng(seed)
        x = KINDS[kind](rng, (batch, *shape))
        dx = np.stack([TANGENT_KINDS[of_tangents](rng, x.shape), rng.standard_normal(x.shape)])
        check(of, batch, shape, groups, x, dx, seed=seed, centred=centred, affine=False)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("groups", [None, 3])
def test_without_parameters_and_without_a_tangent_there_is_none(centred, groups):
    dual = np.random.default_rng(0).standard_normal((2, 2, 4, 1, 9)).astype(np.float32)
    p = dict.fromkeys(("scale", "shift"), np.ones(9, np.float32))
    found = run(dual, p, {}, groups, 1e-5, centred, affine=False, has_tangent=False)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 3e38])
@pytest.mark.parametrize(("batch", "shape", "groups"), SHAPES)
def test_equal_numbers_are_the_shift_exactly(value, batch, shape, groups):
    rng = np.random.default_rng(1)
    x = np.full((batch, *shape), value)

    def exact(dual, p, v, groups, epsilon):
        y = run(dual, p, v, groups, epsilon)
        np.testing.assert_array_equal(y[0], np.broadcast_to(p["shift"], y[0].shape))
        return y

    check(exact, batch, shape, groups, x, rng.standard_normal((1, batch, *shape)))


@pytest.mark.parametrize("epsilon", [8e-31, 1e-20, 1.0, 1e30])
@pytest.mark.parametrize(
    "kind", ["ordinary", "equal but for one", "squares that overflow", "far below epsilon"]
)
@pytest.mark.parametrize(("shape", "groups"), [((1, 1, 31), None), ((3, 2, 10), 2)])
def test_every_epsilon(shape, groups, kind, epsilon):
    rng = np.random.default_rng(2)
    x = KINDS[kind](rng, (2, *shape))
    check(run, 2, shape, groups, x, rng.standard_normal((1, 2, *shape)), epsilon)


@pytest.mark.parametrize("kind", ["ordinary", "a mean of a million", "squares that overflow"])
@pytest.mark.parametrize(("shape", "groups"), [((1, 1, 31), None), ((3, 2, 10), 2)])
def test_a_tangent_along_the_numbers_themselves_is_cancelled(shape, groups, kind):
    x = KINDS[kind](np.random.default_rng(3), (2, *shape))
    check(run, 2, shape, groups, x, x[None])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("shape", "groups"), [((1, 1, 31), None), ((3, 2, 10), 1)])
def test_what_is_not_finite_spoils_its_unit_alone(shape, groups, bad):
    rng = np.random.default_rng(4)
    dual = rng.standard_normal((2, 3, *shape)).astype(np.float32)
    p = {name: np.ones(shape[-1], np.float32) for name in ("scale", "shift")}
    v = {name: np.zeros((1, shape[-1]), np.float32) for name in p}
    dual[0, 1, ..., shape[-1] // 2] = bad
    found = run(dual, p, v, groups, 1e-5)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, ::2]).all()
    dual[0, 1, ..., shape[-1] // 2], dual[1, 1, ..., 0] = 0, bad
    found = run(dual, p, v, groups, 1e-5)
    assert np.isnan(found[1, 1]).all()
    assert np.isfinite(found[0]).all()
    assert np.isfinite(found[1, ::2]).all()
