"""Products by precision: peaks, speeds, bits and steps of this processor, and their goals."""
