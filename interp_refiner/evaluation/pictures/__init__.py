"""Pictures and videos of held-out clips."""
