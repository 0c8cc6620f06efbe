"""Value, first derivatives and one summed second derivative of a chain of dense layers in its input, on the CPU."""
