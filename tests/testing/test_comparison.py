"""Comparisons of arrays bit for bit."""

import numpy as np
import pytest

from fgnumba.testing.comparison import same_bits

NAN = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, -0.0], [np.inf, np.nan]], np.float32),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([True, False]),
        np.array([1 + 2j, np.nan]),
    ],
)
def test_an_array_has_the_bits_of_its_copy(array):
    same_bits("x", array, array.copy())


def test_nan_equals_nan_of_other_bits():
    same_bits("x", NAN, NAN[::-1])


@pytest.mark.parametrize(
    ("result", "expected", "message"),
    [
        (
            np.array([1, 0.0], np.float32),
            np.array([1, -0.0], np.float32),
            r"x\[1\] is .*0\.0.*; .*-0\.0.* is expected, .*; 1 of 2",
        ),
        (np.array([2**53]), np.array([2**53 + 1]), r"x\[0\] is .*992.*; .*993.* is expected"),
        (np.array([np.nan], np.float32), np.array([1], np.float32), r"x\[0\] is .*nan"),
        (np.float32(1), np.nextafter(np.float32(1), np.float32(2)), "x is .* is expected, bit for bit"),
        (np.array([1], np.float32), np.array([1], np.float64), "x is float32; float64 is expected"),
        (np.zeros(3), np.zeros((1, 3)), r"x has shape \(3,\); \(1, 3\) is expected"),
    ],
)
def test_other_bits_fail(result, expected, message):
    with pytest.raises(AssertionError, match=message):
        same_bits("x", result, expected)
