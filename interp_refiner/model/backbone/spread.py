"""The distribution of a clip's tokens between blocks: all in one process, or over several."""

from abc import ABC, abstractmethod
from typing import final

from jaxtyping import Shaped
from torch import Tensor

from interp_refiner.model.attention import AttentionLayer


class Spread(ABC):
    """Tokens of one clip over processes: ``n`` in all, ``m`` of them in this one, in their order."""

    @abstractmethod
    def check(self, tokens: int, heads: int) -> None:
        """Refuses, with :class:`BadValue`, numbers that cannot be spread evenly."""

    @abstractmethod
    def in_attention(self, tokens: int, heads: int) -> tuple[int, int]:
        """How many tokens and heads self-attention has in a process that otherwise has so many."""

    @abstractmethod
    def part(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b m *d"]:
        """This process's tokens of those that every process has."""

    @abstractmethod
    def join(self, part: Shaped[Tensor, "b m *d"]) -> Shaped[Tensor, "b n *d"]:
        """All tokens, in every process, of those that each of them has."""

    @abstractmethod
    def attend(
        self,
        layer: AttentionLayer,
        q: Shaped[Tensor, "b m h d"],
        k: Shaped[Tensor, "b m h d"],
        v: Shaped[Tensor, "b m h d"],
    ) -> Shaped[Tensor, "b m h d"]:
        """Self-attention of all tokens, for those of this process."""


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
