"""Mean squared error and its directional derivatives."""
