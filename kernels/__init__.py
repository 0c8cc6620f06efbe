"""Compute kernels: arrays and numbers, no layers.

An operation is a folder with a module a device, which binds a kernel to its arrays. The rest serves them all:
``emit`` (LLVM vector code: register tile, Philox, transformations), ``compile`` and ``cache`` (machine code, in
memory and on disk), ``program`` (bound operations as one call), ``sharing`` and ``workers`` (the threads that run
it), ``arguments`` (what an operation reads), ``tiling`` and ``threads`` (how work is cut), ``packing``, ``images``
and ``memory`` (layouts), ``paths`` (names of files), ``vector`` (instruction sets), ``tuning`` (which register tile),
``elementary`` (exp, log, erf and their kin in float32), and what kinds of operations share: ``product`` and ``dots``
(layers with a weight matrix), ``affine`` (scale and shift), ``windows`` (pooling), ``loss``, ``sites`` (noise on
activities), ``drawn`` (directions by themselves). ``identity`` tells kernels apart, ``cgroup`` knows the limits of
containers, ``bound`` is what holds addresses, ``uninterrupted`` holds signals back, and ``numba_settings`` imports
Numba before any other module does.
"""

from fgnumba.kernels import numba_settings as numba_settings

DEVICES = ("cpu", "cuda")

OPERATIONS = (
    "activations",
    "avg_pool2d",
    "channel_sums",
    "conv2d",
    "dense",
    "descent",
    "differences",
    "directions",
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
    "residual",
    "signal",
    "softmax_cross_entropy",
)
"""Every operation: a folder with a module for each of ``DEVICES``, bound by functions of the same parameters."""
