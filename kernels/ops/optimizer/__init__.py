"""Optimisers: a parameter and its moments, moved by a gradient that is stored."""
