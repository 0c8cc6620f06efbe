"""Measurements of the GPU kernels on a card, and the gate that holds their machine code against a table."""
