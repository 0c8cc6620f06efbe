"""Descent of a function of numbers and arrays along forward gradients: :func:`fgnumba.minimize`."""
