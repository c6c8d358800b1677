"""Floating-point operations of a transformer, counted analytically: two for every multiply-add of a matrix product.

There are two counts of a training step:

- the *model's* (:attr:`Flops.training`), which MFU uses (Chowdhery et al. 2022, "PaLM", appendix B): ``3 x forward``,
  because the backward pass has two products for every forward product. A product with a frozen weight has only one
  backward product, because the weight needs no gradient. Recomputation is not counted, neither of activations nor of
  the scores ``q k^T``, which fused attention kernels recompute in their backward pass.
- the *kernels'* (:attr:`Flops.executed`): includes those scores. Softmax attention has five backward products for two
  forward ones, so ``3.5 x forward``. The lower bounds in experiments/performance and a kernel's TFLOP/s use this count.
  Recomputed activations are not counted here, either.
"""

from dataclasses import dataclass

MODEL = 3.0  # forward, and the gradients to both factors of every product
KERNELS = 3.5  # (2 + 5) / 2: softmax attention has two products forward, five backward


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass.

    Attributes:
        linear: products with weights, and those of linear attention.
        self_attention: the products ``q k^T`` and ``softmax(q k^T) v``, kept blocks only.
        cross_attention: the same products, from tokens to text.
        frozen: the part of ``linear`` with weights that are not trained.
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
        """The model's operations in a forward and a backward pass, as MFU counts them."""
        return Flops(self._linear_training, MODEL * self.self_attention, MODEL * self.cross_attention)

    @property
    def executed(self) -> "Flops":
        """The operations that kernels execute in a forward and a backward pass, without recomputed activations."""
        return Flops(self._linear_training, KERNELS * self.self_attention, KERNELS * self.cross_attention)

    @property
    def _linear_training(self) -> float:
        return MODEL * self.linear - self.frozen


def linear_flops(rows: int, inputs: int, outputs: int) -> float:
    """Operations of ``rows`` vectors times an ``inputs x outputs`` matrix."""
    return 2.0 * rows * inputs * outputs


def attention_flops(batch: int, heads: int, queries: int, keys: int | float, head_dim: int) -> float:
    """Operations of ``softmax(q k^T) v`` with ``keys`` keys per query."""
    return 4.0 * batch * heads * queries * keys * head_dim
