"""Flipped bits and truncated shards: always reported, and in the same way by every reader."""

import logging
import random
import re
from pathlib import Path

import pytest
import torch

from interp_refiner.data import BadSample, BatchReader, EvalLoader, ShardDataset, verify
from interp_refiner.data.shards import LocalFolder, Sample, write_shards
from tests.data.shards_on_disk import METADATA, samples

SHARD = "shard-00000.tar"
LONG = "a-name-as-long-as-those-of-downloaded-videos-are" * 3
KEYS = ["clip-0000", f"{LONG}-0001", "ключ-0002", "clip-0003"]  # of the three ways in which a tar has names
NAMED = re.compile(rf"{SHARD}: .*({'|'.join(KEYS)}|header at byte 0|truncated: no end-of-archive mark)")
COUNTED = re.compile("declares|num_samples")


def by_verify(root: Path) -> tuple[int, set[str]]:
    """How many samples are whole, and the faults but for that of the count, which names no shard."""
    report = verify(LocalFolder(root), threads=1)
    faults = {str(BadSample(fault.shard, fault.key, fault.reason)) for fault in report.faults}
    return report.whole, {fault for fault in faults if not COUNTED.search(fault)}


def one_by_one(root: Path, rng: random.Random, written: dict[str, Sample]) -> tuple[int, set[str], int]:
    """Samples read, faults met, and samples that came otherwise than written, by a reader that skips, in any order."""
    dataset = ShardDataset(root, on_bad_sample="skip", min_samples=0, checksums=True)
    faults = {*map(str, dataset.index.damaged_shards()), *map(str, dataset.index.faults(dataset.required).values())}
    partial, whole = 0, 0
    for number in rng.sample(range(len(dataset)), len(dataset)):
        try:
            got = dataset[number]
        except BadSample as fault:
            faults.add(str(fault))
            continue
        put, whole = written.get(got.key), whole + 1
        partial += put is None or not (
            torch.equal(got.latents, put.latents) and torch.equal(got.text, put.text) and got.prompt == put.prompt
        )
    return whole, faults, partial


def in_batches(root: Path) -> int:
    """How many samples come by the loader, whose threads read them into one batch."""
    dataset = ShardDataset(root, on_bad_sample="skip", min_samples=0, checksums=True)
    return sum(len(clip.keys) for clip in EvalLoader(BatchReader(dataset, threads=1), 2)) if len(dataset) else 0


def stops(root: Path) -> bool:
    """Whether a reader that skips nothing stops, by the fault and nothing else."""
    try:
        dataset = ShardDataset(root, checksums=True)
        for sample in range(len(dataset)):
            dataset[sample]
    except BadSample:
        return True
    return False


def fuzz(folder: Path, flips: int, cuts: int, seed: int) -> dict[str, int]:
    """Damages a shard in many places, one at a time; counts what went wrong in telling it."""
    root, rng = folder / "set", random.Random(seed)
    written = {
        key: Sample(key, s.latents.bfloat16(), s.text.bfloat16(), s.prompt)
        for key, s in zip(KEYS, samples(len(KEYS)), strict=True)
    }
    write_shards(root, written.values(), METADATA)
    path, sound = root / SHARD, (root / SHARD).read_bytes()
    assert by_verify(root) == one_by_one(root, rng, written)[:2] == (len(KEYS), set())
    assert not stops(root)
    counts = dict.fromkeys(("silent", "unnamed", "partial", "contradicting"), 0)
    for number in range(flips + cuts):
        content = bytearray(sound)
        if number < flips:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        whole, faults = by_verify(root)
        *read, partial = one_by_one(root, rng, written)
        counts["silent"] += not faults or not stops(root)
        counts["unnamed"] += not all(map(NAMED.match, faults))
        counts["partial"] += partial
        counts["contradicting"] += (whole, faults) != tuple(read) or (number % 5 == 0 and in_batches(root) != whole)
    return counts


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of warnings are the point, not worth reading."""
    logger = logging.getLogger("interp_refiner.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


NOTHING = {"silent": 0, "unnamed": 0, "partial": 0, "contradicting": 0}


def test_damage_anywhere_is_named_alike_by_every_way_of_reading(tmp_path):
    assert fuzz(tmp_path, 40, 10, seed=0) == NOTHING


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_damaged_shards(tmp_path, seed):
    assert fuzz(tmp_path, 1000, 250, seed) == NOTHING
