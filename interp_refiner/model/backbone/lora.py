"""Fine-tuning with low-rank adapters on frozen weights (Hu et al. 2022, arXiv 2106.09685), through peft."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from interp_refiner.core import BadValue, MissingExtra, choice, positive
from interp_refiner.model.backbone.lora_file import Adapter, read_adapters

# In a block of Wan: projections of self-attention and cross-attention, and both layers of the feed-forward network.
TARGETS = r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))"
ADAPTER = "default"  # peft's name of an adapter
DOWN = f".lora_A.{ADAPTER}.weight"


@final
class LoRA:
    """``W x + (alpha / rank) B A x`` instead of ``W x``: A and B are trained, W is frozen; ``B`` is zero at the start.

    Args:
        rank: rows of A and columns of B, for every matrix of attention and feed-forward layers; None for no adapters,
            which means full fine-tuning.
        alpha: scale; None for ``rank``, which gives a factor of 1.
        weights: a LoRA file with the adapters' initial values, see :func:`read_adapters`. Only layers in the file get
            adapters, of the file's rank; the file's scale is multiplied into B. None: B starts at zero.
        layers: names of the layers that get adapters if there are no ``weights``; None for all matrices of attention
            and feed-forward layers. Loading a checkpoint sets them.
        frozen_dtype: dtype of the matrices that have adapters; ``bfloat16`` halves their memory and needs a bfloat16
            run.

    Raises:
        BadValue: a rank below 1, an alpha that is not above 0.
        MissingExtra: peft is not installed.
    """

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        if any(settings.get(name) is not None for name in ("rank", "weights")):
            return {}
        return dict.fromkeys(("alpha", "frozen_dtype"), "without rank or weights there are no adapters")

    def __init__(
        self,
        rank: int | None = None,
        alpha: float | None = None,
        frozen_dtype: Literal["float32", "bfloat16"] = "float32",
        weights: str | None = None,
        layers: Sequence[str] | None = None,
    ):
        if rank is not None and rank < 1:
            raise BadValue("rank", rank, "a rank >= 1, such as 8 or 32, or null for full fine-tuning")
        if alpha is not None:
            positive("alpha", alpha, "or null for rank")
        choice("frozen_dtype", frozen_dtype, ("float32", "bfloat16"))
        self.rank, self.alpha, self.frozen_dtype = rank, alpha, getattr(torch, frozen_dtype)
        self.weights, self.layers = weights, layers
        if rank is None and weights is None:
            return
        try:
            import peft  # noqa: F401
        except ModuleNotFoundError as error:
            asked = f"weights={weights}" if rank is None else f"rank={rank}"
            raise MissingExtra(asked, "peft", "lora") from error

    def attach(self, transformer: nn.Module) -> None:
        """Adds the adapters and freezes everything else, in place.

        Raises:
            BadValue: ``weights`` is not a LoRA of this transformer, or has another rank; or the transformer has no such
                ``layers``.
        """
        if self.rank is None and self.weights is None:
            return
        from peft import LoraConfig, inject_adapter_in_model

        start = read_adapters("weights", self.weights, transformer) if self.weights is not None else {}
        rank = self._rank(start)
        alpha = rank if self.alpha is None else self.alpha
        layers = list(start) or list(self.layers or [])
        if unknown := sorted(set(layers) - {name for name, _ in transformer.named_modules()}):
            raise BadValue("layers", unknown, "layers of the transformer")
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers or TARGETS, lora_dropout=0.0)  # type: ignore[arg-type]
        inject_adapter_in_model(config, transformer)
        for name, layer in _adapted(transformer):
            layer.get_base_layer().to(self.frozen_dtype)
            if name in start:
                given = start[name]
                layer.lora_A[ADAPTER].weight.data.copy_(given.down)
                layer.lora_B[ADAPTER].weight.data.copy_(given.scale * rank / alpha * given.up)

    def _rank(self, start: Mapping[str, Adapter]) -> int:
        """The rank: that of the file if there is one, which must equal ``rank`` if both are given."""
        found = next((len(adapter.down) for adapter in start.values()), self.rank)
        assert found is not None
        if self.rank not in (None, found):
            raise BadValue("rank", self.rank, f"{found}, as in {self.weights}, or null")
        return found


def name_without(name: str) -> str:
    """The name of a frozen weight in the same module without adapters."""
    return name.replace(".base_layer.", ".")


def is_adapter(name: str) -> bool:
    """Whether a weight belongs to an adapter, by its name."""
    return ".lora_" in name


def adapted_layers(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The layers with adapters in a module's state, and the adapters' ranks.

    Args:
        weights: of a transformer inside another module: ``<attribute>.<layer>.lora_A.default.weight``.
    """
    downs = {name.removesuffix(DOWN): len(value) for name, value in weights.items() if name.endswith(DOWN)}
    return {name.partition(".")[2]: rank for name, rank in downs.items()}


def bases(module: nn.Module) -> dict[str, nn.Module]:
    """The base layers of all adapters, by their names in a module without adapters; empty without adapters."""
    return {name: layer.get_base_layer() for name, layer in _adapted(module)}


def merge(module: nn.Module) -> dict[str, Adapter]:
    """Merges adapters into their base matrices, in place, and removes them.

    Returns:
        The removed adapters. The weights' names are then those of a module without adapters.
    """
    merged = {}
    for name, layer in _adapted(module):
        down, up = (part[ADAPTER].weight.detach() for part in (layer.lora_A, layer.lora_B))
        merged[name] = Adapter(down, up, layer.scaling[ADAPTER])
        layer.get_base_layer().float()
        layer.merge()
        module.set_submodule(name, layer.get_base_layer())
    return merged


def _adapted(module: nn.Module) -> list[tuple[str, Any]]:
    """The layers with adapters, by name."""
    return [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "get_base_layer")]
