"""Tests of forward mode of Numba functions."""
