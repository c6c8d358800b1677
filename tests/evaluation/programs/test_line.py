"""``make debug`` stops at a figure that is not finite."""

import pytest

from interp_refiner.core import BadValue, Stopped
from interp_refiner.debug import debug
from interp_refiner.evaluation.programs import line
from interp_refiner.training.record import RunRecord, write_record
from tests.helpers import composed


def test_a_figure_that_is_not_finite_is_named(tmp_path, monkeypatch):
    """A record stores it as null."""

    def trains(*_):
        metrics = {"val/mean/ratio": float("nan"), "val/level_1/ratio": 0.0}
        write_record(tmp_path, RunRecord("", status="finished", metrics=metrics))

    monkeypatch.setattr(line, "call", trains)
    with pytest.raises(Stopped, match=r"not finite: val/mean/ratio$"):
        line._train(tmp_path)


@pytest.mark.parametrize(("setting", "least"), [("clips=7", 8), ("steps=0", 1)])
def test_the_setting_that_is_too_small_is_named(setting, least):
    with pytest.raises(BadValue, match=rf"^{setting}: expected at least {least}$"):
        debug(composed("debug", setting))
