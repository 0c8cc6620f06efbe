"""Emits LLVM code for the vector instructions that Numba would not generate by itself.

Each module defines Numba intrinsics: functions that a kernel calls like any other, and whose LLVM code is written here
by hand. Everything else in ``kernels`` is Python that Numba compiles. Kernels pass addresses as int64.

A function that builds an intrinsic is cached and returns the same intrinsic for the same arguments, because Numba keeps
every intrinsic that was ever made until the process ends.
"""

from fgnumba.kernels.emit.calls import call, pointer, prefetch, prefetch_to_write
from fgnumba.kernels.emit.channels import channel_affine, channel_moments, channel_sums
from fgnumba.kernels.emit.dot_peak import dot_peak, dots_a_round
from fgnumba.kernels.emit.epilogue import tangent_rows
from fgnumba.kernels.emit.matrix_tile import matrix_tile
from fgnumba.kernels.emit.panel_product import panel_product
from fgnumba.kernels.emit.philox import philox_words
from fgnumba.kernels.emit.quad_tile import quad_tile
from fgnumba.kernels.emit.recurrence import FORMULAS, recurrence_steps
from fgnumba.kernels.emit.register_tile import multiply_add_peak, product_tile
from fgnumba.kernels.emit.rows import lane_sums, row_dots, scaled_rows
from fgnumba.kernels.emit.softmax import slope_rows, softmax_rows
from fgnumba.kernels.emit.traces import (
    STARTS,
    carried_rows,
    one_row,
    summed_rows,
    weighed_rows,
    window_products,
)
from fgnumba.kernels.emit.transform import separable, transpose_block

__all__ = [
    "FORMULAS",
    "STARTS",
    "call",
    "carried_rows",
    "channel_affine",
    "channel_moments",
    "channel_sums",
    "dot_peak",
    "dots_a_round",
    "lane_sums",
    "matrix_tile",
    "multiply_add_peak",
    "one_row",
    "panel_product",
    "philox_words",
    "pointer",
    "prefetch",
    "prefetch_to_write",
    "product_tile",
    "quad_tile",
    "recurrence_steps",
    "row_dots",
    "scaled_rows",
    "separable",
    "slope_rows",
    "softmax_rows",
    "summed_rows",
    "tangent_rows",
    "transpose_block",
    "weighed_rows",
    "window_products",
]
