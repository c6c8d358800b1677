"""logger=wandb without wandb: refused with the name of the extra."""

from unittest.mock import create_autospec

import pytest
from lightning.pytorch.loggers import WandbLogger

from interp_refiner.config import Refused, build
from tests.config.test_compose import composed


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("interp_refiner.training.callback.wandb.find_spec", lambda name: None)
    cfg = composed("train", "logger=wandb", f"paths.output_dir={tmp_path}")
    message = (
        r"^logger\.wandb: logger=wandb needs wandb, which is not installed: pip install 'interp_refiner\[wandb\]'$"
    )
    with pytest.raises(Refused, match=message):
        build(cfg.logger.wandb)


def test_it_is_offline_and_in_the_run_folder_unless_told_otherwise(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("interp_refiner.training.callback.wandb.find_spec", lambda name: object())
    logger = create_autospec(WandbLogger, instance=True)
    monkeypatch.setattr(
        "interp_refiner.training.callback.wandb.WandbLogger", lambda **settings: seen.update(settings) or logger
    )
    build(composed("train", "logger=wandb", f"paths.output_dir={tmp_path}").logger.wandb)
    assert (seen["offline"], seen["save_dir"]) == (True, str(tmp_path))
