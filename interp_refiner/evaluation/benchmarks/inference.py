"""Times the sampling of a clip."""

from typing import Any, final

import torch

from interp_refiner.core import Clip, ClipSpec, at_least, forget_peak_memory, median_seconds, peak_memory
from interp_refiner.data import ShardedDataModule
from interp_refiner.evaluation.benchmarks.step import MakeTrainer
from interp_refiner.model.sampler import Sampler
from interp_refiner.training import Refiner


@final
class InferenceBenchmark:
    """Measures seconds per clip and peak memory of samplers on one backbone, in the run's precision, on random clips.

    Args:
        samplers: by name; the others are compared with the last one.
        batch_size: clips at a time.
        repeats: number of timed runs of each; the median is reported.
        warmup: number of backbone evaluations before the timed runs; they include compilation.

    Raises:
        BadValue: a number below 1.
    """

    def __init__(self, samplers: dict[str, Sampler], batch_size: int = 1, repeats: int = 3, warmup: int = 1):
        at_least(1, batch_size=batch_size, repeats=repeats, warmup=warmup)
        self.samplers, self.batch_size, self.repeats, self.warmup = samplers, batch_size, repeats, warmup

    def measure(self, module: Refiner, data: ShardedDataModule, make_trainer: MakeTrainer) -> dict[str, Any]:
        """One row per sampler: seconds per clip, backbone evaluations, peak memory, time relative to the last one."""
        trainer = make_trainer()
        device, precision = trainer.strategy.root_device, trainer.precision_plugin
        precision.convert_module(module).to(device).eval()
        clip = random_clip(data.spec, self.batch_size).to(device)
        rows: list[dict[str, Any]] = []
        with torch.inference_mode(), precision.forward_context():
            corrupted = module.corruption(precision.convert_input(clip), "sample")
            for _ in range(self.warmup):
                module.clean_estimate(corrupted)
            for name, sampler in self.samplers.items():
                module.sampler = sampler
                forget_peak_memory(device)
                evaluations = count_evaluations(module, lambda: module.sample(corrupted))
                seconds = median_seconds(lambda: module.sample(corrupted), device, self.repeats, warmup=0)
                rows.append(
                    {
                        "sampler": name,
                        "seconds_per_clip": seconds / self.batch_size,
                        "backbone_evaluations": evaluations,
                        "peak_memory_gb": peak_memory(device) / 1e9,
                    }
                )
        for row in rows:
            row["share_of_last"] = row["seconds_per_clip"] / rows[-1]["seconds_per_clip"]
        return {"batch_size": self.batch_size, "precision": trainer.precision, "rows": rows}


def random_clip(spec: ClipSpec, batch_size: int) -> Clip:
    """A clip of standard normal numbers in the shapes of a data set."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch_size, *spec.latent_shape, generator=generator)
    text = torch.randn(batch_size, *spec.text_shape, generator=generator) if spec.text_shape else None
    return Clip(latents, [str(index) for index in range(batch_size)], text=text)


def count_evaluations(module: Refiner, run: Any) -> int:
    """The number of calls of the backbone in ``run``."""
    calls: list[None] = []
    handle = module.backbone.register_forward_hook(lambda *_: calls.append(None))
    run()
    handle.remove()
    return len(calls)
