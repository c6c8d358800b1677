"""A run's description of itself: the printed config, the saved config, its origin."""

import json
import shlex
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import checked, describe, given, main, next_command, print_config, run_metadata, save_config
from interp_refiner.data.preparation.commands import training_command
from tests.config.toy_program import ToySettings

LONG = "x" * 500
CONFIG = OmegaConf.create({"seed": 3, "a": {"b": "${seed}", "list": [1, "${seed}"], "none": None, "text": LONG}})


def test_the_printed_config_is_resolved_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    print_config(CONFIG)
    assert OmegaConf.create(capsys.readouterr().out) == OmegaConf.to_container(CONFIG, resolve=True)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_prints_and_saves(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, "0")
    print_config(CONFIG)
    assert capsys.readouterr().out != ""
    monkeypatch.setenv(variable, "1")
    print_config(CONFIG)
    save_config(CONFIG, tmp_path / "run")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run").exists()


def test_the_saved_config_is_resolved(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path / "run")
    saved = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert OmegaConf.to_container(saved, resolve=False) == OmegaConf.to_container(CONFIG, resolve=True)


def test_metadata_is_json_and_names_the_commit() -> None:
    metadata = json.loads(json.dumps(run_metadata()))
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert metadata["git_commit"] == (head.stdout.strip() or None)
    assert metadata["versions"]["torch"] == torch.__version__
    assert set(metadata["versions"]) == {"python", "interp_refiner", "torch", "lightning", "hydra-core", "diffusers"}
    assert metadata["device"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout of one file in which the package seems to stand."""
    for command in ("init -q", "add file", "-c user.name=a -c user.email=a@b commit -qm first"):
        (tmp_path / "file").write_text("first\n")
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(describe, "__file__", str(tmp_path / "interp_refiner/config/describe.py"))
    return tmp_path


def test_a_changed_file_makes_the_checkout_dirty_and_a_new_one_does_not(checkout: Path) -> None:
    (checkout / "new").write_text("untracked\n")
    assert run_metadata()["git_dirty"] is False
    (checkout / "file").write_text("second\n")
    assert run_metadata()["git_dirty"] is True


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "__file__", str(tmp_path / "interp_refiner/config/describe.py"))
    metadata: dict[str, Any] = run_metadata()
    assert metadata["git_commit"] is None
    assert metadata["git_dirty"] is None


def test_a_machine_without_git(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setenv("PATH", str(checkout / "nothing"))
    assert run_metadata()["git_commit"] is None


@pytest.mark.parametrize("spec", ["interp_refiner.train", "interp_refiner.train.__main__", None])
def test_the_command_can_be_typed_again(spec: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec and ModuleSpec(spec, None))
    monkeypatch.setattr(sys, "argv", ["scripts/tool.py", "a=b c", "d=${e}"])
    program = "-m interp_refiner.train" if spec else "scripts/tool.py"
    assert run_metadata()["command"] == f"python {program} 'a=b c' 'd=${{e}}'"


@pytest.mark.parametrize("word", ["--config-dir", "hydra.searchpath"])
def test_a_following_command_has_the_folders_of_options(
    word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, seen = tmp_path / "my parts", []
    (folder / "metric").mkdir(parents=True)
    (folder / "metric" / "mine.yaml").write_text("mine:\n  _target_: interp_refiner.evaluation.measures.PSNR\n")
    typed = f"--config-dir={folder}" if word == "--config-dir" else f"hydra.searchpath=['file://{folder}']"

    @main("toy", ToySettings, conf=Path(__file__).parent / "conf")
    def tell(cfg: DictConfig) -> None:
        seen.extend(given())
        _, cfg = checked("evaluate", tmp_path / "evaluation", "checkpoint=none", "metric=[mine]")
        assert cfg.metric.mine._target_.endswith("PSNR")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["toy", "seed=3", typed])
    tell()
    assert seen == [typed, "seed=3"]
    python, _, module, *words = shlex.split(next_command("train", *seen, "a=b c"))
    assert (python, module, words) == (sys.executable, "interp_refiner.train", [*seen, "a=b c"])
    board = training_command(seen, tmp_path, partial=False)
    assert typed in shlex.split(board)
