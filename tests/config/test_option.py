"""Nodes get the names that options have on the command line."""

import pytest
from omegaconf import OmegaConf

from interp_refiner.config import option_name
from tests.helpers import group_config, group_members

PRESETS = {
    "euler": "bridge",
    "rcm": "consistency",
    "distribution_matching": "consistency",
}  # settings of another option
GROUPS = ["schedule", "interpolator", "corruption", "sampler", "scheduled_sampling", "objective"]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in group_members(group)])
def test_every_option_is_called_by_its_name(group, name):
    assert option_name(group, group_config(group, name)) == PRESETS.get(name, name)


def test_a_class_of_ones_own_is_called_after_it():
    assert option_name("schedule", OmegaConf.create({"_target_": "mine.EveryOther"})) == "every_other"
