"""Every program and every kind of mistake: one line that names the setting, before any work.

The cases are generated from the programs' settings, so a new setting or program needs no new case. A program's config
is composed once; then its function is called in this process, as ``main`` calls it.
"""

import dataclasses
import importlib
import math
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

import interp_refiner
from interp_refiner.config import build
from interp_refiner.config.check import check_config, locate_target
from interp_refiner.config.composition import composed as compose_explained
from interp_refiner.config.hints import rules
from interp_refiner.config.machine import check_output
from interp_refiner.config.nodes import target_nodes
from interp_refiner.config.refusal import MISTAKES, Refused, locate
from interp_refiner.core import BadValue
from tests.helpers import CONF, group_members

# Strings of settings that name no file: any text is right, or is told later.
TEXTS = {"experiment_name", "next_command", "negative", "title", "host", "against", "optimized_metric"}
# What a program writes need not be there; these write beside what there is.
MADE = {("output", "missing"), ("log_book", "missing"), ("log_book", "a folder")}
BESIDE = {("prepare/shapes", "a folder"), ("prepare/embed", "a folder")}
NEEDED = {"checkpoint": "nowhere", "storyboard": "nowhere.yaml", "source": "nowhere", "output": "out.mp4"}


def programs() -> dict[str, Callable]:
    """By name, every function that ``main`` made a program of."""
    found = {}
    for module in pkgutil.iter_modules(interp_refiner.__path__):
        if module.name != "debug" and not module.ispkg:  # debug runs the others
            for task in vars(importlib.import_module(f"interp_refiner.{module.name}")).values():
                if hasattr(task, "program"):
                    found[task.program.config_name] = task
    return found


PROGRAMS = programs()


@cache
def composed(name: str, *overrides: str) -> tuple[DictConfig, dict[str, Any]]:
    """The config of a program as Hydra composes it, and the chosen options."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(name, ["paths.output_dir=nowhere", *overrides], return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), choices


@contextmanager
def config(name: str, folder: Path, *overrides: str, **values: Any) -> Iterator[tuple[DictConfig, dict[str, Any]]]:
    """With everything in ``folder``, the settings that have no value set, and some values replaced, while it lasts."""
    cfg, choices = composed(name, *overrides)
    places = {f"paths.{place}": str(folder / place) for place in ("root", "cache", "log_dir", "output_dir")}
    needed = {str(key): str(folder / NEEDED.get(key, "nowhere")) for key in cfg if OmegaConf.is_missing(cfg, key)}
    values = places | needed | values
    parents = [(cfg if "." not in key else cfg[key.partition(".")[0]], key.rpartition(".")[2]) for key in values]
    before = [OmegaConf.to_container(node, resolve=False)[key] for node, key in parents]
    with open_dict(cfg):
        for (node, key), value in zip(parents, values.values(), strict=True):
            node[key] = value
        try:
            yield cfg, choices
        finally:
            for (node, key), value in zip(parents, before, strict=True):
                node[key] = value


def told(cfg: DictConfig, work: Callable[[], object]) -> str:
    """The one line of a refusal; none where there is no refusal; a bug is raised."""
    try:
        work()
    except MISTAKES as error:
        return " ".join(str(locate(error, cfg)).split())
    return "nothing is refused"


def settings(program: str, kinds: Callable[[Any], bool]) -> list[str]:
    """The settings of a program whose hint is of a kind."""
    entries = dataclasses.fields(PROGRAMS[program].program.settings)
    return [entry.name for entry in entries if kinds(entry.type) and entry.name in list(composed(program)[0])]


def has(task: Callable, name: str) -> bool:
    """Whether a program has a setting."""
    return any(entry.name == name for entry in dataclasses.fields(task.program.settings))


def is_judged(top: str, node: DictConfig, key: str) -> bool:
    """Whether the hint of an argument allows no text, and can be read: those that jaxtyping wraps in tests cannot."""
    rule = rules(locate_target(top, node["_target_"])).get(key)
    return rule is not None and rule.words != "" and not rule.allows("text")


def is_checked(hint: Any) -> bool:
    """Whether a list of a dict is no value of it."""
    return get_origin(hint) is Literal or not any(part in (dict, list) for part in (get_origin(hint), hint))


KINDS = {
    "missing": "missing",
    "garbage": "garbage",
    "a folder": "folder",
    "below a file": "garbage/below",
    "too long": "x" * 256,
}


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "benchmark"])  # it measures what it can
def test_paths_that_are_none(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Missing, unreadable, a folder for a file and the other way round, in place of every string that is no text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERP_REFINER_EXPERIMENTS", str(tmp_path / "experiments"))  # other tests leave a log book
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    (tmp_path / "output_dir").mkdir()
    for name in settings(program, lambda hint: hint in (str, str | None)):
        for kind, path in KINDS.items():
            if name in TEXTS or (name, kind) in MADE or (program, kind) in BESIDE:
                continue
            with config(program, tmp_path, **{name: str(tmp_path / path)}) as (cfg, _):
                line = told(cfg, lambda cfg=cfg: PROGRAMS[program](cfg))
            assert line.partition("=")[0] in list(composed(program)[0]), (name, kind, line)


@pytest.mark.parametrize("data", ["moving_shapes", "wan_synth"])
@pytest.mark.parametrize("root", ["garbage", "shard-00000.tar", "garbage/below", "folder"])
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "benchmark" and "data" in composed(name)[1]])
def test_a_root_of_data_that_is_a_file_or_has_files_for_folders(program: str, root: str, data: str, tmp_path: Path):
    for name in ("garbage", "shard-00000.tar", "folder/train", "folder/val"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(range(256)) * 40)
    with config(program, tmp_path, f"data={data}", **{"data.root": str(tmp_path / root)}) as (cfg, _):
        if isinstance(cfg.get("checkpoint"), str):  # not the callback of training
            cfg.checkpoint = "shipped"
        line = told(cfg, lambda: PROGRAMS[program](cfg))
    assert re.match(rf"data\.root={tmp_path}/{root}(/train)?: expected .*(folder|writable place)", line), line


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_of_a_wrong_type_are_named(program: str, tmp_path: Path):
    """Of every setting, and of a number of every component."""
    check_wrong_types(program, tmp_path, numbers=1)


@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_number_of_a_wrong_type_is_named(program: str, tmp_path: Path):
    check_wrong_types(program, tmp_path, numbers=None)


def check_wrong_types(program: str, folder: Path, numbers: int | None):
    wrong: dict[str, Any] = {name: [{"wrong": "type"}] for name in settings(program, is_checked)}
    with config(program, folder) as (cfg, _):
        for top, node in cfg.items():
            if isinstance(node, DictConfig) and "_target_" in node:
                found = [key for key in node if is_number(node, key) and is_judged(top, node, key)]
                wrong |= {f"{top}.{key}": "many" for key in found[:numbers]}
    for name, value in wrong.items():
        with config(program, folder, **{name: value}) as (cfg, choices):
            line = told(cfg, lambda cfg=cfg: PROGRAMS[program].program.check(cfg, choices))
        assert line.startswith(f"{name}="), (name, line)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_number_in_place_of_a_component_is_named(program: str):
    cfg, choices = composed(program)
    nodes = [key for key, _ in target_nodes(cfg) if "." in key and key.replace(".", "/") not in choices]
    parts = [key for key in nodes if not key.rpartition(".")[2].isdigit()]  # items of lists
    for key in random.sample(parts, min(len(parts), 2)):
        with pytest.raises(BadValue, match=rf"^{re.escape(key)}=5: expected a component, not a plain value; set "):
            compose_explained(CONF, program, f"{key}=5")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_number_that_is_not_finite_is_named(program: str, tmp_path: Path):
    """Of every component."""
    with config(program, tmp_path) as (cfg, _):
        floats = [(key, node, name) for key, node in target_nodes(cfg) for name in node if takes_float(key, node, name)]
        for key, node, name in random.Random(0).sample(floats, min(len(floats), 3)):
            before = OmegaConf.to_container(node, resolve=False)[name]
            for wrong in (math.nan, -math.inf):
                node[name] = wrong
                with pytest.raises(BadValue, match=rf"^{re.escape(f'{key}.{name}')}=(NaN|-Infinity): .*finite number"):
                    check_config(cfg, PROGRAMS[program].program.settings)
            node[name] = before


def takes_float(key: str, node: DictConfig, name: str) -> bool:
    rule = rules(locate_target(key, node["_target_"])).get(name)
    return rule is not None and rule.words != "" and rule.allows(0.5) and not rule.allows("x")


def is_number(node: DictConfig, key: str) -> bool:
    return not OmegaConf.is_missing(node, key) and type(node[key]) in (int, float)


@pytest.mark.parametrize("program", [name for name, task in PROGRAMS.items() if has(task, "device")])
def test_no_gpu(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with config(program, tmp_path, device="cuda") as (cfg, choices):
        line = told(cfg, lambda: PROGRAMS[program].program.check(cfg, choices))
    assert line.startswith("device=cuda: expected auto or cpu")


@pytest.mark.parametrize("overrides", [("trainer=gpu",), ("trainer.accelerator=cuda",), ("scale=h200",)], ids=str)
def test_no_gpu_to_train_on(overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg, choices = composed("train", *overrides)
    with pytest.raises(BadValue, match=r"^trainer\.accelerator=(gpu|cuda): expected auto or cpu .*no GPU"):
        PROGRAMS["train"].program.check(cfg, choices)


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        f"seed={2**32}",
        "trainer.val_check_interval=0",
        "trainer.val_check_interval=-0.5",
        "trainer.accumulate_grad_batches=0",
        "trainer.num_nodes=0",
        "gpu_gb=-1",
        f"corruption.sigma={10**30}",
    ],
)
def test_numbers_that_a_library_cannot_take_are_named(override: str):
    cfg, choices = composed("train", override)
    with pytest.raises(BadValue, match=rf"^{re.escape(override)}: expected "):
        PROGRAMS["train"].program.check(cfg, choices)


def test_a_part_without_its_class_is_named():
    cfg, choices = composed("train", "~training._target_")
    with pytest.raises(BadValue, match=r"^training=.*: expected a component"):
        PROGRAMS["train"].program.check(cfg, choices)


def test_a_dict_in_place_of_a_setting_is_named(tmp_path: Path):
    with config("train", tmp_path, ckpt_path={"a": 1}) as (cfg, choices):
        line = told(cfg, lambda: PROGRAMS["train"].program.check(cfg, choices))
    assert line.startswith('ckpt_path={"a": 1}: expected a string or null')


def test_what_the_trainer_cannot_take_is_named():
    """Lightning raises a TypeError."""
    cfg, _ = composed("train", "trainer=cpu", "trainer.devices=x")
    with pytest.raises(Refused, match=r"^trainer: .*devices"):
        build(cfg.trainer)


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cfg, choices = composed("train", "trainer=gpu", "trainer.devices=8")
    with pytest.raises(BadValue, match=r"^trainer\.devices=8: expected at most 2, the GPUs of this machine"):
        PROGRAMS["train"].program.check(cfg, choices)


@pytest.mark.parametrize(("experiment", "data"), zip(group_members("experiment"), cycle(group_members("data"))))
def test_any_experiment_on_any_data_is_refused_or_built(experiment: str, data: str, tmp_path: Path):
    """What passes the check has a data module that can be built."""
    cfg, choices = composed("train", f"+experiment={experiment}", f"data={data}", f"paths.cache={tmp_path}")
    with suppress(*MISTAKES):
        PROGRAMS["train"].program.check(cfg, choices)
        build(cfg.data)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["+experiment=toy_video", "data=wan_synth"], r"data\.writer=.*: expected null, or a node with _target_"),
        (["+experiment=gt_keyframes", "objective=velocity"], r"objective\.variance: unknown argument of .*\.Velocity"),
        (["+experiment=trajectory_pairs", "training/tangent=forward"], r"training\.tangent\.first: unknown argument"),
    ],
)
def test_what_an_experiment_sets_for_another_option_is_refused_with_both(overrides: list[str], line: str):
    program, (experiment, option) = PROGRAMS["train"].program, overrides
    cfg = program.compose("paths.output_dir=nowhere", *overrides)
    both = rf"; {re.escape(experiment)} sets it for another {option.partition('=')[0]}; leave out {option} or "
    with pytest.raises(MISTAKES, match=f"^{line}.*{both}"):
        program.check(cfg, cfg.hydra.runtime.choices)


def test_a_typed_key_is_not_blamed_on_the_experiment():
    program = PROGRAMS["train"].program
    cfg = program.compose(
        "paths.output_dir=nowhere", "+experiment=toy_video", "data=wan_synth", "+data.width=3", "~data.writer"
    )
    with pytest.raises(
        Refused, match=r"^data\.width: unknown argument of [\w.]+ClipSource; did you mean 'data\.writer'\?$"
    ):
        program.check(cfg, cfg.hydra.runtime.choices)


@pytest.mark.parametrize("blocked", ["log_dir", "output"])
def test_a_place_that_cannot_be_made_names_its_key(tmp_path: Path, blocked: str):
    (tmp_path / "file").write_text("")
    cfg = OmegaConf.create({"paths": {"log_dir": str(tmp_path / ("file" if blocked == "log_dir" else "logs"))}})
    output = f"{cfg.paths.log_dir}/train/runs/a" if blocked == "log_dir" else str(tmp_path / "file" / "run")
    key = r"paths\.log_dir" if blocked == "log_dir" else r"hydra\.run\.dir"
    with pytest.raises(BadValue, match=rf"^{key}=.*file.*: expected a writable place: Not a directory"):
        check_output(cfg, output)
