"""Computes the GPU memory of a training step before the run."""

import logging
from dataclasses import dataclass, fields

import lightning as L

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.training.refiner import Refiner

log = logging.getLogger(__name__)

SPARE = 0.06  # share of a GPU's memory for CUDA itself, gradient buckets and fragmentation


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one process, before a strategy shards anything.

    Attributes:
        weights: all weights in their own precision, including those of a teacher and a fake network.
        gradients, moments: float32, of trained weights; two moments, the most that an optimizer here keeps.
        averages: float32, of trained weights.
        casts: bfloat16 copies of trained float32 weights, which autocast keeps during a step.
        activations: of all forward passes whose graphs exist at the same time, see :func:`activation_bytes`.
    """

    weights: int
    gradients: int
    moments: int
    averages: int
    casts: int
    activations: int

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{part.name} {getattr(self, part.name) / 1e9:.1f}" for part in fields(self))
        return f"{self.total / 1e9:.1f} GB ({parts})"


def step_memory(refiner: Refiner, spec: ClipSpec, batch_size: int, averaged: bool = True) -> StepMemory | None:
    """The memory of a step under bfloat16 autocast; None if the backbone's activations are unknown.

    Args:
        refiner: the module that is trained; its weights may be on the meta device.
        spec: of the clips.
        batch_size: of one process.
        averaged: whether averages of the weights are kept.
    """
    text_tokens = spec.text_shape[0] if spec.text_shape is not None else 1
    activations = refiner.backbone.activation_bytes(batch_size, spec.latent_shape, text_tokens, refiner.passes)
    if activations is None:
        return None
    weights = {weight for network in (refiner, *refiner.beside) for weight in network.parameters()}  # each one once
    trained = 4 * sum(weight.numel() for weight in weights if weight.requires_grad)
    casts = 2 * sum(weight.numel() for weight in weights if weight.requires_grad and weight.itemsize == 4)
    kept = sum(weight.nbytes for weight in weights)
    return StepMemory(kept, trained, 2 * trained, trained * averaged, casts, activations)


def check_step_memory(
    module: L.LightningModule, spec: ClipSpec, batch_size: int, gpu_gb: float | None, trainer: L.Trainer | None = None
) -> None:
    """Refuses a step of a refiner that does not fit a GPU. Strategies that shard weights are not checked.

    Args:
        module, spec, batch_size: see :func:`step_memory`.
        gpu_gb: memory of the GPU in 10^9 bytes; None for no check.
        trainer: gives the strategy and whether averages are kept; None for one process that keeps averages.

    Raises:
        BadValue: the step does not fit; the message has the numbers and remedies.
    """
    if gpu_gb is None or not isinstance(module, Refiner) or hasattr(trainer and trainer.strategy, "parallelize"):
        return
    if module.perceptual is not None:
        log.warning("training/perceptual: the check of gpu_gb leaves out the memory in which windows are decoded")
    averaged = trainer is None or any(hasattr(c, "average") for c in trainer.callbacks)  # type: ignore[attr-defined]
    needed = step_memory(module, spec, batch_size, averaged)
    if needed is None:
        log.warning("gpu_gb=%g: no check, because this backbone does not know the memory of a step", gpu_gb)
    elif needed.total > (1 - SPARE) * 1e9 * gpu_gb:
        advice = "a smaller data.batch_size or activation_gb, backbone.lora.rank=32, or strategy=fsdp2 over more GPUs"
        raise BadValue(
            "gpu_gb", gpu_gb, f"more: a step needs {needed}, and {SPARE:.0%} of the GPU must stay free: {advice}"
        )
