"""Choices among numbers: where, clip, sort, interpolation."""

import numpy as np

from fgnumba.functions.registry import formula


@formula(np.sort, "*a")
def _sort(y, a, da):
    return da[np.argsort(a, kind="mergesort")]
