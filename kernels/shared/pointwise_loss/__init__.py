"""What losses share that are a mean over outputs of a rule of one output and its target (``kernels.rules.losses``)."""
