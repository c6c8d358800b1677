"""A bad value that is found late is reported with its config key."""

import pytest
from omegaconf import OmegaConf

from interp_refiner.config.refusal import locate
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
