"""Settings of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import MISTAKES, Refused, Settings, assigned, checked
from interp_refiner.config.check import check_parts, is_read
from interp_refiner.core import BadValue
from interp_refiner.training.checkpoint import PARTS, check_same_run
from interp_refiner.training.keyframe_generator import KeyframeGenerator
from interp_refiner.training.refiner import Refiner

OF_REFINERS = ("objective", "sampler", "gpu_gb")
OF_BACKBONES = ("backbone", "attention", "optimizer")
READ_BY = {
    "activation_gb": "backbone/recomputation=selective reads it",
    "gathered_dtype": "strategy=fsdp2 | hsdp | sequence reads it",
}
CHOSEN_BY = {"matching": ("interpolator", "gt_keyframes"), "generator": ("backbone", "keyframes")}


@dataclass
class TrainSettings(Settings):
    """The top-level values of ``conf/train.yaml``.

    Attributes:
        experiment_name: name of the method, for logs.
        ckpt_path: resume from ``"last"`` (of this run folder), a run folder, or a checkpoint file.
        initial_weights: a run folder, checkpoint or exported folder; a new run starts from its averaged weights.
        next_command: command to suggest at the end; ``{run}`` stands for the run folder.
        optimized_metric: the metric that a sweep minimises; the task returns it.
        gathered_dtype: dtype in which sharded strategies gather the blocks' weights.
        activation_gb: budget of selective recomputation in 10^9 bytes; None: no limit.
        gpu_gb: memory of one GPU in 10^9 bytes; a step that does not fit is refused. None: no check.
        evaluation: settings of ``interp_refiner.evaluate``, which runs at the end; None: no evaluation.
        validation: storyboards that validation renders, at which steps, and the seed of their noise.
        duplicates: what a sweep's job does if a run of the same identity is finished or running.
        print_config: whether to print the config at the start.
        log_book: folder of the log book, which gets an entry when the run ends; None: no entry.
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
        check_parts(cfg, PARTS)
        check_same_run(cfg)
        if cfg.evaluation is not None:
            try:
                checked("evaluate", Path(cfg.paths.output_dir, "evaluation"), *evaluation_overrides(cfg))
            except MISTAKES as error:
                raise Refused(f"evaluation: {error}") from error
        if cfg.gpu_gb is not None and cfg.gpu_gb <= 0:
            raise BadValue("gpu_gb", cfg.gpu_gb, "a number > 0, in 10^9 bytes, or null for no check")
        interval = OmegaConf.select(cfg, "trainer.val_check_interval")
        if isinstance(interval, int | float) and interval <= 0:
            raise BadValue("trainer.val_check_interval", interval, "a positive number of steps, or a share of an epoch")
        for name in ("accumulate_grad_batches", "num_nodes"):  # Lightning does not check them
            if isinstance(count := OmegaConf.select(cfg, f"trainer.{name}"), int) and count < 1:
                raise BadValue(f"trainer.{name}", count, "an integer >= 1")
        precision = OmegaConf.select(cfg, "trainer.precision")
        frozen = OmegaConf.select(cfg, "backbone.lora.frozen_dtype")
        if frozen == "bfloat16" and _has_adapters(cfg) and "bf16" not in str(precision):
            raise BadValue("trainer.precision", precision, "bf16-mixed, because backbone.lora.frozen_dtype=bfloat16")

    @classmethod
    def idle(cls, cfg: DictConfig) -> Mapping[str, str]:
        choices = cfg.hydra.runtime.choices
        unused = [name for name in unused_parts(cfg) if not is_read(cfg, name)]
        reasons = dict.fromkeys(unused, f"training={choices.training} has no such part")
        if "optimizer" in reasons:
            reasons["optimizer"] = f"training={choices.training} has its own: set training.optimizer"
        reasons |= {"trainer.callbacks": "set callback.<name>", "trainer.logger": "set logger"}
        for name in ("activation_gb", "gathered_dtype"):
            if not is_read(cfg, name):
                reasons[name] = READ_BY[name]
        for name, (group, experiment) in CHOSEN_BY.items():
            if choices.get(group) != choices.get(name) and not is_read(cfg, name):
                reasons[name] = f"+experiment={experiment} reads it; here {group}={choices.get(group)} is chosen"
        if OmegaConf.select(cfg, "objective.consistency") == 0:
            reasons["training.tangent"] = f"objective={choices.objective} has no consistency loss"
        if not OmegaConf.select(cfg, "validation.storyboards"):
            reasons |= dict.fromkeys(("validation.steps", "validation.seed"), "there are no validation.storyboards")
        return reasons


def unused_parts(cfg: DictConfig) -> tuple[str, ...]:
    """The parts at the top of a config that its training does not build."""
    trained = get_class(cfg.training._target_)
    if issubclass(trained, Refiner):
        return ()
    if issubclass(trained, KeyframeGenerator):
        return OF_REFINERS
    return (*OF_REFINERS, *OF_BACKBONES)


def check_bases(cfg: DictConfig) -> None:
    """Refuses a new run with adapters on random frozen matrices, which would stay random.

    Raises:
        BadValue: ``backbone.lora`` without pretrained weights, initial weights or a teacher.
    """
    named = ("backbone.pretrained", "initial_weights", "training.teacher")
    if _has_adapters(cfg) and not any(OmegaConf.select(cfg, name) for name in named):
        allowed = "a Wan model, or initial_weights: backbone.lora freezes all matrices (lora.rank=null trains them)"
        raise BadValue("backbone.pretrained", None, allowed)


def _has_adapters(cfg: DictConfig) -> bool:
    return any(OmegaConf.select(cfg, f"backbone.lora.{name}") for name in ("rank", "weights"))


def evaluation_overrides(cfg: DictConfig) -> list[str]:
    """The command line of the evaluation at the end of the run."""
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg.evaluation, resolve=True))
    chosen = {"checkpoint": cfg.paths.output_dir, **settings}
    return [assigned(name, value) for name, value in chosen.items()]
