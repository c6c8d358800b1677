"""``--help`` with the comments of the YAML files."""

import re

import pytest
from omegaconf import OmegaConf

from interp_refiner.config.help import commented, comments_of, keys_of, print_help
from interp_refiner.evaluate import evaluate
from interp_refiner.train import train
from tests.helpers import CONF


def test_lines_have_dotted_keys():
    lines = ["a: 1", "b:", "  c: 2 # two", "  d:", "    - 3", "  e: x", "", "f: 'g: h'"]
    assert [key for key, _ in keys_of(lines)] == ["a", "b", "b.c", "b.d", "", "b.e", "", "f"]


def test_comments_come_from_the_file_of_every_chosen_option(tmp_path):
    group = tmp_path / "noise"
    group.mkdir()
    (tmp_path / "top.yaml").write_text("seed: 0 # of everything\nkept: 1\n")
    (group / "loud.yaml").write_text("gain: 2.0 # decibels\nof:\n  kind: white # white | pink\n")
    (group / "whole.yaml").write_text("# @package _global_\nseed: 1 # of this\n")
    choices = {"noise": "loud", "noise@other.place": "loud", "hydra/launcher": "basic", "absent": None}
    cfg = OmegaConf.create({"hydra": {"runtime": {"choices": choices}}})
    found = comments_of(cfg, "top", [tmp_path])
    assert found["seed"] == "of everything"
    assert found["noise.gain"] == found["other.place.gain"] == "decibels"
    assert found["noise.of.kind"] == "white | pink"
    (group / "loud.yaml").write_text("# @package far.away\ngain: 2.0 # decibels\n")
    assert comments_of(cfg, "top", [tmp_path])["far.away.gain"] == "decibels"
    cfg.hydra.runtime.choices["noise"] = "whole"
    assert comments_of(cfg, "top", [tmp_path])["seed"] == "of this"
    assert commented("seed: 0\nnoise:\n  gain: 1\n", {"noise.gain": "decibels"}).splitlines()[2].endswith("# decibels")


def test_what_hydra_printed_is_printed_even_where_it_ends_the_program(capsys):
    cfg = evaluate.program.compose("checkpoint=x")

    def show():
        print("clips: null\nelse: 1")
        raise SystemExit(0)

    with pytest.raises(SystemExit, match=r"^0$"):
        print_help(show, cfg, "evaluate", [CONF])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("clips: null ")
    assert "quick look" in first
    assert second == "else: 1"


def test_most_values_of_a_training_are_explained():
    program = train.program
    found = comments_of(program.compose(), program.config_name, [CONF])
    assert re.search("optimizer", " ".join(found))
    assert len(found) > 60
