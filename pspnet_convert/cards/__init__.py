"""What is to be converted, and where it is known from: a `model.yml`, mmsegmentation's index, a lock file."""
