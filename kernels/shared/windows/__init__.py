"""Windows that move over an image, for the pooling operations."""
