"""The interface of text encoders."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec


class TextEncoder(ABC):
    """Turns prompts into embeddings ``[b, L, D]``, zero beyond each prompt.

    Attributes:
        name: name of the encoder's config.
        length: L, the number of embeddings per prompt; prompts are padded or cut to it.
        dim: D.
        vocabulary: the words of the data set's captions; empty for an encoder of a whole language, or if not known.
    """

    name: str
    length: int
    dim: int
    vocabulary: tuple[str, ...] = ()

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        """The embeddings of ``prompts``, one row each."""

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that no training caption has; none for an encoder of a whole language."""
        return []

    def notes(self, prompt: str) -> list[str]:
        """Notes on the parts of a prompt that the network cannot use; none for an encoder of a whole language."""
        return []

    def hold_against(self, spec: ClipSpec) -> None:
        """Raises :class:`BadValue` if the clips' prompt embeddings were made by another encoder."""
        if (made_with := spec.text.get("name", self.name)) != self.name:
            raise BadValue("text", self.name, f"{made_with}, which the shards' prompt embeddings were made with")
        if spec.text_shape is not None and spec.text_shape != (self.length, self.dim):
            found, wanted = [self.length, self.dim], list(spec.text_shape)
            raise BadValue("text", self.name, f"embeddings {wanted} as in training, not {found}")

    def describe(self) -> dict[str, Any]:
        """The encoder's settings, for ``dataset.json``."""
        return {"name": self.name, "length": self.length, "dim": self.dim}

    def describe_trained(self, captions: Iterable[str]) -> dict[str, Any]:
        """The settings, with what the encoder keeps of the training captions."""
        return self.describe()
