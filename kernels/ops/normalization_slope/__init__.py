"""Slopes of normalisations: a signal times the transposed Jacobian of layer or root mean square normalisation."""

LAYER_NORM, RMS_NORM = "layer_norm", "rms_norm"
KINDS = (LAYER_NORM, RMS_NORM)
"""Kinds of normalisation."""
