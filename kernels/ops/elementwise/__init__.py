"""Elementwise operations: the sum of images, and an activation of it, primal and tangents."""
