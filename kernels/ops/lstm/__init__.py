"""LSTM: the gates and the state of one position, primal and tangents."""
