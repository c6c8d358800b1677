"""The plan of a video: levels, windows, size."""
