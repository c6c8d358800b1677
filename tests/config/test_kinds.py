"""Every program and every kind of mistake: one line that names the setting, before any work.

The cases are made of the programs' own settings: a new setting or program is tested unlisted. A program's config is
composed once; then its function is called in this process, as ``main`` calls it.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

import interp_refiner
from interp_refiner.config import build
from interp_refiner.config.machine import check_output
from interp_refiner.config.refusal import MISTAKES, locate
from interp_refiner.core import BadValue
from tests.helpers import CONF, group_members

# Strings of settings that name no file: any text is right, or is told later.
TEXTS = {"experiment_name", "next_command", "negative", "title", "host", "against", "optimized_metric"}
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
        cfg = compose(name, [*overrides], return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), choices


def config(name: str, folder: Path, **values: Any) -> tuple[DictConfig, dict[str, Any]]:
    """A copy with everything in ``folder``, the settings that have no value set, and some values replaced."""
    cfg, choices = composed(name)
    cfg = cfg.copy()
    with open_dict(cfg):
        for place in ("root", "cache", "log_dir", "output_dir"):
            cfg.paths[place] = str(folder / place)
        for key in [key for key in cfg if OmegaConf.is_missing(cfg, key)]:
            cfg[key] = str(folder / NEEDED.get(key, "nowhere"))
        for key, value in values.items():
            OmegaConf.update(cfg, key, value, force_add=True)
    return cfg, choices


def told(name: str, cfg: DictConfig, choices: dict[str, Any]) -> str:
    """The one line of a refusal; fails for every other end."""
    task = PROGRAMS[name]
    Path(cfg.paths.output_dir).mkdir(parents=True, exist_ok=True)

    def run() -> None:
        task.program.check(cfg, choices)
        task(cfg)

    with pytest.raises(MISTAKES) as caught:
        run()
    return " ".join(str(locate(caught.value, cfg)).split())


def settings(kinds: Callable[[Any], bool]) -> Iterator[tuple[str, str]]:
    """(program, setting) for the settings whose hint is of a kind."""
    for name, task in PROGRAMS.items():
        for entry in dataclasses.fields(task.program.settings):
            if kinds(entry.type) and entry.name in composed(name)[0]:
                yield name, entry.name


def is_path(hint: Any) -> bool:
    return hint in (str, str | None)


def is_checked(hint: Any) -> bool:
    """Whether a list of a dict is no value of it."""
    return get_origin(hint) is Literal or not any(part in (dict, list) for part in (get_origin(hint), hint))


PATHS = [(program, name) for program, name in settings(is_path) if name not in TEXTS]


@pytest.mark.parametrize(("program", "name"), PATHS, ids="-".join)
@pytest.mark.parametrize("kind", ["missing", "garbage", "folder", "below a file"])
def test_paths(program: str, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    path = tmp_path / {"below a file": "garbage/below"}.get(kind, kind)
    if (name, kind) in (("output", "missing"), ("log_book", "missing")):
        return  # that is made
    line = told(program, *config(program, tmp_path, **{name: str(path)}))
    assert str(path) in line or name in line or "nowhere" in line, line


@pytest.mark.parametrize(("program", "name"), list(settings(is_checked)), ids="-".join)
def test_values_of_a_wrong_type_are_named(program: str, name: str, tmp_path: Path):
    cfg, choices = config(program, tmp_path, **{name: [{"wrong": "type"}]})
    assert told(program, cfg, choices).startswith(f"{name}=")


@pytest.mark.parametrize("program", PROGRAMS)
def test_nested_values_of_a_wrong_type_are_named(program: str, tmp_path: Path):
    """The first number below the top level of every program that has one."""
    cfg, choices = config(program, tmp_path)
    numbers = [
        f"{top}.{key}" for top, node in cfg.items()
        if isinstance(node, DictConfig) and "_target_" in node
        for key in node
        if not OmegaConf.is_missing(node, key) and type(node[key]) in (int, float)
    ]  # fmt: skip
    for key in numbers:
        cfg, choices = config(program, tmp_path, **{key: "many"})
        assert told(program, cfg, choices).startswith(f"{key}=many: expected"), key


@pytest.mark.parametrize("program", [name for name, task in PROGRAMS.items() if "device" in composed(name)[0]])
def test_no_gpu(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert told(program, *config(program, tmp_path, device="cuda")).startswith("device=cuda: expected auto or cpu")


@pytest.mark.parametrize("overrides", [("trainer=gpu",), ("trainer.accelerator=cuda",), ("scale=h200",)], ids=str)
def test_no_gpu_to_train_on(overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg, choices = composed("train", *overrides)
    with pytest.raises(BadValue, match=r"^trainer\.accelerator=(gpu|cuda): expected auto or cpu .*no GPU"):
        PROGRAMS["train"].program.check(cfg, choices)


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cfg, choices = composed("train", "trainer=gpu", "trainer.devices=8")
    with pytest.raises(BadValue, match=r"^trainer\.devices=8: expected at most 2, the GPUs of this machine"):
        PROGRAMS["train"].program.check(cfg, choices)


@pytest.mark.parametrize("data", group_members("data"))
@pytest.mark.parametrize("experiment", group_members("experiment"))
def test_any_experiment_on_any_data_is_refused_or_built(experiment: str, data: str, tmp_path: Path):
    """What passes the check has a data module that can be built."""
    cfg, choices = composed("train", f"+experiment={experiment}", f"data={data}", f"paths.cache={tmp_path}")
    with suppress(*MISTAKES):
        PROGRAMS["train"].program.check(cfg, choices)
        build(cfg.data, corruption=build(cfg.corruption))


def test_what_another_data_set_is_made_of_is_refused():
    cfg, choices = composed("train", "+experiment=toy_video", "data=wan_synth")
    with pytest.raises(BadValue, match=r"^data\.writer=.*: expected null, or what has a _target_"):
        PROGRAMS["train"].program.check(cfg, choices)


@pytest.mark.parametrize("blocked", ["log_dir", "output"])
def test_a_place_that_cannot_be_made_names_its_key(tmp_path: Path, blocked: str):
    (tmp_path / "file").write_text("")
    cfg = OmegaConf.create({"paths": {"log_dir": str(tmp_path / ("file" if blocked == "log_dir" else "logs"))}})
    output = f"{cfg.paths.log_dir}/train/runs/a" if blocked == "log_dir" else str(tmp_path / "file" / "run")
    key = r"paths\.log_dir" if blocked == "log_dir" else r"hydra\.run\.dir"
    with pytest.raises(BadValue, match=rf"^{key}=.*file.*: expected a place that can be written to: Not a directory"):
        check_output(cfg, output)
