"""Layers that start at zero, so that what they add leaves a network's output as it is."""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv3d)


def zeroed(layer: Layer) -> Layer:
    """Sets the layer's weights to zero, and returns it."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
