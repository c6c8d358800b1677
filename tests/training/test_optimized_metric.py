"""``optimized_metric``: a name that no validation gives is refused before the training."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.train import fit
from interp_refiner.training.validation import check_metric
from tests.config.small import small_config
from tests.training.students import teacher


def test_a_refiner_knows_the_names_of_its_figures():
    refiner = teacher()
    clips, missing = torch.randn(3, 2, 4, 5, 4, 4).unbind(0), torch.ones(2, 5, dtype=torch.bool)
    refiner.validation_error.update(*clips, missing, torch.tensor([1, 2]))
    assert {f"val/{name}" for name in refiner.validation_error.compute()} == set(refiner.metrics)
    check_metric("val/mean/ratio", refiner.metrics)
    with pytest.raises(BadValue, match=r"^optimized_metric=val/mean/ratoi: expected val/level_1/.*'val/mean/ratio'"):
        check_metric("val/mean/ratoi", refiner.metrics)


def test_without_a_validation_none_is_expected_before_the_fit(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(BadValue, match=r"^optimized_metric=val/mean/ratio: expected null, because this run has no val"):
        fit(small_config(tmp_path, "optimized_metric=val/mean/ratio"), None)
