"""Tests of graphs of layers, their losses and their derivatives."""
