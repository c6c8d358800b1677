"""Floating-point operations of a transformer, counted analytically: two for every multiply-add of a matrix product.

Two counts of a training step, of which MFU (Chowdhery et al. 2022, "PaLM", appendix B) is the first over time and peak:

- the *model's* (:attr:`Flops.training`): every product of the forward pass once, and twice its size in the backward
  pass, so ``3 x forward``; once only where a factor is a frozen weight, which needs no gradient. Nothing that hardware
  computes a second time is in it: no recomputed activations, and not the scores ``q k^T`` that fused attention kernels
  compute again in their backward pass.
- the *kernels'* (:attr:`Flops.executed`): with those scores, five products to two, so ``3.5 x forward`` in softmax
  attention. The floors of experiments/performance and the TFLOP/s of a kernel are of these. Recomputed activations are
  not in it either.
"""

from dataclasses import dataclass

MODEL = 3.0  # forward, and the gradients to both factors of every product
KERNELS = 3.5  # (2 + 5) / 2: softmax attention has two products forward, five backward


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass.

    Attributes:
        linear: of products with weights, and of linear attention.
        self_attention: of the score matrix and of what it weighs, kept blocks only.
        cross_attention: likewise, tokens against text.
        frozen: of ``linear``, products with weights that are not trained.
    """

    linear: float = 0.0
    self_attention: float = 0.0
    cross_attention: float = 0.0
    frozen: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.linear + other.linear,
            self.self_attention + other.self_attention,
            self.cross_attention + other.cross_attention,
            self.frozen + other.frozen,
        )

    def __mul__(self, times: int | float) -> "Flops":
        return Flops(*(times * part for part in (self.linear, self.self_attention, self.cross_attention, self.frozen)))

    @property
    def total(self) -> float:
        return self.linear + self.self_attention + self.cross_attention

    @property
    def training(self) -> "Flops":
        """The model's operations of a forward and a backward pass: what MFU counts."""
        return Flops(self._linear_training, MODEL * self.self_attention, MODEL * self.cross_attention)

    @property
    def executed(self) -> "Flops":
        """What kernels execute in a forward and a backward pass without recomputed activations."""
        return Flops(self._linear_training, KERNELS * self.self_attention, KERNELS * self.cross_attention)

    @property
    def _linear_training(self) -> float:
        return MODEL * self.linear - self.frozen


def linear_flops(rows: int, inputs: int, outputs: int) -> float:
    """Of ``rows`` vectors times an ``inputs x outputs`` matrix."""
    return 2.0 * rows * inputs * outputs


def attention_flops(batch: int, heads: int, queries: int, keys: int | float, head_dim: int) -> float:
    """Of ``softmax(q k^T) v`` with ``keys`` keys seen by every query."""
    return 4.0 * batch * heads * queries * keys * head_dim
