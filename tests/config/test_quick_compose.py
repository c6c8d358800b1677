"""What the suite composes is what Hydra composes."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.helpers import CONF
from tests.quick_compose import PLAIN


def composed(folder, program, *overrides):
    with initialize_config_dir(str(folder), version_base="1.3", job_name=program):
        return compose(program, list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(
    "overrides", [[], ["+experiment=maze", "scale=laptop", "seed=3"], ["+sweep=sigma"]], ids=" ".join
)
def test_hydra_itself_composes_the_same(overrides, monkeypatch):
    quick = [composed(CONF, "train", *overrides) for _ in range(2)]
    for place, name, function in PLAIN:
        monkeypatch.setattr(place, name, function)
    plain = composed(CONF, "train", *overrides)
    for one in quick:
        assert OmegaConf.to_yaml(one) == OmegaConf.to_yaml(plain)
        assert OmegaConf.is_struct(one)


def test_a_changed_file_and_a_changed_config_are_told_from_what_was_before(tmp_path):
    (tmp_path / "run.yaml").write_text("defaults: [part: one]\nsteps: 1\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.yaml").write_text("size: 1\n")
    first = composed(tmp_path, "run")
    first.steps = 7
    assert composed(tmp_path, "run").steps == 1
    (tmp_path / "part" / "one.yaml").write_text("size: 22\n")
    assert (first.part.size, composed(tmp_path, "run").part.size) == (1, 22)


def test_a_composition_says_where_it_was_made(tmp_path, monkeypatch):
    before = composed(CONF, "train").hydra.runtime.cwd
    monkeypatch.chdir(tmp_path)
    assert before != composed(CONF, "train").hydra.runtime.cwd == str(tmp_path)
