"""What was done: the manifest and its schema."""
