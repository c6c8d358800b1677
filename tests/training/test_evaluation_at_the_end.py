"""``evaluation={...}`` with several processes: rank zero evaluates after all ranks have left their group."""

import pytest
import torch.distributed as dist
from omegaconf import OmegaConf

from interp_refiner import train as program


@pytest.mark.parametrize("rank_zero", [True, False])
def test_the_process_group_is_left_before_the_evaluation(tmp_path, monkeypatch, rank_zero):
    """Else torchmetrics and the Fréchet measures would wait for ranks that never evaluate."""
    calls = []
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("barrier"))
    monkeypatch.setattr(program, "call", lambda name, *_: calls.append((name, dist.is_initialized())))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        program.evaluate_alone(OmegaConf.create({"evaluation": {"clips": 4}}), tmp_path, rank_zero)
        assert not dist.is_initialized()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert calls == ["barrier", *([("evaluate", False)] if rank_zero else [])]
