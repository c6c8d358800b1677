"""Fine-tuning by low-rank adapters beside frozen weights (Hu et al. 2022, arXiv 2106.09685), through peft."""

from typing import Any, Literal, final

import torch
from torch import nn

from interp_refiner.core import BadValue, MissingExtra, choice

# In a block of Wan: projections of self-attention and cross-attention, and both layers of the feed-forward network.
TARGETS = r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))"


@final
class LoRA:
    """``W x + (alpha / rank) B A x`` instead of ``W x``: A and B are trained, W is frozen; ``B`` is zero at the start.

    Args:
        rank: rows of A and columns of B, beside every matrix of attention and feed-forward; None for no adapters, which
            is full fine-tuning.
        alpha: scale; None for ``rank``, hence a factor of 1.
        frozen_dtype: of the matrices beside which adapters are: ``bfloat16`` halves them, and needs a run in bfloat16.

    Raises:
        BadValue: a rank below 1, an alpha that is not above 0.
        MissingExtra: peft is not installed.
    """

    def __init__(
        self,
        rank: int | None = None,
        alpha: float | None = None,
        frozen_dtype: Literal["float32", "bfloat16"] = "float32",
    ):
        if rank is not None and rank < 1:
            raise BadValue("rank", rank, "a rank >= 1, such as 8 or 32, or null for full fine-tuning")
        if alpha is not None and not alpha > 0:
            raise BadValue("alpha", alpha, "a scale > 0, or null for rank")
        choice("frozen_dtype", frozen_dtype, ("float32", "bfloat16"))
        self.rank, self.alpha, self.frozen_dtype = rank, alpha, getattr(torch, frozen_dtype)
        if rank is None:
            return
        try:
            import peft  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtra(f"rank={rank}", "peft", "lora") from error

    def attach(self, transformer: nn.Module) -> None:
        """Adds the adapters and freezes everything else, in place."""
        if self.rank is None:
            return
        from peft import LoraConfig, inject_adapter_in_model

        alpha = self.rank if self.alpha is None else self.alpha
        config = LoraConfig(r=self.rank, lora_alpha=alpha, target_modules=TARGETS, lora_dropout=0.0)  # type: ignore[arg-type]
        inject_adapter_in_model(config, transformer)
        for _, layer in _adapted(transformer):
            layer.get_base_layer().to(self.frozen_dtype)


def name_without(name: str) -> str:
    """The name that a frozen weight with adapters beside it has in a module without any."""
    return name.replace(".base_layer.", ".")


def is_adapter(name: str) -> bool:
    """Whether a weight is one of an adapter's, by its name."""
    return ".lora_" in name


def merge(module: nn.Module) -> int:
    """Adds adapters to the matrices beside which they are, in place, and takes them away.

    Returns:
        How many there were. The names of the weights are then those of a module without adapters.
    """
    adapted = _adapted(module)
    for name, layer in adapted:
        layer.get_base_layer().float()
        layer.merge()
        module.set_submodule(name, layer.get_base_layer())
    return len(adapted)


def _adapted(module: nn.Module) -> list[tuple[str, Any]]:
    """The layers with adapters, by name."""
    return [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "get_base_layer")]
