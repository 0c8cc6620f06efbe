"""Solution of small symmetric systems by Cholesky, in float64, where some rows may depend on others."""
