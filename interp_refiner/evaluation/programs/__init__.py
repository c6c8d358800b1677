"""Programs run one after another."""
