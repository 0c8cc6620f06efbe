"""Dropout: random elements become zero, the same ones in the primal and in the tangents."""

ROW_MULTIPLE = 64
