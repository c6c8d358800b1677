"""A program called by another one: its folder may have any name, and its overrides are written in Hydra's grammar."""

import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from interp_refiner.config import Refused, assigned, call
from interp_refiner.config.command_line import parsed
from interp_refiner.core import Stopped
from interp_refiner.evaluate import evaluate
from interp_refiner.evaluation.programs import line
from interp_refiner.train import train
from interp_refiner.training.settings import evaluation_overrides
from tests.config.toy_program import toy

ODD = "josé it's/sigma=0.5,lr=1 [x] (2)"


def test_a_folder_of_any_name(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "interp_refiner.tiny", SimpleNamespace(tiny=toy))
    folder = tmp_path / ODD
    assert call("tiny", folder, assigned("data.root", tmp_path), "corruption.sigma=0.25") == 0.25
    assert folder.is_dir()


def test_the_evaluation_at_the_end_of_a_run_gets_its_settings_and_a_folder_of_any_name(tmp_path):
    chosen = {"clips": 2, "sampler": "bridge", "metric": ["vmaf"], "split": None, "full": True}
    cfg = OmegaConf.create({"paths": {"output_dir": str(tmp_path / ODD)}, "evaluation": chosen})
    found = evaluate.program.compose(*evaluation_overrides(cfg))
    assert (found.checkpoint, found.clips, found.split, found.full) == (str(tmp_path / ODD), 2, None, True)
    assert found.sampler._target_.endswith("Bridge")
    assert "vmaf" in found.metric


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("clip:64", r"clip='?64'?: no such key; did you mean 'clips'\?"),
        ("clips:few", "clips=few: expected an integer or null"),
        ("sampler:bridg", "sampler=bridg: expected .*; did you mean 'bridge'"),
    ],
)
def test_a_wrong_evaluation_is_refused_before_the_run(chosen, said, tmp_path):
    cfg = train.program.compose(f"evaluation={{{chosen}}}")
    with pytest.raises(Refused, match=f"^evaluation: {said}"):
        train.program.check_before(cfg, str(tmp_path / ODD))


def test_a_right_evaluation_passes_and_makes_no_folder(tmp_path):
    train.program.check_before(train.program.compose("evaluation={clips:2}"), str(tmp_path / ODD))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", line.LINE)
def test_a_step_of_the_line_writes_its_folders_in_the_grammar(step, monkeypatch, tmp_path):
    def read(program, folder, *overrides):
        values = [parsed(text).value() for text in overrides]
        assert any(ODD in (value[0] if program == "report" else str(value)) for value in values)
        raise Stopped("read")

    monkeypatch.setattr(line, "call", read)
    cfg = OmegaConf.create({"paths": {"output_dir": str(tmp_path / ODD)}, "clips": 8, "steps": 1, "seed": 0})
    with suppress(Stopped):
        line.LINE[step](tmp_path / ODD, line.tiny(cfg))
