"""Products that sum over the examples of a batch: values and error signals in panels, and their product."""
