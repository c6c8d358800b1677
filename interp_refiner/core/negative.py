"""The embedding of the empty or negative prompt."""

from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core.errors import BadValue
from interp_refiner.core.stored import load_tensor


@final
class NegativeEmbedding:
    """One embedding ``[L, D]`` for every clip.

    Args:
        path: a tensor file ``[L, D]``, as ``prepare embed`` writes it; None for zeros, which are the caption encoder's
            embedding of an empty prompt (but not umT5's).

    Raises:
        BadValue: no such file, or a file without a prompt embedding.
    """

    def __init__(self, path: str | None = None):
        self.path = path
        self.embedding = None if path is None else load_embedding("negative", path)

    @classmethod
    def of(cls, embedding: Float[Tensor, "l d"]) -> "NegativeEmbedding":
        """From an embedding in memory instead of a file."""
        made = cls()
        made.embedding = embedding
        return made

    def like(self, text: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """The embedding in the shape, dtype and on the device of a batch's prompts.

        Raises:
            BadValue: prompts of another length or width.
        """
        if self.embedding is None:
            return torch.zeros_like(text)
        if self.embedding.shape != text.shape[1:]:
            found = f"an embedding {list(text.shape[1:])}, as the prompts have; it holds {list(self.embedding.shape)}"
            raise BadValue("negative", self.path, found)
        return self.embedding.to(text, non_blocking=True).expand_as(text)


def load_embedding(name: str, path: str | Path) -> Float[Tensor, "l d"]:
    """The embedding in a tensor file; ``name`` is the setting that names the file, for the error."""
    wanted = "a tensor file of one prompt embedding [L, D]"
    embedding = load_tensor(name, path, wanted)
    if embedding.ndim != 2:
        raise BadValue(name, path, f"{wanted}, it holds {list(embedding.shape)}")
    return embedding
