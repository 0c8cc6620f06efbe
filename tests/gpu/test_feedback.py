"""Feedback matrices on a GPU against float64, with gathered signs from Philox's definition."""

import numpy as np
import pytest

from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.ops.example_panels import cuda as example_panels
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.ops.feedback import cuda as feedback
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from tests import tolerances
from tests.kernels.test_activations import REFERENCES
from tests.references.activity_reference import signs

SEED, STEP, PARAMETER = 0xFFFFFFFFFFFFFFFF, 1, 11
CASES = [
    (1, (1, 1, 1), [0]),
    (9, (1, 1, 70), [0]),
    (3, (3, 2, 5), [0, 1, 0, 1, 2, 2]),
    (2, (4, 3, 33), [0, 0, 1, 0, 0, 1, 2, 2, 3, 2, 2, 3]),
]


@pytest.mark.parametrize(("batch", "shape", "cells"), CASES)
@pytest.mark.parametrize(("activation_name", "first"), [("tanh", 0), ("relu", 64)])
def test_noise_is_gathered_cell_by_cell(gpu, batch, shape, cells, activation_name, first):
    rng, slots, slot = np.random.default_rng(batch), 2, 3
    y = rng.standard_normal((batch, *shape)).astype(np.float32)
    number, channels = max(cells) + 1, shape[-1]
    before = rng.random(batch).astype(np.float32)
    out, power = gpu.nans(slots * batch, number * channels + 7), gpu.array(before)
    site = Perturbed(
        batch, 0, gpu.images(y[None]), activation_name, PARAMETER, gpu.stream(SEED, STEP), slot, slots, first
    )
    gpu.run(feedback.bind_gather(None, 1, site=site, cells=np.array(cells), out=out, power=power))
    slope = REFERENCES[activation_name].derivative(y.astype(np.float64))
    expected = np.zeros((slots, batch, number, channels))
    for t in range(slots):
        u = signs(SEED, STEP, slot + t, PARAMETER, slope[..., 0].size, first + channels)[:, first:]
        noise = (slope * u.reshape(y.shape)).reshape(batch, -1, channels)
        for p, cell in enumerate(cells):
            expected[t, :, cell] += noise[:, p]
    found = out.download()
    # Sums of up to four slopes.
    tolerances.ELEMENTWISE.check(found[:, : number * channels], expected.reshape(slots * batch, -1))
    assert np.isnan(found[:, number * channels :]).all()
    squares = slope.reshape(batch, -1) ** 2
    tolerances.positive_sums(squares.shape[1]).check(power.download(), before + squares.sum(axis=1))


def test_a_slope_that_is_not_finite_shows_in_the_power_alone(gpu):
    y = np.full((2, 1, 1, 3), 0.5, np.float32)
    y[1, 0, 0, 2] = np.nan
    out, power = gpu.nans(2, 3), gpu.zeros((2,))
    site = Perturbed(2, 0, gpu.images(y[None]), "tanh", PARAMETER, gpu.stream(SEED, STEP), 0, 1)
    gpu.run(feedback.bind_gather(None, 1, site=site, cells=np.zeros(1, np.int64), out=out, power=power))
    found = out.download()
    assert np.isfinite(found).all()
    assert (found == 0).tolist() == [[False] * 3, [False, False, True]]
    assert np.isfinite(power.download()).tolist() == [True, False]


@pytest.mark.parametrize(
    ("slot", "slots", "batch", "classes"), [(0, 1, 1, 1), (1, 2, 7, 10), (0, 3, 31, 5), (3, 1, 4, 67)]
)
def test_predictions_are_taken_from_their_slots(gpu, slot, slots, batch, classes):
    rng = np.random.default_rng(batch)
    before = rng.standard_normal((4, batch, classes)).astype(np.float32)
    predicted = rng.standard_normal((slots * batch, classes + 3)).astype(np.float32)
    response = gpu.array(before)
    gpu.run(feedback.bind_subtract(predicted=gpu.array(predicted), response=response, slot=slot, slots=slots))
    expected = before.copy()
    expected[slot : slot + slots] -= predicted[:, :classes].reshape(slots, batch, classes)
    np.testing.assert_array_equal(response.download(), expected)


def weighed(gpu, response, classes, slot, slots, coefficients, matrix):
    """Return B and what is weighed after it."""
    _, batch, _ = response.shape
    before = gpu.array(matrix)
    out = gpu.nans(-(-classes // 32), -(-slots * batch // 32) * 32, 32)
    gpu.run(
        feedback.bind_weigh(
            response=gpu.array(response),
            classes=classes,
            slot=slot,
            slots=slots,
            coefficients=gpu.array(np.array([coefficients], COEFFICIENTS), COEFFICIENTS),
            feedback=before,
            out=out,
        )
    )
    return before.download(), out


@pytest.mark.parametrize(
    ("slot", "slots", "batch", "classes", "rows"),
    [(0, 1, 1, 1, 1), (1, 2, 7, 10, 40), (0, 3, 31, 5, 3), (2, 1, 33, 35, 7)],
)
@pytest.mark.parametrize("keep", [1.0, 0.75])
def test_responses_are_weighed(gpu, slot, slots, batch, classes, rows, keep):
    rng = np.random.default_rng(batch)
    response = rng.standard_normal((3, batch, classes + 3)).astype(np.float32)
    # What lies between rows, and other layers' slots, do not count.
    response[..., classes:] = np.nan
    response[np.r_[:slot, slot + slots : 3]] = np.nan
    matrix = pack(rng.standard_normal((rows, classes)))
    found, out = weighed(gpu, response, classes, slot, slots, (keep, 0.125), matrix)
    np.testing.assert_array_equal(found, np.float32(keep) * matrix)
    expected = np.zeros((out.shape[1], 32 * out.shape[0]))
    expected[: slots * batch, :classes] = 0.125 * response[slot : slot + slots, :, :classes].reshape(
        -1, classes
    )
    np.testing.assert_array_equal(out.download().swapaxes(0, 1).reshape(expected.shape), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["keep", "gain", "first", "last"])
@pytest.mark.parametrize("blocks", [2, 32])
def test_what_is_not_finite_leaves_the_matrix_as_it_is(gpu, monkeypatch, value, place, blocks):
    monkeypatch.setattr(feedback, "_CHECKS", blocks)
    rng, batch, classes = np.random.default_rng(0), 13, 27
    response = rng.standard_normal((3, batch, classes)).astype(np.float32)
    coefficients = {"keep": 0.5, "gain": 0.25}
    if place in coefficients:
        coefficients[place] = value
    else:
        response[{"first": (0, 0, 0), "last": (2, -1, -1)}[place]] = value
    matrix = pack(rng.standard_normal((5, classes)))
    found, out = weighed(gpu, response, classes, 0, 3, tuple(coefficients.values()), matrix)
    np.testing.assert_array_equal(found, matrix)
    np.testing.assert_array_equal(out.download(), np.zeros(out.shape))


def test_a_step_of_learning(gpu):
    rng, slots, batch, classes, rows = np.random.default_rng(0), 2, 19, 3, 6
    w = rng.standard_normal((slots * batch, rows)).astype(np.float32)
    response = rng.standard_normal((slots, batch, classes)).astype(np.float32)
    matrix = rng.standard_normal((rows, classes)).astype(np.float32)
    found, out = weighed(gpu, response, classes, 0, slots, (0.5, 0.25), pack(matrix))
    after, panels = gpu.array(found), gpu.nans(2, rows, 32)
    gpu.run(
        example_panels.bind_to_panels(None, 1, x=gpu.images(w[None]), panels=panels, batch=slots * batch),
        example_panels.bind_product(
            "feedback-learned",
            None,
            1,
            a=panels,
            w=out,
            out=after,
            rows=rows,
            terms=slots * batch,
            columns=classes,
            onto=True,
            multiply_adds=0,
        ),
    )
    expected = 0.5 * matrix.astype(np.float64) + 0.25 * w.T.astype(np.float64) @ response.reshape(-1, classes)
    tolerances.sums(slots * batch).check(unpack(after.download(), classes), expected)


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (5, 10), (70, 3), (33, 65)])
def test_a_matrix_is_turned(gpu, rows, classes):
    matrix = np.random.default_rng(rows).standard_normal((rows, classes)).astype(np.float32)
    out = gpu.zeros((-(-rows // 32), classes, 32))
    gpu.run(feedback.bind_turn(None, 1, feedback=gpu.packed(matrix), out=out))
    np.testing.assert_array_equal(out.download(), pack(matrix.T))
