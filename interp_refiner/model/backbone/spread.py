"""How a clip's tokens are distributed over processes between attention layers: all in one, or over several."""

from abc import ABC, abstractmethod
from typing import final

from jaxtyping import Shaped
from torch import Tensor

from interp_refiner.model.attention import AttentionLayer


class Spread(ABC):
    """Distributes the ``n`` tokens of a clip over processes; this process has ``m`` consecutive tokens."""

    @abstractmethod
    def check(self, tokens: int, heads: int) -> None:
        """Raises :class:`BadValue` if tokens or heads cannot be divided evenly."""

    @abstractmethod
    def in_attention(self, tokens: int, heads: int) -> tuple[int, int]:
        """The numbers of tokens and heads of this process in self-attention, from its numbers outside of it."""

    @abstractmethod
    def part(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b m *d"]:
        """This process's part of ``tokens``, which all processes have in full."""

    @abstractmethod
    def join(self, part: Shaped[Tensor, "b m *d"]) -> Shaped[Tensor, "b n *d"]:
        """Gathers the parts of all processes; every process gets all tokens."""

    @abstractmethod
    def attend(
        self,
        layer: AttentionLayer,
        q: Shaped[Tensor, "b m h d"],
        k: Shaped[Tensor, "b m h d"],
        v: Shaped[Tensor, "b m h d"],
    ) -> Shaped[Tensor, "b m h d"]:
        """Self-attention over all tokens; returns the outputs of this process's tokens."""


@final
class Together(Spread):
    """All tokens are in this process."""

    def check(self, tokens: int, heads: int) -> None:
        pass

    def in_attention(self, tokens: int, heads: int) -> tuple[int, int]:
        return tokens, heads

    def part(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n *d"]:
        return tokens

    def join(self, part: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n *d"]:
        return part

    def attend(
        self,
        layer: AttentionLayer,
        q: Shaped[Tensor, "b n h d"],
        k: Shaped[Tensor, "b n h d"],
        v: Shaped[Tensor, "b n h d"],
    ) -> Shaped[Tensor, "b n h d"]:
        return layer(q, k, v)
