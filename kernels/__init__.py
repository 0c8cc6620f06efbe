"""Compute kernels: arrays and numbers, no layers.

An operation is a folder with a module a device, which binds a kernel to its arrays. The rest serves them all:
``emit`` (LLVM vector code: register tile, Philox), ``compile`` and ``cache`` (machine code, in memory and on
disk), ``program`` (bound operations as one call), ``tiling`` and ``threads`` (how work is cut), ``packing`` and
``memory`` (layouts), ``vector`` (instruction sets), ``elementary`` (exp, log, erf and their kin in float32).
"""

OPERATIONS = {
    "activations": ("cpu",),
    "dense": ("cpu",),
    "descent": ("cpu",),
    "directions": ("cpu",),
    "mean_squared_error": ("cpu",),
    "softmax_cross_entropy": ("cpu",),
}
"""Every operation, with the devices that it runs on."""
