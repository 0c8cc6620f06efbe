"""Scale and shift of each channel, for the normalisations."""
