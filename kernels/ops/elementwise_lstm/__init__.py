"""Element-wise LSTM: a scan over the positions of sequences, primal and tangents."""
