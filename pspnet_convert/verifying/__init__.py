"""Whether the converted models give the reference's answers."""
