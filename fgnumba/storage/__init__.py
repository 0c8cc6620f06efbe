"""Files on disk: files that survive a crash, checkpoints, safetensors, JSON lines. No model is known here."""
