"""Rank zero evaluates alone at the end of a run, after all ranks have left their process group."""

from types import SimpleNamespace

import pytest
import torch.distributed as dist

from interp_refiner import train as program
from interp_refiner.training.strategy import leave_processes
from tests.config.small import small_config


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("rank_zero", [True, False])
def test_every_rank_leaves_before_rank_zero_evaluates(group, tmp_path, monkeypatch, rank_zero):
    """Else torchmetrics and the Fréchet measures would wait for ranks that never evaluate."""
    calls = []
    trainer = SimpleNamespace(
        is_global_zero=rank_zero, interrupted=False, fast_dev_run=False, limit_val_batches=1, fit=lambda *_, **__: None
    )
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("barrier"))
    monkeypatch.setattr(program, "build", lambda node, **_: trainer)
    run = SimpleNamespace(module=None, spec=None, data=SimpleNamespace(validating=lambda samples: None))
    monkeypatch.setattr(program, "assemble", lambda cfg: run)
    for name in ("check_step_memory", "print_start", "validate_fully", "write_summary", "save_config"):
        monkeypatch.setattr(program, name, lambda *_: {})
    monkeypatch.setattr(program, "call", lambda name, *_: calls.append((name, dist.is_initialized())))
    recording = SimpleNamespace(start=lambda *_: None)
    program.fit(small_config(tmp_path, "evaluation={clips:4}"), recording)
    assert not dist.is_initialized()
    assert calls == ["barrier", *([("evaluate", False)] if rank_zero else [])]


def test_a_single_process_has_nothing_to_leave(monkeypatch):
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda: pytest.fail("without a group, torch raises"))
    leave_processes()
