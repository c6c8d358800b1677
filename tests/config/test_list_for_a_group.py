"""A list for a group, or a plain value for a component: refused where a node builds one object."""

import re

import pytest

from interp_refiner.config import Refused, conf_dir
from interp_refiner.config.composition import composed
from interp_refiner.core import BadValue
from interp_refiner.train import train

SCHEDULES = "dp | fixed | learned | random | uniform"


@pytest.mark.parametrize("value", ["[uniform]", "[uniform,random]", "[]"])
def test_a_list_for_one_object_is_refused_with_its_options(value):
    with pytest.raises(BadValue) as refused:
        composed(conf_dir(), "train", f"schedule={value}")
    message = str(refused.value)
    assert message.startswith(f"schedule={value}: expected one of {SCHEDULES}, not a list")
    assert "\n" not in message


def test_the_nearest_option_is_suggested():
    with pytest.raises(BadValue, match=r"^corruption/bridge_time=\[unifrm\]: .*; did you mean 'uniform'\?$"):
        composed(conf_dir(), "train", "corruption/bridge_time=[unifrm]")


def test_an_option_of_a_part_of_nothing_names_the_options_of_the_whole():
    with pytest.raises(Refused, match=r"^sampler/views=mirrored: no sampler that has views .*=<bridge \| consistency"):
        composed(conf_dir(), "sample", "sampler/views=mirrored")


def test_a_dict_for_a_group_is_refused_with_its_options():
    with pytest.raises(Refused, match=r"^schedule=\{a:1\}: expected dp \| fixed \| "):
        composed(conf_dir(), "train", "schedule={a:1}")


def test_groups_whose_options_are_combined_take_lists():
    assert set(composed(conf_dir(), "train", "logger=[tensorboard,csv]").logger) == {"tensorboard", "csv"}
    assert composed(conf_dir(), "train", "+experiment=[gt_keyframes]").experiment_name == "gt_keyframes"
    assert composed(conf_dir(), "train", "schedule.counts=[8,5]").schedule.counts == [8, 5]


def test_a_group_that_the_program_has_not_is_not_to_be_added(tmp_path):
    with pytest.raises(Refused, match=r"^metric=vmaf: the defaults list has no metric that could be replaced$"):
        composed(conf_dir(), "train", "metric=vmaf")
    with pytest.raises(Refused, match=r"^metric: unknown key"):
        train.program.check_before(composed(conf_dir(), "train", "+metric=vmaf"), str(tmp_path))


def test_an_option_of_a_part_that_is_written_as_a_value_is_told_its_group():
    said = r"^sampler\.guidance=classifier_free: .*; use sampler/guidance=classifier_free$"
    with pytest.raises(Refused, match=said):
        composed(conf_dir(), "train", "sampler.guidance=classifier_free")


def test_off_is_near_to_no_option():
    with pytest.raises(BadValue, match=r"^debug=off: expected default \| [^;]*$"):
        composed(conf_dir(), "train", "debug=off")


def test_only_options_that_have_the_part_are_named():
    with pytest.raises(Refused, match=r"objective=<adjacent \| clean \| correction \| preconditioned \| velocity>$"):
        composed(conf_dir(), "train", "objective=energy_score", "objective/penalty=robust")
    with pytest.raises(Refused, match=r"no sampler that has guidance .*<bridge \| euler \| hierarchical \| one_jump>$"):
        composed(conf_dir(), "sample", "sampler/guidance=none")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.text_dropout=0.1", r"set data\.text_dropout\.<(\w+ \| )*probability( \| \w+)*>=<value>$"),
        ("data.mirror=5", r"set data\.mirror\.<(\w+ \| )*probability( \| \w+)*>=<value>$"),
        ("data.reading=5", r"set data\.reading\.<(\w+ \| )*checksums( \| \w+)*>=<value>$"),
        ("callback.ema=false", r"set callback\.ema\.<decay>=<value>$"),
        ("callback.progress=false", r"set callback\.progress=null$"),
        ("corruption.noise=dist", r"set corruption\.noise\.<.*temporal_correlation.*>=<value>$"),
        ("corruption.schedule=5", r"set schedule=<dp \| .*> or schedule\.<(\w+ \| )*counts( \| \w+)*>=<value>$"),
        (
            "corruption.drawn.bridge_time=0.5",
            r"set corruption/bridge_time=<.*logit_normal.*> or corruption\.drawn\.bridge_time\.<(\w+ \| )*at_one",
        ),
    ],
)
def test_a_plain_value_for_a_component_is_refused_with_its_keys_and_options(override, told):
    with pytest.raises(BadValue, match=rf"^{re.escape(override)}: expected a component, not a plain value; {told}"):
        composed(conf_dir(), "train", "corruption/bridge_time=logit_normal", override)


def test_a_component_may_be_set_to_null_and_a_key_that_takes_strings_to_a_string():
    assert composed(conf_dir(), "train", "callback.ema=null").callback.ema is None
    assert composed(conf_dir(), "train", "trainer.strategy=ddp").trainer.strategy == "ddp"
