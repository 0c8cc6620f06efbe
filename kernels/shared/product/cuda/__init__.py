"""The tile of dense layers and convolutions on a GPU."""
