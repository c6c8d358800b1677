"""Floating-point operations of a transformer, counted analytically: two for every multiply-add of a matrix product."""

from dataclasses import dataclass

# A matrix product has two of its size in its backward pass.
LINEAR_TRAINING = 3.0
# Two products forward; backward recomputes the scores and has four more, as every fused kernel does.
ATTENTION_TRAINING = 3.5


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass.

    Attributes:
        linear: of products with weights, and of linear attention.
        self_attention: of the score matrix and of what it weighs, kept blocks only.
        cross_attention: likewise, tokens against text.
    """

    linear: float = 0.0
    self_attention: float = 0.0
    cross_attention: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.linear + other.linear,
            self.self_attention + other.self_attention,
            self.cross_attention + other.cross_attention,
        )

    def __mul__(self, times: int) -> "Flops":
        return Flops(times * self.linear, times * self.self_attention, times * self.cross_attention)

    @property
    def total(self) -> float:
        return self.linear + self.self_attention + self.cross_attention

    @property
    def training(self) -> "Flops":
        """Of a forward and a backward pass to weights and inputs; recomputation of activations is not counted."""
        return Flops(
            LINEAR_TRAINING * self.linear,
            ATTENTION_TRAINING * self.self_attention,
            ATTENTION_TRAINING * self.cross_attention,
        )


def linear_flops(rows: int, inputs: int, outputs: int) -> float:
    """Of ``rows`` vectors times an ``inputs x outputs`` matrix."""
    return 2.0 * rows * inputs * outputs


def attention_flops(batch: int, heads: int, queries: int, keys: int | float, head_dim: int) -> float:
    """Of ``softmax(q k^T) v`` with ``keys`` keys seen by every query."""
    return 4.0 * batch * heads * queries * keys * head_dim
