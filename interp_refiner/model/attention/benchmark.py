"""Times the kinds of attention, forward and backward, at the shapes of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp_refiner.core import median_seconds
from interp_refiner.model.attention.attention import Attention, Workload
from interp_refiner.model.attention.flops import Flops


@dataclass(frozen=True)
class Shape:
    """The shape of queries, keys and values.

    Args:
        batch, heads, head_dim: b, h, d.
        grid: frames, rows and columns of tokens.
        dtype: of the tensors.
    """

    batch: int
    grid: list[int]
    heads: int
    head_dim: int
    dtype: str

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    def workload(self, device: torch.device) -> Workload:
        """The workload of self-attention with a backward pass."""
        tokens, dtype = self.tokens, getattr(torch, self.dtype)
        return Workload(self.batch, tokens, tokens, self.heads, self.head_dim, device, dtype)


class AttentionBenchmark:
    """Measures milliseconds, achieved TFLOP/s and the ratio to the first kind, for each kind of attention.

    Operations are counted analytically, over kept blocks only.

    Args:
        attentions: the kinds by name; times are relative to the first.
        cuda, cpu: the shape on each device.
        repeats: number of timed runs; the median is reported.
        warmup: number of runs before them.
        compile: whether to compile each layer as a whole, as inside a compiled block.
    """

    def __init__(
        self,
        attentions: dict[str, Attention],
        cuda: Shape,
        cpu: Shape,
        repeats: int = 10,
        warmup: int = 3,
        compile: bool = True,
    ):
        self.attentions, self.shapes = attentions, {"cuda": cuda, "cpu": cpu}
        self.repeats, self.warmup, self.compile = repeats, warmup, compile

    def run(self, device: str) -> dict[str, Any]:
        """One row per kind; a kind that does not run here has the reason under ``error``."""
        shape = self.shapes[device]
        rows: list[dict[str, Any]] = []
        for name, attention in self.attentions.items():
            try:
                rows.append({"attention": name, **self._measure(attention, shape, device)})
            except Exception as error:  # a kernel that fails on this device must not stop the others
                rows.append({"attention": name, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"})
        for row in rows:
            if "error" not in row and "error" not in rows[0]:
                row["ratio"] = round(row["training_ms"] / rows[0]["training_ms"], 4)
        return {"shape": vars(shape), "tokens": shape.tokens, "repeats": self.repeats, "rows": rows}

    def _measure(self, attention: Attention, shape: Shape, device: str) -> dict[str, Any]:
        dtype = getattr(torch, shape.dtype)
        q, k, v, grad = random_qkv(shape, device, dtype)
        layer = attention.self_attention(shape.head_dim).to(device)
        nn.init.normal_(next(layer.parameters(), torch.empty(0)), std=0.1)
        layer.prepare(shape.workload(torch.device(device)))
        attend: Callable[..., Tensor] = layer
        if self.compile and device == "cuda":
            attend = torch.compile(layer, dynamic=False, fullgraph=True, options=attention.compiler_options)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        inputs = [*leaves, *layer.parameters()]

        def forward() -> Tensor:
            return attend(*leaves)

        def training() -> tuple[Tensor, ...]:
            return torch.autograd.grad(forward(), inputs, grad)

        with torch.no_grad():
            once = median_seconds(forward, device, self.repeats, self.warmup)
        both = median_seconds(training, device, self.repeats, self.warmup)
        flops = attention.flops(shape.batch, shape.heads, shape.tokens, shape.head_dim)
        return {"kernel": layer.chosen, **figures(flops, once, both)}


def figures(flops: Flops, forward: float, training: float) -> dict[str, float]:
    """Milliseconds and TFLOP/s of a forward pass, and of a forward and backward pass, from the seconds of each.

    TFLOP/s count the operations that kernels execute, see :mod:`interp_refiner.model.attention.flops`.
    """
    return {
        "forward_ms": round(1e3 * forward, 3),
        "training_ms": round(1e3 * training, 3),
        "forward_tflops_per_s": round(flops.total / forward / 1e12, 3),
        "training_tflops_per_s": round(flops.executed.total / training / 1e12, 3),
    }


def random_qkv(shape: Shape, device: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Queries, keys, values and a gradient ``[b, n, h, d]`` from a fixed seed."""
    generator = torch.Generator(device).manual_seed(0)
    size = (shape.batch, shape.tokens, shape.heads, shape.head_dim)
    return tuple(torch.randn(size, generator=generator, device=device, dtype=dtype) for _ in range(4))
