"""Bytes on disk: files that outlive a crash, checkpoints, safetensors. It knows no model."""
