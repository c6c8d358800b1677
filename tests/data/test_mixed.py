"""Clips of several sizes: what is read, in which order, and how a stopped run continues."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp_refiner.core import BadValue, Clip
from interp_refiner.data import (
    BatchReader,
    ClipSource,
    DatasetMetadata,
    EvalLoader,
    Sample,
    ShardDataset,
    TrainLoader,
    write_shards,
)
from interp_refiner.data.mixed import MixedDataset
from interp_refiner.data.order import next_bucket

SHAPES = {(2, 5, 2, 4): 11, (2, 5, 4, 2): 6, (2, 3, 2, 4): 4}  # clips of every size


def write(root: Path, counts: dict[tuple[int, ...], int]) -> None:
    names = []
    for shape, count in counts.items():
        names.append("x".join(map(str, shape)))
        keys = [f"{names[-1]}-{number}" for number in range(count)]
        draws = torch.Generator().manual_seed(len(keys))
        samples = [Sample(key, torch.randn(shape, generator=draws), torch.zeros(2, 3), key) for key in keys]
        metadata = DatasetMetadata(shape, text_shape=(2, 3), latents_mean=[0.0] * 2, latents_std=[1.0] * 2)
        write_shards(root / names[-1], samples, metadata, samples_per_shard=4)
    (root / "buckets.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write(folder / "train", SHAPES)
    write(folder / "val", dict.fromkeys(SHAPES, 3))
    return folder


@pytest.fixture(scope="module")
def reader(root: Path) -> BatchReader:
    clips = ClipSource(str(root)).open().train
    assert isinstance(clips, MixedDataset)
    return BatchReader(clips, threads=2)


def seen(clips: list[Clip]) -> list[tuple[int, str]]:
    """(epoch, key) of every sample; a batch holds one size, and prompts and latents are those of the keys."""
    found = []
    for clip in clips:
        size = "x".join(map(str, clip.latents.shape[1:]))
        assert all(key.startswith(size) for key in clip.keys)
        assert clip.prompts == clip.keys
        found += list(zip(clip.epochs or [], clip.keys, strict=True))
    return found


def test_the_largest_clips_come_first_and_stand_for_the_data_set(root: Path) -> None:
    clips = ClipSource(str(root)).open()
    assert clips.spec.latent_shape == (2, 5, 2, 4)
    assert set(clips.spec.latent_shapes) == set(SHAPES)
    assert len(clips.train) == 21
    assert len({clips.train.key(sample) for sample in range(21)}) == 21
    assert clips.describe()["samples"] == 21
    assert clips.describe()["shards"] == 3 + 2 + 1


@pytest.mark.parametrize(("batch", "world"), [(1, 1), (3, 1), (2, 3), (4, 2)])
def test_every_sample_comes_once_an_epoch_over_any_ranks(reader: BatchReader, batch: int, world: int) -> None:
    steps = 3 * 21 // (batch * world) + 2 * world
    ranks = [list(itertools.islice(TrainLoader(reader, batch, 1, rank, world), steps)) for rank in range(world)]
    for step in zip(*ranks, strict=True):
        assert len({clip.latents.shape for clip in step}) == 1  # all ranks have clips of one size
    counts = Counter(pair for clips in ranks for pair in seen(clips))
    assert set(counts.values()) == {1}
    for key in (reader.clips.key(sample) for sample in range(21)):
        epochs = sorted(epoch for epoch, other in counts if other == key)
        assert epochs == list(range(len(epochs)))
        assert 2 <= len(epochs) <= 5


@pytest.mark.parametrize("stop", [0, 1, 4, 7])
def test_the_order_goes_on_where_it_was_at_another_world_size(reader: BatchReader, stop: int) -> None:
    loaders = [TrainLoader(reader, 2, 5, rank, 2, read_ahead=2) for rank in range(2)]
    before = [pair for loader in loaders for pair in seen(list(itertools.islice(loader, stop)))]
    same = TrainLoader(reader, 4, 5)
    same.load_state_dict(json.loads(json.dumps(loaders[0].state_dict())))
    after = seen(list(itertools.islice(same, 16 - stop)))
    whole = seen(list(itertools.islice(TrainLoader(reader, 4, 5), 16)))
    assert Counter(before + after) == Counter(whole)


def test_buckets_take_turns_in_proportion() -> None:
    sizes, positions = [60, 30, 10], [0, 0, 0]
    for _ in range(100):
        positions[next_bucket(positions, sizes)] += 1
    assert positions == sizes
    for _ in range(500):
        positions[next_bucket(positions, sizes)] += 4
        shares = [position / size for position, size in zip(positions, sizes, strict=True)]
        assert max(shares) - min(shares) <= 4 / min(sizes)


def test_held_out_clips_come_once_a_level_one_size_after_the_other(root: Path) -> None:
    val = ClipSource(str(root)).open().val
    found = [
        (key, int(level))
        for rank in range(2)
        for clip in EvalLoader(BatchReader(val), 4, 2, rank=rank, world_size=2)
        for key, level in zip(clip.keys, clip.level, strict=True)
    ]
    assert sorted(found) == sorted((val.key(sample), level) for sample in range(9) for level in (1, 2))


def test_saved_positions_of_other_buckets_are_spread_and_told(
    reader: BatchReader, caplog: pytest.LogCaptureFixture
) -> None:
    loader = TrainLoader(reader, 2)
    loader.load_state_dict({"position": 42, "num_samples": 21, "seed": 0})
    assert "3 clip sizes, not 1 as before" in caplog.text
    assert loader.state_dict()["position"] == [2 * len(rows) for rows in reader.clips.buckets]


def test_a_bucket_that_is_smaller_than_a_batch_is_told(reader: BatchReader, caplog: pytest.LogCaptureFixture) -> None:
    TrainLoader(reader, 5)
    assert "4 clips of 2x3x2x4 are fewer than a batch" in caplog.text
    assert "6 clips" not in caplog.text


def test_a_subset_keeps_the_sizes(reader: BatchReader) -> None:
    few = reader.clips.subset([0, 12, 13])
    assert [few.key(sample) for sample in range(3)] == [reader.clips.key(sample) for sample in (0, 12, 13)]
    assert [len(rows) for rows in few.buckets] == [1, 2]


def test_data_that_differ_in_more_than_their_size_are_refused(root: Path) -> None:
    parts = [ShardDataset(folder) for folder in sorted((root / "train").iterdir()) if folder.is_dir()]
    parts[0].metadata = replace(parts[0].metadata, latents_std=[2.0, 2.0])
    with pytest.raises(BadValue, match=r"latents_std=\[2\.0, 2\.0\]: expected \[1\.0, 1\.0\] in .* as in"):
        MixedDataset(parts)


def test_held_out_clips_of_a_size_that_training_lacks_are_refused(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "train", {(2, 5, 2, 4): 2, (2, 3, 2, 4): 2})
    write(tmp_path / "val", {(2, 5, 4, 2): 2})
    with pytest.raises(BadValue, match=r"train and val of one shape.*: set cut\.held_out_videos or cut\.buckets"):
        ClipSource(str(tmp_path)).open()


@pytest.mark.parametrize("content", [b"", b'["2x5', b"3", b'{"a": 1}', b"[3]", b'["../val"]', b"\xff"])
def test_a_damaged_list_of_sizes_is_refused_by_its_file(tmp_path, content):
    write(tmp_path / "train", {(2, 5, 2, 4): 1})
    (tmp_path / "train" / "buckets.json").write_bytes(content)
    with pytest.raises(BadValue, match=r"^root=.*buckets.json: expected a "):
        ClipSource(str(tmp_path)).validate()
