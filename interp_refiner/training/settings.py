"""Settings of a training."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import Settings
from interp_refiner.core import BadValue
from interp_refiner.training.checkpoint import check_same_run


@dataclass
class TrainSettings(Settings):
    """Top-level values of ``conf/train.yaml``.

    Attributes:
        experiment_name: of the method, for logs.
        ckpt_path: what to resume from: ``"last"`` (of this run folder), a run folder, or a checkpoint file.
        initial_weights: a run folder, checkpoint or exported folder whose averaged weights a new run starts from.
        next_command: what to type after it, printed at the end; ``{run}`` stands for the run folder.
        optimized_metric: what a sweep minimises; the task returns it.
        gathered_dtype: of the blocks of sharded strategies.
        activation_gb: what selective recomputation may keep, in 10^9 bytes; None: no limit.
        gpu_gb: memory of one GPU, 10^9 bytes: a step that does not fit is refused; None: not looked at.
        evaluation: settings of ``interp_refiner.evaluate``, which then judges the run at its end; None: it does not.
        validation: storyboards that validation shows, at which steps, and the seed of their noise.
        duplicates: what a job of a sweep does whose twin, a run of the same identity, is done or under way.
        print_config: at the start.
        log_book: the folder where the run is entered when it ends; None: nowhere.
    """

    experiment_name: str = "default"
    ckpt_path: str | None = None
    initial_weights: str | None = None
    next_command: str = "python -m interp_refiner.sample checkpoint={run}"
    optimized_metric: str | None = None
    gathered_dtype: Literal["float32", "bfloat16"] = "float32"
    activation_gb: float | None = None
    gpu_gb: float | None = None
    validation: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    duplicates: Literal["skip", "run"] = "skip"
    print_config: bool = False
    log_book: str | None = None

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        check_same_run(cfg)
        precision = OmegaConf.select(cfg, "trainer.precision")
        frozen = OmegaConf.select(cfg, "backbone.lora.frozen_dtype")
        adapted = frozen is not None and (cfg.backbone.lora.rank or cfg.backbone.lora.get("weights"))
        if frozen == "bfloat16" and adapted and "bf16" not in str(precision):
            raise BadValue("trainer.precision", precision, "bf16-mixed, beside backbone.lora.frozen_dtype=bfloat16")
