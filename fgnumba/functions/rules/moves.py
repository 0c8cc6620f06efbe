"""Functions that move numbers from place to place: what they do to values they do to tangents."""

import operator
import warnings
from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.carriers import carries
from fgnumba.functions.registry import METHODS, formula, formula_by_types, linear, same
from fgnumba.functions.tangents import in_any_order
from fgnumba.functions.zeros import zeros_beside

same(np.copy, "*a")
same(np.reshape, "*a, shape", views=True)
same(np.ravel, "*a", views=True)
same(np.transpose, "*a, axes=None", views=True)
same(np.swapaxes, "*a, axis1, axis2", views=True)
same(np.moveaxis, "*a, source, destination", views=True)
same(np.expand_dims, "*a, axis", views=True)
same(np.broadcast_to, "*array, shape", views=True)
same(np.broadcast_arrays, "*a, *b, *c, *d, *e, *f", views=True)
same(np.ascontiguousarray, "*a", views=True)
same(np.asfortranarray, "*a", views=True)
same(np.asarray_chkfinite, "*a", views=True)
same(np.atleast_1d, "*a", views=True)
same(np.atleast_2d, "*a", views=True)
same(np.atleast_3d, "*a", views=True)
same(np.flip, "*m", views=True)
same(np.fliplr, "*m", views=True)
same(np.flipud, "*m", views=True)
same(np.concatenate, "*arrays, axis=0")
same(np.stack, "*arrays, axis=0")
same(np.vstack, "*tup")
# NumPy warns where it is asked for this old name of vstack.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    same(np.row_stack, "*tup")  # noqa: NPY201
same(np.hstack, "*tup")
same(np.dstack, "*tup")
same(np.column_stack, "*tup")
same(np.split, "*ary, indices_or_sections, axis=0", views=True)
same(np.array_split, "*ary, indices_or_sections, axis=0", views=True)
same(np.hsplit, "*ary, indices_or_sections", views=True)
same(np.vsplit, "*ary, indices_or_sections", views=True)
same(np.dsplit, "*ary, indices_or_sections", views=True)
same(np.take, "*a, indices")
same(np.delete, "*arr, obj")
same(np.rot90, "*m, k=1", views=True)
same(np.diag, "*v, k=0", views=True)
same(reversed, "*sequence", views=True)
same(enumerate, "*iterable, start=0", views=True)
same(np.ndenumerate, "*arr", views=True)
same(zip, "*a, *b, *c, *d, *e, *f", views=True)
same(iter, "*iterable", views=True)
same(operator.getitem, "*a, index", views=True)
same(in_any_order, "*array", views=True)

linear(np.extract, "condition, *arr")
linear(np.repeat, "*a, repeats")
linear(np.roll, "*a, shift")
linear(np.resize, "*a, new_shape")
linear(np.append, "*arr, *values, axis=None")
linear(np.insert, "*arr, obj, *values")
linear(np.take_along_axis, "*arr, indices, axis")
linear(np.full, "shape, *fill_value, dtype=None")
linear(np.full_like, "&a, *fill_value")
linear(np.tril, "*m, k=0")
linear(np.triu, "*m, k=0")
linear(np.diagflat, "*v, k=0")
linear(np.diff, "*a, n=1")
linear(np.ediff1d, "*ary, *to_end=None, *to_begin=None")

for _name in ("copy", "ravel", "reshape", "transpose", "repeat", "take"):
    METHODS["Array", _name] = getattr(np, _name)
METHODS["Array", "flatten"] = np.copy


def converted(array: Any, dtype: Any) -> Any:
    """Stand for the method ``astype``."""
    raise NotImplementedError("it is for code that Numba compiles")


def only_item(array: Any) -> Any:
    """Stand for the method ``item``."""
    raise NotImplementedError("it is for code that Numba compiles")


METHODS["Array", "astype"] = converted
METHODS["Array", "item"] = only_item


@formula(converted, "*a, dtype", several=True, curved=False)
def _converted(y, a, dtype, da, zero):
    result = zeros_beside(y, zero)
    for place in np.ndindex(a.shape):
        result[place] = da[place]
    return result


@formula(only_item, "*a", several=True, curved=False)
def _only_item(y, a, da, zero):
    return da.ravel()[0]


@formula_by_types(np.real, "*val", several=True, curved=False)
def _real(y: Any, val: Any, tangent: Any, zero: Any) -> Any:
    if isinstance(_number(val), types.Complex):
        return lambda y, val, tangent, zero: np.real(tangent)
    return lambda y, val, tangent, zero: tangent


@formula_by_types(np.imag, "*val", several=True, curved=False)
def _imag(y: Any, val: Any, tangent: Any, zero: Any) -> Any:
    if isinstance(_number(val), types.Complex):
        return lambda y, val, tangent, zero: np.imag(tangent)
    if isinstance(y, types.Array):
        return lambda y, val, tangent, zero: zeros_beside(y, zero)
    return lambda y, val, tangent, zero: zero


def _number(kind: types.Type) -> types.Type:
    return kind.dtype if isinstance(kind, types.Array) else kind


@formula_by_types(np.bincount, "a, *weights=None, minlength=0", several=True, curved=False)
def _bincount(y: Any, a: Any, weights: Any, minlength: Any, tangents: Any, zero: Any) -> Any:
    if not carries(y):
        return None

    def counted(y, a, weights, minlength, tangents, zero):
        result = zeros_beside(y, zero)
        for index in range(len(a)):
            result[a[index]] += tangents[index]
        return result

    return counted
