"""Checkpoint files are whole or absent, and damaged ones are never used."""

import errno
import logging
import os

import pytest
import torch

from interp_refiner.core import BadValue, Stopped
from interp_refiner.training.checkpoint import (
    LAST,
    AtomicCheckpointIO,
    fault,
    last_whole,
    resume_path,
    size_of,
    write_sharded,
)
from interp_refiner.training.checkpoint.rolling import link


def write(folder, step, last=False):
    """A checkpoint with random content; returns its path."""
    path = folder / f"step_{step:06d}.ckpt"
    generator = torch.Generator().manual_seed(step)
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.randn(3000, generator=generator)}}, path)
    if last:
        link(folder / LAST, path)
    return path


def test_a_checkpoint_comes_back_bit_for_bit_and_its_size_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "new_folder", 3)
    read = AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"]
    assert torch.equal(read, torch.randn(3000, generator=torch.Generator().manual_seed(3)))
    assert fault(path) is None
    assert os.listdir(path.parent) == [path.name]
    assert f"{path}: 0.0 MB" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_detected(tmp_path, share):
    path = write(tmp_path, 1)
    os.truncate(path, int(path.stat().st_size * share))
    assert "truncated" in fault(path)


def test_one_flipped_bit_is_detected(tmp_path):
    path = write(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "does not match its checksum" in fault(path)


def sharded(folder, step):
    """A checkpoint of a sharded strategy, of one process."""
    path, weight = folder / f"step_{step:06d}.ckpt", torch.randn(40, 9, generator=torch.Generator().manual_seed(step))
    optimizer = {"state": {"w": {"exp_avg": weight / 3}}, "param_groups": [{"params": ["w"], "lr": 0.5}]}
    write_sharded({"state_dict": {"w": weight}, "optimizer_0": optimizer}, {"global_step": step}, path)
    return path


def test_a_sharded_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = sharded(tmp_path, 3)
    weight = torch.randn(40, 9, generator=torch.Generator().manual_seed(3))
    read = AtomicCheckpointIO().load_checkpoint(path)
    assert fault(path) is None
    assert read["global_step"] == 3
    assert torch.equal(read["state_dict"]["w"], weight)
    (state,) = read["optimizer_states"]
    assert torch.equal(state["state"][0]["exp_avg"], weight / 3)
    assert state["param_groups"] == [{"params": [0], "lr": 0.5}]
    assert size_of(path) > weight.nbytes * 2
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_a_sharded_checkpoint_without_a_part_is_damaged(tmp_path, name):
    path = sharded(tmp_path, 1)
    (path / name).unlink()
    assert fault(path) == f"a sharded checkpoint without {name}"


def test_a_truncated_shard_and_a_flipped_bit_are_detected(tmp_path):
    good, bad = sharded(tmp_path, 1), sharded(tmp_path, 2)
    (shard,) = bad.glob("*.distcp")
    whole = shard.read_bytes()
    content = bytearray(whole)
    weight = torch.randn(40, 9, generator=torch.Generator().manual_seed(2))
    content[content.index(weight.numpy().tobytes()) + 5] ^= 1
    shard.write_bytes(content)
    assert "does not match its checksum" in fault(bad)
    shard.write_bytes(whole[:-1000])
    assert "is truncated" in fault(bad)
    assert last_whole(tmp_path) == good
    (bad / ".metadata").write_bytes(b"half")
    assert "cannot be read" in fault(bad)


def test_a_sharded_checkpoint_that_stepped_aside_for_a_new_one_is_found(tmp_path, monkeypatch):
    path, replace = sharded(tmp_path, 1), os.replace

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        sharded(tmp_path, 1)
    assert not path.exists()
    assert fault(last_whole(tmp_path)) is None


def test_a_disk_that_refuses_a_sharded_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    good = sharded(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full") as refused:
        sharded(tmp_path, 2)
    assert refused.value.errno == errno.ENOSPC
    assert last_whole(tmp_path) == good
    assert os.listdir(tmp_path) == [good.name], "what was written of it takes no space"


def test_the_one_before_a_damaged_checkpoint_is_used_and_named(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    good, bad = write(folder, 9), write(folder, 10, last=True)
    os.truncate(bad, 5000)
    for place in ("last", str(tmp_path), str(folder / LAST)):
        caplog.clear()
        assert resume_path(place, tmp_path) == good
        assert f"{bad} is damaged (truncated" in caplog.text
    with pytest.raises(BadValue, match=r"ckpt_path=.*step_000010\.ckpt: expected .*truncated"):
        resume_path(str(bad), tmp_path)


def test_last_is_a_fresh_start_where_there_is_nothing_and_another_folder_is_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert resume_path(None, tmp_path) is None
    assert resume_path("last", tmp_path) is None
    assert "a fresh start" in caplog.text
    with pytest.raises(BadValue, match=r"ckpt_path=.*expected last, a run folder, or a checkpoint file"):
        resume_path(str(tmp_path), tmp_path)


def test_a_killed_writer_leaves_the_old_link_and_no_half_file(tmp_path, monkeypatch):
    old = write(tmp_path, 1, last=True)
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    assert last_whole(tmp_path) == old
    assert sorted(os.listdir(tmp_path)) == [LAST, old.name]


def test_a_full_disk_stops_with_one_line_and_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    good = write(tmp_path, 1, last=True)
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: real(checkpoint, full))
    with pytest.raises(Stopped) as stopped:
        write(tmp_path, 2)
    assert str(stopped.value) == (
        f"checkpoint {tmp_path / 'step_000002.ckpt'}: {os.strerror(errno.ENOSPC)}; the last good one is {good}"
    )
    assert stopped.value.exit_code == 3
    assert fault(good) is None
    assert sorted(os.listdir(tmp_path)) == [LAST, good.name]
