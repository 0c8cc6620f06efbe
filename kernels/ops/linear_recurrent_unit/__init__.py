"""Linear recurrent unit: a scan over the positions of sequences, primal and tangents."""
