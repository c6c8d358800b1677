"""Every option of every config group composes, passes the check of its program and can be built; so does every
experiment at a scale that it does not refuse. ``make soak`` has every experiment at every scale."""

import importlib
from contextlib import nullcontext
from functools import cache
from itertools import cycle, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import Refused, build
from interp_refiner.config.nodes import is_target, walk
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import PatchDCT
from interp_refiner.model.attention import Dense
from interp_refiner.model.backbone import Interface
from tests.helpers import CONF, group_members, place_of

PROGRAMS = sorted(path.stem for path in CONF.glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
STRATEGIES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))
DEBUG = sorted(path.stem for path in (CONF / "debug").glob("*.yaml"))
AT_A_SCALE = list(zip(EXPERIMENTS, cycle(SCALES)))  # every experiment, every scale

# Groups of primary configs: `prepare clip` is a program with a config of its own.
PRIMARY_GROUPS = {"prepare"}
# Values that an option leaves to the user.
STUDENT = ["objective=consistency", "training.teacher=shipped"]
NEEDED = {
    "corruption/given=file": ["corruption.drawn.given.path=somewhere"],
    "codec=wan_vae": ["codec.folder=somewhere"],
    "text=umt5": ["text.folder=somewhere"],
    "keyframe_source=wan_t2v": ["keyframe_source.folder=somewhere"],
    "schedule=learned": ["schedule.checkpoint=null"],
    **{
        f"schedule/preview={name}": ["schedule=learned", "schedule.checkpoint=null"]
        for name in group_members("schedule/preview")
    },
    **{f"backbone/recomputation={name}": ["backbone=wan_tiny"] for name in group_members("backbone/recomputation")},
    **{f"sampler/spacing={name}": ["sampler=bridge"] for name in group_members("sampler/spacing")},
    **{f"metric={name}": ["checkpoint=somewhere"] for name in ("st_lpips", "vmaf")},
    **{
        f"metric={name}": ["checkpoint=somewhere", f"metric.{name}.weights=somewhere"]
        for name in ("lpips", "fid", "fvd")
    },
    "resume=auto": ["paths.run_name=somewhere"],
    "interpolator=flow_warp": ["interpolator.checkpoint=null"],
    "interpolator=flow_warp_pixels": ["interpolator.checkpoint=null"],
    "objective=adjacent": ["sampler=hierarchical"],
    "training=selector_fit": ["schedule=dp"],
    **{
        f"scheduled_sampling/confidence={name}": ["scheduled_sampling=noisy"]
        for name in group_members("scheduled_sampling/confidence")
    },
    "interpolator=straightened": ["interpolator.checkpoint=null"],
    "training=distill": STUDENT,
    "objective/matching=distribution": ["objective=rcm", "training=distill", "training.teacher=shipped"],
    **{f"training/tangent={name}": ["training=distill", *STUDENT] for name in group_members("training/tangent")},
}
# What `assemble` hands to every option of a group, in the one call that it makes.
VIDEOS = ClipSpec((16, 21, 8, 14), (16, 32), text={"name": "caption"}, codec=PatchDCT().describe())
PATHS = ClipSpec((2, 64), context_shape=(4, 21, 21))
SUPPLIED: dict[str, dict[str, Any]] = {
    "codec": {"spec": VIDEOS},
    "text": {"spec": VIDEOS},
    "medium": {"spec": VIDEOS, "codec": PatchDCT()},
    "backbone": {"interface": Interface(VIDEOS), "attention": Dense()},
    "objective": {"spec": VIDEOS, "num_levels": 4},
    "keyframe_flow": {"spec": VIDEOS},
    "training/perceptual": {"spec": VIDEOS, "codec": PatchDCT()},
}
OF_PATHS = ("backbone=trajectory", "medium=maze")
NOT_BUILT = {
    "logger=wandb": "needs an extra",
    "corruption/given=file": "needs a file of keyframes",
    "codec=wan_vae": "needs a folder with weights",
    "text=umt5": "needs a folder with weights",
    "keyframe_source=wan_t2v": "needs a folder with weights",
    "anchor_source=generator": "is made with a trained generator",
    "training=distill": "is made with a trained teacher",
    **{f"metric={name}": "needs a file of weights" for name in ("lpips", "fid", "fvd")},
}
ON_META = {
    "backbone=wan_1_3b": "5.7 GB of weights",
    "backbone=wan_14b": "57 GB of weights",
    "backbone=wan22_5b": "20 GB of weights",
    "backbone=ltx_2b": "8 GB of weights",
}


def options() -> list[str]:
    files = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
    return [f"{file.parent}={file.stem}" for file in files if str(file.parent) not in PRIMARY_GROUPS]


def composed(program: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name=program):
        return compose(program, list(overrides), return_hydra_config=True)


def check(program: str, cfg: DictConfig, folder: Path) -> None:
    """The check that the program itself makes before it runs, on a machine with 8 GPUs."""
    module = importlib.import_module(f"interp_refiner.{program}")
    with patch("torch.cuda.is_available", lambda: True), patch("torch.cuda.device_count", lambda: 8):
        getattr(module, program).program.check_before(cfg, str(folder))


@cache
def groups_of(program: str) -> set[str]:
    """The groups in a primary config's defaults list."""
    entries = OmegaConf.load(CONF / f"{program}.yaml").get("defaults", [])
    return {str(key).removeprefix("/") for entry in entries if isinstance(entry, DictConfig) for key in entry}


def with_option(option: str) -> tuple[str, DictConfig]:
    """A program that has the option's group, and its config with that option; ``+`` adds a group that none has."""
    group = option.split("=")[0]
    program = next((name for name in ["train", *PROGRAMS] if group.split("/")[0] in groups_of(name)), "train")
    sign = "" if group.split("/")[0] in groups_of(program) else "+"
    cfg = composed(program, f"{sign}{option}", *NEEDED.get(option, []))
    cfg.hydra.overrides.task = []  # what a program does not read is refused if it was typed
    return program, cfg


def file_of(option: str) -> Path:
    return CONF / f"{option.replace('=', '/')}.yaml"


@cache
def components() -> list[str]:
    """The options that describe something to build in their own place, not only values for other places."""
    built = []
    for option in options():
        group, _, name = option.partition("=")
        describes = any(key == "_target_" for _, _, key in walk(OmegaConf.load(file_of(option))))
        own = place_of(group, name).partition(".")[0] == group.partition("/")[0]
        if describes and own and group != "hydra":
            built.append(option)
    return built


@pytest.mark.parametrize("option", options())
def test_every_option_composes_passes_the_check_and_is_built(option: str, tmp_path: Path) -> None:
    group, _, name = option.partition("=")
    program, cfg = with_option(option)
    cfg.paths.output_dir = cfg.paths.cache = str(tmp_path)
    assert cfg.hydra.runtime.choices[group] == name
    check(program, cfg, tmp_path)
    if option in NOT_BUILT:
        pytest.skip(NOT_BUILT[option])
    if option not in components():
        return
    node = OmegaConf.select(cfg, place_of(group, name))
    arguments = dict(SUPPLIED.get(group, {}))
    if option in OF_PATHS:
        arguments |= {"interface": Interface(PATHS)} if group == "backbone" else {"spec": PATHS}
    if group == "training":
        arguments = supplied_to_training(cfg, option)
    for part in [node] if is_target(node) else [part for part in node.values() if is_target(part)]:
        with torch.device("meta") if option in ON_META else nullcontext():
            assert build_or_skip(part, **arguments) is not None


def supplied_to_training(cfg: DictConfig, option: str) -> dict[str, Any]:
    """A refiner is made of the model's groups, whatever else is trained of the clips and the corruption."""
    corruption = build(cfg.corruption)
    if option == "training=keyframe_generator":
        backbone = build(cfg.backbone, interface=Interface(VIDEOS, num_hypotheses=0), attention=build(cfg.attention))
        flow = build(cfg.training.flow, spec=VIDEOS)
        return {"backbone": backbone, "flow": flow, "optimizer": build(cfg.optimizer), "corruption": corruption}
    if option != "training=refiner":
        return {"spec": VIDEOS, "corruption": corruption}
    backbone = build(cfg.backbone, interface=Interface(VIDEOS), attention=build(cfg.attention))
    objective = build(cfg.objective, spec=VIDEOS, num_levels=4)
    parts = {"optimizer": build(cfg.optimizer), "sampler": build(cfg.sampler)}
    return {"backbone": backbone, "objective": objective, "corruption": corruption, **parts}


def build_or_skip(node: DictConfig, **arguments: Any) -> Any:
    """The object, or a skip where this machine lacks the device it is for."""
    try:
        return build(node, **arguments)
    except Refused as refused:
        if node._target_.endswith(".Trainer") and "gpu" in str(refused):
            pytest.skip(str(refused))
        raise


def test_the_lists_of_exceptions_name_options_that_exist() -> None:
    assert {*NEEDED, *NOT_BUILT, *ON_META, *OF_PATHS} <= set(options())
    assert set(SUPPLIED) <= {option.split("=")[0] for option in options()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_composes_with_its_defaults(program: str, tmp_path: Path) -> None:
    cfg = composed(program)
    holes = [key for key, node, name in walk(cfg) if not key.startswith("hydra.") and OmegaConf.is_missing(node, name)]
    check(program, composed(program, *[f"{key}=somewhere" for key in holes]), tmp_path)


@pytest.mark.parametrize(("experiment", "scale"), AT_A_SCALE)
def test_every_experiment_at_a_scale(experiment: str, scale: str, tmp_path: Path) -> None:
    check_experiment_at_scale(experiment, scale, tmp_path)


@pytest.mark.soak
def test_every_experiment_at_every_other_scale(tmp_path: Path) -> None:
    for experiment, scale in sorted(set(product(EXPERIMENTS, SCALES)) - set(AT_A_SCALE)):
        check_experiment_at_scale(experiment, scale, tmp_path)


def check_experiment_at_scale(experiment: str, scale: str, tmp_path: Path) -> None:
    cfg = composed("train", f"+experiment={experiment}", f"scale={scale}")
    if cfg.scales is not None and scale not in cfg.scales:
        with pytest.raises(BadValue) as caught:
            check("train", cfg, tmp_path)
        message = f"scale={scale}: expected {' | '.join(cfg.scales)} with +experiment={experiment}"
        assert str(caught.value).partition(";")[0] == message
    else:
        check("train", cfg, tmp_path)
    assert cfg.experiment_name == experiment
    if cfg.scales is None:
        leaves_size_to_the_scale(cfg, experiment, scale)


def own_values(group: str, name: str) -> dict[str, Any]:
    """The values that a ``_global_`` option writes itself, by their keys."""
    content = OmegaConf.load(CONF / group / f"{name}.yaml")
    leaves = {
        key: node._get_node(part) for key, node, part in walk(content) if not key.startswith(("defaults", "hydra"))
    }
    return {key: value._value() for key, value in leaves.items() if not isinstance(value, DictConfig)}


def own_choices(group: str, name: str) -> dict[str, str]:
    """The options that it chooses of other groups, ``override /data: wan_synth``."""
    entries = OmegaConf.load(CONF / group / f"{name}.yaml").get("defaults", [])
    pairs = [pair for entry in entries if isinstance(entry, DictConfig) for pair in entry.items()]
    return {str(key).removeprefix("override /"): value for key, value in pairs if str(key).startswith("override /")}


def leaves_size_to_the_scale(cfg: DictConfig, experiment: str, scale: str) -> None:
    """Hydra appends an experiment after everything else, so it would win: it may not touch what a scale sets."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    for key, value in own_values("scale", scale).items():
        assert at(raw, key) == value, f"experiment {experiment} overrides {key} of scale {scale}"
    for group, choice in own_choices("scale", scale).items():
        assert cfg.hydra.runtime.choices[group] == choice


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_says_where_motion_is_matched(scale: str) -> None:
    """A latent frame of Wan is no frame of pixels: there hypotheses are made in latents."""
    cfg = composed("train", "+experiment=gt_keyframes", f"scale={scale}")
    targets = {str(node._get_node(name)) for _, node, name in walk(cfg.interpolator) if name == "_target_"}
    classes = {target.rpartition(".")[2] for target in targets}
    assert "MotionHypotheses" in classes
    assert ("InPixels" in classes) == (scale == "laptop")
    chosen = composed("train", "+experiment=gt_keyframes", f"scale={scale}", "interpolator=linear")
    assert chosen.interpolator._target_.endswith(".Linear")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_large_scale_leaves_nothing_in_another_strategy(strategy: str, tmp_path: Path) -> None:
    """What belongs to one strategy would be an argument too many of another, which may take any by ``**kwargs``."""
    cfg = composed("train", "scale=b200_pod", f"strategy={strategy}")
    check("train", cfg, tmp_path)
    found, own = cfg.trainer.strategy, OmegaConf.load(CONF / "strategy" / f"{strategy}.yaml").strategy
    assert found == own if isinstance(own, str) else set(found) == set(own)
    assert not hasattr(own, "gathered_dtype") or found.gathered_dtype == "bfloat16"


@pytest.mark.parametrize("kind", group_members("backbone/recomputation"))
def test_large_scales_hold_with_every_recomputation(kind: str, tmp_path: Path) -> None:
    for scale in ("b200_node", "b200_pod"):
        check("train", composed("train", f"scale={scale}", f"backbone/recomputation={kind}"), tmp_path)
    cfg = composed("train", f"scale={scale}", f"backbone/recomputation={kind}", "activation_gb=50")
    assert cfg.backbone.blocks.recomputation.get("memory_gb", 50) == 50


@pytest.mark.parametrize(("debug", "experiment", "scale"), [(d, *pair) for d, pair in zip(cycle(DEBUG), AT_A_SCALE)])
def test_debug_holds_beside_every_experiment_and_scale(debug: str, experiment: str, scale: str) -> None:
    check_debug(debug, experiment, scale)


@pytest.mark.soak
def test_every_debug_holds_beside_every_experiment() -> None:
    for debug, pair in product(DEBUG, AT_A_SCALE):
        check_debug(debug, *pair)


def check_debug(debug: str, experiment: str, scale: str) -> None:
    cfg = composed("train", f"debug={debug}", f"+experiment={experiment}", f"scale={scale}")
    raw = OmegaConf.to_container(cfg, resolve=False)
    for key, value in own_values("debug", debug).items():
        assert at(raw, key) == value, key


def at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree
