"""Functions that move numbers from place to place: what they do to values they do to tangents."""

import operator

import numpy as np

from fgnumba.functions.registry import METHODS, linear, same

same(np.copy, "*a")
same(np.reshape, "*a, shape", views=True)
same(np.ravel, "*a", views=True)
same(np.transpose, "*a, axes=None", views=True)
same(np.swapaxes, "*a, axis1, axis2", views=True)
same(np.expand_dims, "*a, axis", views=True)
same(np.broadcast_to, "*array, shape", views=True)
same(np.ascontiguousarray, "*a", views=True)
same(np.asfortranarray, "*a", views=True)
same(np.atleast_1d, "*a", views=True)
same(np.atleast_2d, "*a", views=True)
same(np.atleast_3d, "*a", views=True)
same(np.flip, "*m", views=True)
same(np.fliplr, "*m", views=True)
same(np.flipud, "*m", views=True)
same(np.concatenate, "*arrays, axis=0")
same(np.stack, "*arrays, axis=0")
same(np.vstack, "*tup")
same(np.hstack, "*tup")
same(np.dstack, "*tup")
same(np.column_stack, "*tup")
same(np.repeat, "*a, repeats")
same(np.take, "*a, indices")
same(np.roll, "*a, shift")
same(np.append, "*arr, *values")
same(np.delete, "*arr, obj")
same(np.rot90, "*m, k=1")
same(np.diag, "*v, k=0")
same(reversed, "*sequence", views=True)
same(enumerate, "*iterable, start=0", views=True)
same(zip, "*a, *b, *c, *d, *e, *f", views=True)
same(iter, "*iterable", views=True)
same(operator.getitem, "*a, index", views=True)

linear(np.full, "shape, *fill_value")
linear(np.full_like, "a, *fill_value")
linear(np.tril, "*m, k=0")
linear(np.triu, "*m, k=0")
linear(np.diagflat, "*v, k=0")
linear(np.diff, "*a, n=1")
linear(np.ediff1d, "*ary")

for _name in ("copy", "ravel", "reshape", "transpose", "repeat", "take"):
    METHODS["Array", _name] = getattr(np, _name)
METHODS["Array", "flatten"] = np.copy
