"""Units that activity perturbation adds noise to: how kernels walk over them and draw their signs."""
