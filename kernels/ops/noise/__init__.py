"""Noise on activities: random signs added to the tangents of a layer's pre-activations, different for each example."""
