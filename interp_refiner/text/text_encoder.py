"""What turns prompts into embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


class TextEncoder(ABC):
    """Turns prompts into embeddings ``[b, L, D]``, zero beyond each prompt.

    Attributes:
        length: L, the embeddings a prompt is padded to; longer prompts are cut.
        dim: D.
    """

    length: int
    dim: int

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        """The embeddings of ``prompts``, one row each."""
