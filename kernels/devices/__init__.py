"""Devices: where arrays lie, whose kernels the operations are bound to, and how bound operations run."""
