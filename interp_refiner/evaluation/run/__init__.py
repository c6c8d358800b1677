"""A trained model with its data, and its held-out clips."""
