"""Functions whose derivative is zero wherever there is one: counting, comparing, rounding, finding places."""

import math

import numpy as np

from fgnumba.functions.auxiliary import is_whole
from fgnumba.functions.registry import METHODS, constant

constant(is_whole)
constant(len, range, round, isinstance, hash, bool, int, str, repr, all, any, slice)
constant(math.floor, math.ceil, math.trunc, math.isnan, math.isinf, math.isfinite)
constant(
    np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero, np.searchsorted, np.digitize
)
constant(
    np.any, np.all, np.count_nonzero, np.isnan, np.isinf, np.isfinite, np.signbit, np.isclose, np.allclose
)
constant(
    np.array_equal,
    np.shape,
    np.size,
    np.ndim,
    np.zeros_like,
    np.ones_like,
    np.empty_like,
    np.round,
    np.around,
)
constant(np.floor, np.ceil, np.trunc, np.rint, np.sign, np.nanargmax, np.nanargmin, np.isreal, np.iscomplex)
constant(np.iscomplexobj, np.isrealobj, np.broadcast_shapes, np.linalg.matrix_rank, np.ndindex)
for _name in ("argmax", "argmin", "argsort", "any", "all", "nonzero", "searchsorted"):
    METHODS["Array", _name] = getattr(np, _name)
constant(
    np.isneginf,
    np.isposinf,
    np.isin,
    np.isscalar,
    np.argpartition,
    np.tril_indices_from,
    np.triu_indices_from,
)
constant(np.spacing, np.logical_not, np.logical_and, np.logical_or, np.logical_xor)
