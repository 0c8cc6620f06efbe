"""Error signals: the estimate of ∂f/∂z for every unit of a layer, from noise, feedback or both."""
