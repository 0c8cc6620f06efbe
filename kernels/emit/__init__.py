"""The one place that emits LLVM: vector code that Numba would not make, as intrinsics that kernels call.

Everything else in ``kernels`` is Python that Numba compiles. Addresses travel as int64. The same arguments give
the same intrinsic: Numba keeps every one that there ever was.
"""

from fgnumba.kernels.emit.calls import call, pointer, prefetch
from fgnumba.kernels.emit.channels import channel_affine, channel_moments, channel_sums
from fgnumba.kernels.emit.epilogue import tangent_rows
from fgnumba.kernels.emit.philox import philox_words
from fgnumba.kernels.emit.register_tile import multiply_add_peak, product_tile
from fgnumba.kernels.emit.transform import separable, transpose_block

__all__ = [
    "call",
    "channel_affine",
    "channel_moments",
    "channel_sums",
    "multiply_add_peak",
    "philox_words",
    "pointer",
    "prefetch",
    "product_tile",
    "separable",
    "tangent_rows",
    "transpose_block",
]
