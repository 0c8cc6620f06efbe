"""Parameters of GPU kernels: bundles in the source, numbers in the compiled kernel."""

import inspect
from typing import NamedTuple

import numpy as np
import pytest

from fgnumba.bench.cuda.gate import load
from fgnumba.errors import DeviceError
from fgnumba.kernels.cuda import kernel as kernels
from fgnumba.kernels.cuda.kernel import Kernel, converted
from fgnumba.kernels.cuda.primitives import Address, Real, Size

MOST_PARAMETERS = 20
"""Of a kernel's head: more are not read."""


class Rows(NamedTuple):
    address: Address
    row: Size


class Matrix(NamedTuple):
    rows: Rows
    columns: Size


@pytest.fixture
def matrix_kernel(monkeypatch):
    """Return a kernel of one number and one bundle in a bundle, in a list of its own."""
    monkeypatch.setattr(kernels, "KERNELS", {})

    def function(scale: Real, matrix: Matrix) -> None: ...

    return Kernel("test-matrix", function, 64)


def test_heads_are_short():
    load()
    for one in kernels.KERNELS.values():
        assert len(inspect.signature(one.function).parameters) <= MOST_PARAMETERS, one.name


def test_a_compiled_kernel_takes_the_numbers_of_its_bundles_in_order(matrix_kernel):
    assert list(matrix_kernel.scalars.items()) == [
        ("scale", "float32"),
        ("matrix.rows.address", "int64"),
        ("matrix.rows.row", "int32"),
        ("matrix.columns", "int32"),
    ]


def test_arguments_come_in_the_order_of_the_parameters(matrix_kernel):
    matrix = Matrix(Rows(1 << 40, 7), 5)
    assert matrix_kernel.values({"matrix": matrix, "scale": 0.5}) == (0.5, matrix)


def test_numbers_of_a_bundle_are_converted_one_by_one():
    found = converted(Matrix, Matrix(Rows(1 << 40, 7), 5), lambda kind, value: np.dtype(kind).type(value))
    assert type(found) is Matrix
    assert type(found.rows) is Rows
    assert [type(one) for one in (*found.rows, found.columns)] == [np.int64, np.int32, np.int32]


def test_a_size_in_a_bundle_must_fit_into_32_bits(matrix_kernel):
    with pytest.raises(DeviceError, match=r"test-matrix: matrix\.rows\.row is 2147483648; below 2\*\*31"):
        matrix_kernel.values({"scale": 1.0, "matrix": Matrix(Rows(0, 2**31), 5)})
