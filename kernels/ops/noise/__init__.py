"""Noise on activities: signs added to the tangents of a layer's pre-activations, example by example."""
