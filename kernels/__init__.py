"""Compute kernels: arrays and numbers, no layers.

A package imports those that stand before it, and none after it:

emit      LLVM vector code: register tile, Philox, transformations, instruction sets
machine   kernels compiled, cached on disk, bound to memory, and run on threads
layout    how images, packed weights and the windows of convolutions lie in memory
cuda      the machinery of GPU kernels: primitives, simulator, driver, programs
rules     what every device compiles: activations, directions, random numbers, means
shared    parts of kernels that several operations share, for the CPU and for CUDA
ops       the operations: a folder each, with a module a device, which binds a kernel to its arrays
devices   where arrays lie, and which kernels operations are bound to
"""

from fgnumba.kernels.machine import numba_settings as numba_settings

DEVICES = ("cpu", "cuda")

RULES = ("activations", "directions")
"""Rules that operations on every device compute with: a folder with a module for each of ``DEVICES``."""

OPERATIONS = (
    "avg_pool2d",
    "channel_sums",
    "conv2d",
    "dense",
    "descent",
    "differences",
    "dropout",
    "elementwise",
    "example_panels",
    "feedback",
    "gram",
    "group_norm",
    "layer_norm",
    "max_pool2d",
    "mean_squared_error",
    "noise",
    "optimizer",
    "projection",
    "noise_response",
    "error_signal",
    "softmax_cross_entropy",
)
"""Every operation: a folder with a module for each of ``DEVICES``, bound by functions of the same parameters."""


def module_name(name: str, device: str) -> str:
    """Return the name of the module of an operation, or of a rule, for a device."""
    return f"fgnumba.kernels.{'rules' if name in RULES else 'ops'}.{name}.{device}"
