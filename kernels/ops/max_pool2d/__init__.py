"""Maximum over windows of an image, primal and tangents."""
