"""Residuals: a loss's gradient in the outputs that it reads, and what noise says about it."""
