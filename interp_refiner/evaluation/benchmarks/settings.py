"""The top-level settings of ``interp_refiner.benchmark``."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.check import is_read
from interp_refiner.data import ShardedDataModule
from interp_refiner.evaluation.benchmarks.step import MakeTrainer
from interp_refiner.training import Refiner
from interp_refiner.training.settings import TrainSettings

# settings of a training that no benchmark uses
UNMEASURED = ("ckpt_path", "initial_weights", "optimized_metric", "evaluation", "gpu_gb", "logger", "trainer.max_steps")


@runtime_checkable
class OfARun(Protocol):
    """A benchmark of the run that the other settings describe, built as ``train`` builds it."""

    def measure(self, module: Refiner, data: ShardedDataModule, make_trainer: MakeTrainer) -> dict[str, Any]:
        """The figures."""


class BenchmarkSettings(TrainSettings):
    """Top-level values of ``conf/benchmark.yaml``."""

    @classmethod
    def idle(cls, cfg: DictConfig) -> Mapping[str, str]:
        if issubclass(get_class(cfg.benchmark._target_), OfARun):
            return {**super().idle(cfg), **dict.fromkeys(UNMEASURED, "a benchmark does not use it")}
        own = OmegaConf.masked_copy(cfg, ["benchmark", "paths", "hydra"])
        others = [str(name) for name in cfg if name not in own and not is_read(own, str(name))]
        return dict.fromkeys(others, "this benchmark measures no run: its settings are under benchmark")
