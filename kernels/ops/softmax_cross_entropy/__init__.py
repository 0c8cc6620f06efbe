"""Softmax cross-entropy and its directional derivatives."""
