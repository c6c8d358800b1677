"""Results as records, and their tables and plots."""
