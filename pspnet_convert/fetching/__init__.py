"""From the sources of a card to a checkpoint whose digest is right."""
