"""Passes the requested precision to the custom pipeline. Copied into an exported folder as ``precision/component.py``.

diffusers passes ``torch_dtype`` only to the components of a pipeline.
"""

from typing import Any

import torch
from torch import nn


class Precision(nn.Module):
    """A component without weights.

    Args:
        asked: the dtype.
    """

    def __init__(self, asked: torch.dtype):
        super().__init__()
        self.asked = asked

    @classmethod
    def from_pretrained(cls, folder: Any, torch_dtype: torch.dtype | None = None, **_: Any) -> "Precision":
        """Reads nothing; takes the arguments that diffusers passes to every component."""
        return cls(torch_dtype or torch.float32)
