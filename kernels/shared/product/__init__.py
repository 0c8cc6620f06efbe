"""Matrix products with packed weights: register tiles on the CPU, tiles in shared memory on a GPU."""
