"""Binary cross-entropy of logits and its directional derivatives."""
