"""Compute kernels: functions on arrays and numbers, which know nothing of layers or models.

Each package below may import only the packages that stand before it:

    emit      LLVM vector code: register tile, Philox, transformations, instruction sets
    machine   compiles kernels, caches them on disk, binds them to memory, and runs them on threads
    layout    how images, packed weights and the windows of convolutions lie in memory
    cuda      the machinery of GPU kernels: primitives, simulator, driver, programs
    rules     formulas that are compiled for every device: activations, directions, random numbers, means
    shared    parts of kernels that several operations share, for the CPU and for CUDA
    ops       the operations: one folder each, with one module for each device, which binds a kernel to its arrays
    devices   where arrays lie, and whose kernels the operations are bound to

An *operation* is a compiled kernel bound to its arguments, for example the dense layer of one model. A function that
binds one, such as ``ops.dense.cpu.bind``, is a *launcher*: it checks its arguments once, so that running the operation
checks nothing.
"""

from fgnumba.kernels.machine import numba_settings as numba_settings

DEVICES = ("cpu", "cuda")

RULES = ("activations", "directions")
"""Rules with one module for each of ``DEVICES``, which operations of that device compute with."""

OPERATIONS = (
    "attention",
    "attention_noise",
    "avg_pool2d",
    "binary_cross_entropy",
    "channel_sums",
    "conv2d",
    "dense",
    "descent",
    "differences",
    "dropout",
    "elementwise",
    "elementwise_lstm",
    "embedding",
    "example_panels",
    "feedback",
    "gauss_newton",
    "gram",
    "group_norm",
    "gru",
    "huber",
    "layer_norm",
    "least_mean_squares",
    "linear_recurrent_unit",
    "lstm",
    "max_pool2d",
    "mean_squared_error",
    "min_gru",
    "noise",
    "optimizer",
    "output_curvature",
    "positional_embedding",
    "projection",
    "rms_norm",
    "rotary",
    "signs",
    "noise_response",
    "normalization_slope",
    "error_signal",
    "softmax_cross_entropy",
    "traces",
    "weighted_cross_entropy",
)
"""Every operation: a folder with one module for each of ``DEVICES``, whose launchers take the same parameters."""


def module_name(name: str, device: str) -> str:
    """Return the full name of the module that implements an operation, or a rule, on a device."""
    return f"fgnumba.kernels.{'rules' if name in RULES else 'ops'}.{name}.{device}"
