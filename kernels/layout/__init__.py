"""How images, packed weights and the windows of convolutions lie in memory."""
