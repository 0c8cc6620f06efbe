"""Matrix products with packed weights: register tiles on the CPU, shared-memory tiles on a GPU."""
