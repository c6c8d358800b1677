"""The network, its objectives and its samplers."""
