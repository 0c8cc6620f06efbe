"""Draws the directions of one parameter again, for operations that compute with the directions alone."""
