"""A bad value that is found late is reported with its config key."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from interp_refiner.config.refusal import Refused, locate, short_names
from interp_refiner.core import BadValue

CONFIG = OmegaConf.create(
    {
        "seed": 3,
        "paths": {"root": "/here", "data_root": "/data"},
        "data": {"root": "${paths.data_root}/clips", "batch_size": 4, "seed": "${seed}"},
        "twins": [{"size": 1}, {"size": 2}, {"size": 2}],
        "gap": {"root": "???"},
    }
)


@pytest.mark.parametrize(
    ("name", "value", "located"),
    [
        ("batch_size", 4, "data.batch_size"),
        ("batch_size", 16, "data.batch_size"),  # the only one of that name, though the value was changed on the way
        ("root", "/data/clips", "data.root"),  # by its value, through an interpolation
        ("root", "/data/clips/train/dataset.json", "data.root"),  # by its folder
        ("root", "/here/train", "paths.root"),
        ("root", "/data/clips2", "root"),
        ("root", "/elsewhere", "root"),  # either could be meant
        ("size", 1, "twins.0.size"),
        ("size", 2, "size"),
        ("seed", 3, "seed"),  # a key at the top is whole
        ("data.batch_size", 4, "data.batch_size"),
        ("unknown", 4, "unknown"),
    ],
)
def test_located(name: str, value: object, located: str) -> None:
    error = BadValue(name, value, "something else", ["an option"])
    found = locate(error, CONFIG)
    assert isinstance(found, BadValue)
    assert (found.name, found.value, found.allowed, found.options) == (located, value, error.allowed, error.options)


def test_other_errors_stay_as_they_are() -> None:
    error = KeyError("root")
    assert locate(error, CONFIG) is error


def test_the_home_of_nobody_is_a_mistake_that_names_its_setting():
    cfg = OmegaConf.create({"prompt": "a ~ b", "source": "~nobody_of_this_name/videos"})
    in_a_storyboard = OmegaConf.create({"storyboard": "a.yaml"})
    for config, said in ((cfg, "source=~nobody_of_this_name/videos"), (in_a_storyboard, "~")):
        with pytest.raises(Refused, match=f"^{said}: expected a path; there is no such user"), short_names(config):
            Path(cfg.source).expanduser()
    with pytest.raises(RuntimeError, match="another"), short_names(cfg):
        raise RuntimeError("another")


def test_a_name_that_is_too_long_is_a_mistake_that_names_its_setting(tmp_path):
    long, name = "x" * 256, "y" * 250  # the second one only with a suffix
    cfg = OmegaConf.create({"prompt": "a" * 300, "source": long, "node": {"output": f"{tmp_path}/{name}"}})
    for value, told in (
        (long, rf"^source={long}: expected a file name of at most 255 bytes$"),
        (f"{tmp_path}/{name}.report.json", rf"^node\.output={tmp_path}/{name}: expected a file name of at most"),
        ("z" * 256, f"^{'z' * 256}: expected a file name of at most"),
    ):
        with pytest.raises(Refused, match=told), short_names(cfg):
            Path(value).is_file()
    with pytest.raises(FileNotFoundError), short_names(cfg):
        Path("nowhere").read_text()
