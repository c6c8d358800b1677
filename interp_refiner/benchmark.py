"""Measures the project: ``python -m interp_refiner.benchmark benchmark=corruption`` prints one JSON object."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from omegaconf import DictConfig, OmegaConf

from interp_refiner.assemble import assemble
from interp_refiner.config import build, main, quiet_libraries, run_metadata
from interp_refiner.core import BadValue, keep_freed_memory
from interp_refiner.evaluation import Run
from interp_refiner.evaluation.benchmarks.settings import BenchmarkSettings, OfARun


def measure_run(measure: OfARun, cfg: DictConfig) -> dict[str, Any]:
    """The figures of the run that ``cfg`` describes.

    Raises:
        BadValue: the benchmark needs a GPU, and there is none.
    """
    on_gpu = torch.cuda.is_available()
    if cfg.trainer.accelerator == "gpu" and not on_gpu:
        allowed = "cpu on this machine, which has no GPU; small: scale=laptop data=moving_shapes"
        raise BadValue("trainer.accelerator", "gpu", allowed)
    quiet_libraries()
    run = assemble(cfg, "cuda" if on_gpu and cfg.trainer.accelerator != "cpu" else "cpu")
    callbacks = [build(node) for node in cfg.callback.values() if node is not None]
    found = measure.measure(run.refiner, run.data, partial(build, cfg.trainer, callbacks=callbacks, logger=False))
    return {**found, **measured_settings(cfg, run)}


def measured_settings(cfg: DictConfig, run: Run) -> dict[str, Any]:
    """The settings of a run that affect its speed, and its shapes."""
    speed = {"attention": cfg.attention, **cfg.backbone.get("blocks", {})}
    chosen = OmegaConf.to_container(OmegaConf.create(speed), resolve=True)
    assert isinstance(chosen, dict)
    return {"latent_shape": list(run.spec.latent_shape), "text_shape": run.spec.text_shape, **chosen}


@runtime_checkable
class HasTables(Protocol):
    """A benchmark whose result is also printed as tables."""

    def markdown(self, result: dict[str, Any]) -> str:
        """The tables."""


@main("benchmark", BenchmarkSettings)
def benchmark(cfg: DictConfig) -> None:
    """Runs one benchmark and prints its JSON, or its tables if it has any; the JSON goes to ``benchmark.json``, too."""
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measure = build(cfg.benchmark)
    found = measure_run(measure, cfg) if isinstance(measure, OfARun) else measure.run(device)
    result = {**found, **run_metadata()}
    Path(cfg.paths.output_dir, "benchmark.json").write_text(json.dumps(result, indent=2) + "\n")
    print(measure.markdown(result) if isinstance(measure, HasTables) else json.dumps(result, indent=2))


if __name__ == "__main__":
    benchmark()
