"""Sets layers to zero, so that initially they do not change a network's output."""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv3d)


def zeroed(layer: Layer) -> Layer:
    """Sets the layer's weights to zero, and returns it."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
