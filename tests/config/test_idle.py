"""What is typed and has no effect is refused in one line; the same line with an effect is not."""

from importlib import import_module

import pytest
from omegaconf import OmegaConf

from interp_refiner.config import Refused
from interp_refiner.config.command_line import CommandLine
from interp_refiner.config.idle import idle_settings, key_of, refuse_idle, settings_of
from interp_refiner.training.settings import OF_BACKBONES, OF_REFINERS
from tests.config.small import small_config

VIDEO = "storyboard=board.yaml"
ENCODE = ("prepare/encode", "source=videos", "output=clips")
WAN = ("train", "backbone=wan_tiny")
NOISY = ("train", "scheduled_sampling=noisy")
REMOTE = ("train", "data=wan_synth")
FLOW = ("train", "+experiment=flow_warp")
SAMPLE = ("sample", "checkpoint=run")
ANCHORS = ("prepare/anchors",)
MATCHED = ("train", "+experiment=distribution_matching")

# the setting, beside what it has no effect, what the line says, and beside what it has one
CASES = [
    ("schedule.k_min=3", ("train", "+experiment=gt_keyframes"), "counts=[8, 5] replaces it", "schedule.counts=null"),
    ("schedule.law=linear", ("diagnose", "schedule.counts=[8]"), "counts=[8] replaces it", "schedule.counts=null"),
    (
        "scheduled_sampling.probability.start=0.5",
        NOISY,
        "with warmup_steps=0",
        "scheduled_sampling.probability.warmup_steps=9",
    ),
    ("backbone.lora.alpha=2", WAN, "without rank or weights", "backbone.lora.rank=8"),
    ("data.stores.cache_dir=ranges", REMOTE, "cache_gb=0", "data.stores.cache_gb=1"),
    ("data.text_dropout.negative=a.pt", REMOTE, "with probability=0", "data.text_dropout.probability=0.1"),
    ("cut.divisor=16", ENCODE, "it is for buckets=auto", "cut.buckets=auto"),
    ("cut.frame_size=[64,64]", (*ENCODE, "cut.buckets=auto"), "buckets replaces it", "cut.buckets=null"),
    ("clips=2", (*SAMPLE, VIDEO), "it is for held-out clips", "storyboard=null"),
    ("scheduled_sampling=noisy", (*SAMPLE, VIDEO), "it is for held-out clips", "storyboard=null"),
    ("inference.vae_tiling=true", SAMPLE, "it is for the video", VIDEO),
    ("keyframe_sampler=heun", SAMPLE, "it is for the video", VIDEO),
    ("optimizer.lr=1e-3", FLOW, "training=interpolator_fit has its own: set training.optimizer", None),
    ("objective/penalty=robust", ("train", "+experiment=keyframes"), "training=keyframe_gen", "training=refiner"),
    ("+trainer.logger=false", ("train",), "set logger", None),
    ("activation_gb=3", WAN, "backbone/recomputation=selective reads it", "backbone/recomputation=selective"),
    ("gathered_dtype=bfloat16", ("train",), "strategy=fsdp2", "strategy=fsdp2"),
    ("matching=motion_hypotheses", ("train",), "experiment=gt_keyframes reads it", "+experiment=gt_keyframes"),
    ("generator=wan_small", ("train",), "experiment=keyframes reads it; here backbone", "+experiment=keyframes"),
    ("validation.seed=3", ("train",), "no validation.storyboards", "validation.storyboards=[board.yaml]"),
    ("training/tangent=forward", MATCHED, "objective=distribution_matching has no consistency loss", "objective=rcm"),
    ("corruption.sigma=2", ("benchmark", "benchmark=corruption"), "measures no run", "benchmark=step"),
    ("gpu_gb=3", ("benchmark", "benchmark=step"), "a benchmark does not use it", None),
    ("title=mine", ("report",), "it is for a report of runs", "runs=[logs]"),
    ("device=cpu", ANCHORS, "it is for anchor_source=generator", "checkpoint=run"),
    ("optimizer.lr=1e-3", FLOW, "has its own", "training.optimizer.lr=${optimizer.lr}"),
    ("seed=3", ("benchmark", "benchmark=corruption"), "measures no run", "+benchmark.seed=${seed}"),
]


def refusal(program: str, *overrides: str) -> str | None:
    module, _, command = program.partition("/")
    program_of = getattr(import_module(f"interp_refiner.{module}"), command or module).program
    cfg = program_of.compose(*overrides)
    try:
        refuse_idle([idle_settings(cfg, program_of.settings)])
    except Refused as error:
        return str(error)
    return None


@pytest.mark.parametrize(("typed", "beside", "said", "otherwise"), CASES)
def test_a_setting_without_effect_is_refused(typed, beside, said, otherwise):
    line = refusal(*beside, typed)
    assert line is not None
    assert line.startswith(f"{typed.lstrip('+')}: no effect: ")
    assert said in line
    if otherwise is not None:
        others = [text for text in beside[1:] if text.partition("=")[0] != otherwise.partition("=")[0]]
        assert refusal(beside[0], *others, otherwise, typed) is None


def test_a_sweep_is_refused_if_no_job_reads_a_setting():
    def check(*overrides: str) -> None:
        import_module("interp_refiner.diagnose").diagnose.program.check_line(CommandLine.read(["-m", *overrides], ()))

    check("schedule.counts=[8,5],null", "schedule.k_min=3")
    with pytest.raises(Refused, match=r"schedule.k_min=3: no effect: counts=\[8, 5\] replaces it"):
        check("schedule.counts=[8,5],[8]", "schedule.k_min=3")


def test_null_asks_for_nothing():
    assert refusal("train", "activation_gb=null") is None


def test_keys_of_overrides():
    overrides = ["a.b=1", "+a/c@a.d=x", "~a.b", "a.b.e=2", "ab=1", "a.b=null"]
    assert [key_of(text) for text in overrides] == ["a.b", "a.d", "", "a.b.e", "ab", ""]
    assert settings_of(overrides, ["a.b", "a.d"]) == [("a.b=1", "a.b"), ("a.b.e=2", "a.b"), ("+a/c@a.d=x", "a.d")]


@pytest.mark.parametrize(
    ("experiment", "parts"),
    [("flow_warp", (*OF_REFINERS, *OF_BACKBONES)), ("keyframes", OF_REFINERS)],
)
def test_a_training_builds_no_part_that_it_is_said_not_to_have(experiment, parts, tmp_path):
    from interp_refiner.assemble import assemble

    cfg = small_config(tmp_path, f"+experiment={experiment}", f"paths.cache={tmp_path / 'cache'}")
    cfg = OmegaConf.masked_copy(cfg, [name for name in cfg if name not in parts])
    assert assemble(cfg).module is not None
