"""Random signs, written as numbers: the noise from whose effect matrices are learned."""
