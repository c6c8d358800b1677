"""The network, what its output means, and how a clip is made of it."""
