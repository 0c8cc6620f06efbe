"""Softmax cross-entropy and its directional derivatives. ``cpu`` binds it."""
