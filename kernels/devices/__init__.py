"""Devices: where arrays lie, which kernels operations are bound to, and how bound operations run."""
