"""Distributes a clip's tokens over several processes (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv 2309.14509)."""

from typing import final

import torch
import torch.distributed._functional_collectives as collectives  # these support autograd and torch.compile
from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed import ProcessGroup, get_rank, get_world_size

from interp_refiner.core import BadValue
from interp_refiner.model.attention import AttentionLayer
from interp_refiner.model.backbone import Spread


@final
class Ulysses(Spread):
    """Splits tokens between attention layers, and heads inside of them.

    Outside of self-attention a process has ``n / p`` tokens with all ``h`` heads; inside it has all tokens with
    ``h / p`` heads. One all-to-all switches to heads, another one back.

    The gradient of every collective is its exact adjoint. So a process's gradient is the derivative of the sum of all
    processes' losses with respect to its own part of the computation. All processes have the same loss, that of the
    whole clip. Strategies average gradients over processes, which gives the gradient of that loss.

    Args:
        group: the p processes that share a clip, in the order of its tokens.
    """

    def __init__(self, group: ProcessGroup):
        self.group, self.size, self.place = group, get_world_size(group), get_rank(group)

    def check(self, tokens: int, heads: int) -> None:
        for name, count in {"heads of the backbone": heads, "tokens of a clip": tokens}.items():
            if count % self.size:
                raise BadValue("trainer.strategy.size", self.size, f"a divisor of the {count} {name}")

    def in_attention(self, tokens: int, heads: int) -> tuple[int, int]:
        return tokens * self.size, heads // self.size

    def part(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b m *d"]:
        return tokens.chunk(self.size, 1)[self.place].contiguous()  # a view would keep all tokens in memory

    def join(self, part: Shaped[Tensor, "b m *d"]) -> Shaped[Tensor, "b n *d"]:
        parts = self._exchange(part.expand(self.size, *part.shape))
        return rearrange(parts, "p b m ... -> b (p m) ...")

    def attend(
        self,
        layer: AttentionLayer,
        q: Shaped[Tensor, "b m h d"],
        k: Shaped[Tensor, "b m h d"],
        v: Shaped[Tensor, "b m h d"],
    ) -> Shaped[Tensor, "b m h d"]:
        by_heads = rearrange(torch.stack([q, k, v]), "s b m (p h) d -> p s b m h d", p=self.size)
        q, k, v = rearrange(self._exchange(by_heads), "p s b m h d -> s b (p m) h d")
        by_tokens = rearrange(layer(q, k, v), "b (p m) h d -> p b m h d", p=self.size)
        return rearrange(self._exchange(by_tokens), "p b m h d -> b m (p h) d")

    def _exchange(self, parts: Shaped[Tensor, " p *d"]) -> Shaped[Tensor, " p *d"]:
        """All-to-all: part i goes to process i, and part i of the result is what process i has sent here."""
        return collectives.all_to_all_single_autograd(parts.contiguous(), None, None, self.group)
