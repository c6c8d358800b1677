"""Anchor shards: written, indexed and joined by key; what is wrong with them is named."""

import logging

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import ShardDataset
from interp_refiner.data.anchors import AnchorShards, ImperfectSource
from interp_refiner.data.shards import BadSample, write_shards
from interp_refiner.data.shards.write import Anchor
from tests.data.shards_on_disk import METADATA, SHAPE, replace_member, saved, write


def anchor(key, frames, seed=0):
    values = torch.randn(SHAPE[0], len(frames), *SHAPE[2:], generator=torch.Generator().manual_seed(seed))
    return Anchor(key, values, torch.tensor(frames, dtype=torch.int64))


def read(shards, key):
    latents, proposed = torch.full(SHAPE, 7.0), torch.ones(SHAPE[1], dtype=torch.bool)
    shards.read_into(key, latents, proposed)
    return latents, proposed


def test_anchors_come_back_by_key_in_their_frames(tmp_path):
    written = [anchor("b", [4, 0], 1), anchor("a", [2], 2), anchor("c.d", [], 3)]
    shards = AnchorShards(write_shards(tmp_path / "anchors", written, METADATA, samples_per_shard=2))
    for one in written:
        latents, proposed = read(shards, one.key)
        assert proposed.nonzero().flatten().tolist() == sorted(one.frames.tolist())
        assert torch.equal(latents[:, one.frames], one.latents.bfloat16().float())
        assert (latents[:, ~proposed] == 7).all()
    assert not read(shards, "unknown")[1].any()


def test_clips_without_an_anchor_are_named_or_ignored_aloud(tmp_path, caplog):
    shards = AnchorShards(write_shards(tmp_path / "anchors", [anchor("b", [1])], METADATA))
    shards.check(["b"])
    with pytest.raises(BadValue, match=r"anchors\.missing=error: .*lacks a, c, d, e and 2 more"):
        shards.check(["a", "b", "c", "d", "e", "f", "g"])
    with caplog.at_level(logging.WARNING):
        shards.check(["a", "b"], "ignore")
    assert "no anchors in" in caplog.text
    assert " for a: " in caplog.text


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("anchor_idx", torch.tensor([1, 9]), r"indices \[1, 9\], expected 0 to 4"),
        ("anchor_idx", torch.tensor([2, 2]), "indices .*different int64"),
        ("anchor_idx", torch.tensor([0.0, 1.0]), "indices .*different int64"),
        ("anchor", torch.randn(4, 3, 2, 4), r"shape \[4, 3, 2, 4\], expected \[4, 2, 2, 4\]"),
        ("anchor", torch.full((4, 2, 2, 4), torch.inf), "NaN or infinite"),
    ],
)
def test_a_bad_anchor_names_shard_key_and_reason(tmp_path, member, value, reason):
    root = write_shards(tmp_path / "anchors", [anchor("b", [1, 3])], METADATA)
    replace_member(root / "shard-00000.tar", f"b.{member}.pt", saved(value))
    with pytest.raises(BadSample, match=rf"shard-00000\.tar: sample 'b': anchor: {reason}"):
        read(AnchorShards(root), "b")


def test_an_anchor_without_indices_and_an_empty_folder_are_refused(tmp_path):
    root = write_shards(tmp_path / "anchors", [anchor("b", [1, 3])], METADATA)
    replace_member(root / "shard-00000.tar", "b.anchor_idx.pt", None)
    with pytest.raises(BadSample, match="sample 'b': no anchor_idx"):
        AnchorShards(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadValue, match=r"anchors\.root=.*anchor shards"):
        AnchorShards(tmp_path / "empty")


def test_an_imperfect_source_shifts_frames_and_adds_noise(tmp_path):
    write(tmp_path / "set", 20)
    dataset = ShardDataset(tmp_path / "set")
    shifted = list(ImperfectSource(frames=[0, 2, 4], sigma=0.0, max_shift=1).of(dataset))
    assert [one.key for one in shifted] == [dataset.key(i) for i in range(20)]
    steps = set()
    for number, one in enumerate(shifted):
        clean = dataset[number].latents.float()
        for column, frame in enumerate(one.frames.tolist()):
            source = [t for t in range(5) if torch.equal(one.latents[:, column], clean[:, t])]
            steps.add(source[0] - frame)
    assert steps == {-1, 0, 1}
    noisy = ImperfectSource(sigma=0.5, max_shift=0)("k", torch.zeros(8, 50, 4, 4))
    assert 0.47 < noisy.latents.std() < 0.53
    assert torch.equal(noisy.latents, ImperfectSource(sigma=0.5, max_shift=0)("k", torch.zeros(8, 50, 4, 4)).latents)
