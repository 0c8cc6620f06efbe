"""Compute kernels: arrays and numbers, no layers.

An operation is a folder with a module a device, which binds a kernel to its arrays. The rest serves them all:
``emit`` (LLVM vector code: register tile, Philox, transformations), ``compile`` and ``cache`` (machine code, in
memory and on disk), ``program`` (bound operations as one call), ``arguments`` (what an operation reads), ``tiling``
and ``threads`` (how work is cut), ``packing``, ``images`` and ``memory`` (layouts), ``vector`` (instruction sets),
``elementary`` (exp, log, erf and their kin in float32), and what kinds of operations share: ``product`` and ``dots``
(layers with a weight matrix), ``affine`` (scale and shift), ``windows`` (pooling), ``loss``, ``sites`` (noise on
activities), ``drawn`` (directions by themselves).
"""

OPERATIONS = {
    "activations": ("cpu",),
    "avg_pool2d": ("cpu",),
    "channel_sums": ("cpu",),
    "conv2d": ("cpu",),
    "dense": ("cpu",),
    "descent": ("cpu",),
    "differences": ("cpu",),
    "directions": ("cpu",),
    "dropout": ("cpu",),
    "elementwise": ("cpu",),
    "example_panels": ("cpu",),
    "feedback": ("cpu",),
    "gram": ("cpu",),
    "group_norm": ("cpu",),
    "layer_norm": ("cpu",),
    "max_pool2d": ("cpu",),
    "mean_squared_error": ("cpu",),
    "noise": ("cpu",),
    "optimizer": ("cpu",),
    "projection": ("cpu",),
    "residual": ("cpu",),
    "signal": ("cpu",),
    "softmax_cross_entropy": ("cpu",),
}
"""Every operation, with the devices that it runs on."""
