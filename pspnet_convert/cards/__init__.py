"""Model cards: what to convert, read from a `model.yml`, mmsegmentation's index or a user's config."""
