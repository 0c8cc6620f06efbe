"""Random zeroing of elements, the same for primal and tangents."""

ROW_MULTIPLE = 64
