"""What turns prompts into embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor


class TextEncoder(ABC):
    """Turns prompts into embeddings ``[b, L, D]``, zero beyond each prompt.

    Attributes:
        name: of the encoder's config.
        length: L, the embeddings a prompt is padded to; longer prompts are cut.
        dim: D.
    """

    name: str
    length: int
    dim: int

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        """The embeddings of ``prompts``, one row each."""

    def describe(self) -> dict[str, Any]:
        """What a ``dataset.json`` says about this encoder."""
        return {"name": self.name, "length": self.length, "dim": self.dim}
